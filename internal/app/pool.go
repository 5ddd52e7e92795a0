package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

const (
	// tendEvery is how often a worker looks at the shelves of its bench.
	tendEvery = time.Second
	// manyDetours is how many standbys of a shelf may be unusable for signups until bench and
	// registry are compared at once, not within a minute.
	manyDetours = 3
	// dropsTake is how long one look drops standbys; the next look drops the others.
	dropsTake = 5 * time.Second
	// dropAgain is how long a standby that is being dropped is left to the worker that began.
	dropAgain = time.Minute
)

// poolActor is the actor of the jobs that make standbys.
const poolActor = "pool"

// pool keeps the shelves of a bench: it has standbys made, drops those that no signup is to
// get any more, and compares the shelves with the bench. Every worker has one. Two that act
// at once do no harm: the script that records a job counts the standbys of its shelf, a
// standby is taken from the shelf before it is dropped, and its removal is idempotent.
type pool struct {
	tools
	log      *slog.Logger
	limits   tasks.ShelfLimits
	compared time.Time              // last
	doubt    bool                   // signups could not use their standbys: compare at once
	able     bool                   // the bench has said that it can hold standbys
	stocked  bool                   // shelves had standbys when they were read last
	suspect  map[nexus.JobID]string // standbys with a problem, by the problem that they had the last time
}

func newPool(t tools, log *slog.Logger) *pool {
	limits, _ := t.c.shelfLimits() // Load has checked it
	return &pool{tools: t, log: log, limits: limits, suspect: map[nexus.JobID]string{}}
}

// keepPool keeps the shelves of the bench until the context ends. After an error the next
// look comes later, so that a bench or a registry that is away is not asked all the time.
func (a *app) keepPool(ctx context.Context, t tools) error {
	if a.c.single() { // users of the master site are not copied
		return nil
	}
	p := newPool(t, a.log)
	var repeats nexus.Repeats
	for wait := tendEvery; ; {
		if err := p.round(ctx); err == nil {
			wait = tendEvery
		} else if ctx.Err() == nil {
			repeats.Log(ctx, a.log, slog.LevelWarn, "pool", "standbys of the bench not kept", nexus.LogErr, err)
			wait = min(2*wait, listEvery)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// round compares shelves and bench if it is time, and looks at the shelves.
func (p *pool) round(ctx context.Context) error {
	var err error
	if p.doubt && p.able || time.Since(p.compared) >= listEvery {
		p.compared = time.Now()
		err = p.compare(ctx)
	}
	return errors.Join(err, p.tend(ctx))
}

// kept are the templates whose copies this worker keeps, by key of the shelf.
func (p *pool) kept() map[string]nexus.Template {
	list := p.listed.Load()
	if list == nil || p.limits.Most == 0 {
		return nil
	}
	all := nexus.NewestTemplates(*list)
	maps.DeleteFunc(all, func(_ string, t nexus.Template) bool { return !slices.Equal(t.Apps, p.c.Apps) })
	return all
}

// tend makes and drops standbys so that each shelf holds as many as it is to hold. If it
// knows of no template and no standby, it reads nothing.
func (p *pool) tend(ctx context.Context) error {
	kept := p.kept()
	if len(kept) == 0 && !p.stocked {
		return nil
	}
	shelves, err := p.shelves(ctx)
	if err != nil {
		return err
	}
	for key := range kept {
		if !slices.ContainsFunc(shelves, func(s nexus.Shelf) bool { return s.Key == key }) {
			shelves = append(shelves, nexus.Shelf{Bench: p.name, Key: key})
		}
	}
	var drop []nexus.ShelfStandby
	work := map[string]tasks.ShelfWork{}
	for _, shelf := range shelves {
		size := 0
		template, keeps := kept[shelf.Key]
		if keeps {
			limits := p.limits
			limits.Bytes, limits.Each = limits.Bytes/int64(len(kept)), template.Bytes
			shelf.AtLeast = min(shelf.AtLeast, limits.Room())
			if size = tasks.Size(shelf.Demand, limits); !shelf.Kept || shelf.Target != size {
				if err := p.store.SetTarget(ctx, p.name, shelf.Key, size); err != nil {
					return err
				}
			}
		}
		w := tasks.ShelfWorkOf(shelf, size)
		if drop = append(drop, w.Drop...); w.Make > 0 && keeps {
			work[shelf.Key] = w
		}
	}
	if len(drop)+len(work) == 0 || !p.able {
		return nil
	}
	if mode, err := p.mode(ctx); err != nil || mode != nexus.BenchOpen {
		return err
	}
	for _, shelf := range shelves {
		if err := p.make(ctx, shelf, kept[shelf.Key], work[shelf.Key].Make); err != nil {
			return err
		}
	}
	return p.dropAll(ctx, drop)
}

// shelves reads the shelves, and notes what they have.
func (p *pool) shelves(ctx context.Context) ([]nexus.Shelf, error) {
	shelves, err := p.store.Shelves(ctx, p.name)
	if err != nil {
		return nil, err
	}
	p.stocked = false
	for _, shelf := range shelves {
		p.stocked = p.stocked || len(shelf.Standbys) > 0
		p.doubt = p.doubt || shelf.Detours >= manyDetours
	}
	return shelves, nil
}

// make submits jobs that make standbys for a shelf.
func (p *pool) make(ctx context.Context, shelf nexus.Shelf, template nexus.Template, count int) error {
	most := shelf.Count(nexus.StandbyMaking) + shelf.Count(nexus.StandbyShelved) + count
	for range count {
		sub := store.MakeStandby(p.name, template, p.install, most, tasks.Steps(nexus.KindStandby), p.c.ProvisionTimeout)
		sub.Actor = poolActor
		_, _, err := p.store.Submit(ctx, sub)
		if nexus.CodeOf(err) == nexus.Conflict { // another worker was faster
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropAll drops standbys for a while.
func (p *pool) dropAll(ctx context.Context, all []nexus.ShelfStandby) error {
	began := time.Now()
	for _, each := range all {
		if err := p.drop(ctx, each); err != nil {
			return err
		}
		if time.Since(began) > dropsTake {
			break
		}
	}
	return nil
}

// drop takes a standby from its shelf and removes it from the bench. One worker does it, and
// the next one not within a minute.
func (p *pool) drop(ctx context.Context, standby nexus.ShelfStandby) error {
	mine, err := p.store.Turn(ctx, "reap:"+string(standby.Job), dropAgain)
	if err != nil || !mine {
		return err
	}
	switch err := p.dropStandby(ctx, standby.Job, standby.DB); nexus.CodeOf(err) {
	case "":
		p.log.InfoContext(ctx, "standby dropped", nexus.LogJob, string(standby.Job))
	case nexus.Conflict: // a job has it now
	default:
		return err
	}
	return nil
}

// dropStandby takes a standby from its shelf, removes it from the bench, and forgets it. If a
// signup has got its database, nothing is removed. Conflict: a job has it now.
func (t tools) dropStandby(ctx context.Context, id nexus.JobID, db string) error {
	reap := func() error { return t.store.Reap(ctx, id) }
	err := reap()
	if err == nil {
		err = t.fencedWhile(ctx, reap, func(gen nexus.Gen) error {
			_, err := t.bench.Run(ctx, nexus.Op{Site: nexus.StandbyName(id), Room: nexus.RoomStandby, DB: db, Owner: id,
				Gen: gen, Submitted: gen, Args: nexus.DropSite{}})
			return err
		})
	}
	if err != nil {
		return err
	}
	return t.store.Reaped(ctx, id)
}
