package app

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// compare compares the shelves with the standbys of the bench: what the registry does not
// know is put on its shelf, and what no signup is to get any more is taken from it, or
// dropped if it is on none. It acts on an open bench only.
func (p *pool) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !p.able { // a bench that is set up stays so
		able, err := p.tools.able(ctx, poolSchema)
		if p.able = able; err != nil || !able {
			return err
		}
	}
	shelves, err := p.shelves(ctx)
	if err == nil {
		err = p.settle(ctx, shelves)
	}
	if err != nil {
		return err
	}
	p.doubt = false
	live := map[nexus.JobID]bool{}
	if err := p.look(ctx, live, shelfJobs(shelves)); err != nil { // before the bench lists, since a job may end meanwhile
		return err
	}
	listed, known, err := p.standbys(ctx)
	if err != nil || !known {
		return err
	}
	p.shelved.Store(&listed)
	if err := p.look(ctx, live, standbyJobs(listed)); err != nil {
		return err
	}
	if mode, err := p.mode(ctx); err != nil || mode != nexus.BenchOpen {
		return err
	}
	reshelve, drop := tasks.CompareShelves(listed, shelves, func(id nexus.JobID) bool { return live[id] })
	for _, each := range reshelve {
		if err := p.store.Reshelve(ctx, p.name, each); err != nil {
			return err
		}
		p.log.InfoContext(ctx, "standby shelved again", nexus.LogJob, string(each.Job))
	}
	return p.take(ctx, drop, shelves)
}

// settle ends the count of detours, and leaves the shelves that this worker does not keep:
// its limit is zero, or there is no template of that key any more.
func (p *pool) settle(ctx context.Context, shelves []nexus.Shelf) error {
	list := p.listed.Load()
	for _, shelf := range shelves {
		if shelf.Detours > 0 {
			if err := p.store.ForgiveDetours(ctx, p.name, shelf.Key); err != nil {
				return err
			}
		}
		none := list != nil && !slices.ContainsFunc(*list, func(t nexus.Template) bool { return t.Spec.Key(t.Apps) == shelf.Key })
		if shelf.Kept && (p.limits.Most == 0 || none) {
			if err := p.store.LeaveShelf(ctx, p.name, shelf.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes standbys from their shelves; tend drops them then. Those that are on none are
// dropped. One with a problem is left alone until it has the same problem in the next round:
// an upgrade of the bench that is under way may still be taken back.
func (p *pool) take(ctx context.Context, all []nexus.Standby, shelves []nexus.Shelf) error {
	states := map[nexus.JobID]nexus.StandbyState{}
	for _, shelf := range shelves {
		for _, each := range shelf.Standbys {
			states[each.Job] = each.State
		}
	}
	before := p.suspect
	p.suspect = map[nexus.JobID]string{}
	var unknown []nexus.ShelfStandby
	for _, each := range all {
		state := states[each.Job]
		if each.Problem != "" && (state == "" || state == nexus.StandbyShelved) {
			problem, seen := before[each.Job]
			if p.suspect[each.Job] = each.Problem; !seen || problem != each.Problem {
				continue
			}
		}
		switch {
		case each.DB != each.Job.Database(p.install): // the doctor tells of it
		case state == "":
			unknown = append(unknown, nexus.ShelfStandby{Job: each.Job, DB: each.DB})
		default:
			if err := p.store.Reap(ctx, each.Job); err != nil && nexus.CodeOf(err) != nexus.Conflict { // a job has it now
				return err
			}
		}
	}
	return p.dropAll(ctx, unknown)
}

// look adds which of these jobs are not over, unless it is known.
func (p *pool) look(ctx context.Context, live map[nexus.JobID]bool, ids []nexus.JobID) error {
	ids = slices.DeleteFunc(ids, func(id nexus.JobID) bool {
		_, known := live[id]
		return known || id == ""
	})
	jobs, _, err := p.store.JobsByID(ctx, ids)
	for _, id := range ids {
		job, found := jobs[id]
		live[id] = found && !job.State.Terminal()
	}
	return err
}

func shelfJobs(shelves []nexus.Shelf) (ids []nexus.JobID) {
	for _, shelf := range shelves {
		for _, each := range shelf.Standbys {
			ids = append(ids, each.Job, each.Taker)
		}
	}
	return ids
}

func standbyJobs(listed []nexus.Standby) (ids []nexus.JobID) {
	for _, each := range listed {
		ids = append(ids, each.Job)
	}
	return ids
}

// standbys lists the bench's standbys. Known is false if the bench has no such operation: a
// single site, or a bench of a former version.
func (t tools) standbys(ctx context.Context) (list []nexus.Standby, known bool, err error) {
	if t.c.single() {
		return nil, false, nil
	}
	result, err := t.bench.Run(ctx, nexus.Op{Args: nexus.Standbys{}})
	if nexus.CodeOf(err) == nexus.Invalid {
		return nil, false, nil
	}
	return result.Standbys, err == nil, err
}
