package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// machine is the model the store is held against: what each worker believes to
// hold, and the last state seen of each job.
type machine struct {
	f      *fixture
	jobs   []nexus.JobID
	last   map[nexus.JobID]nexus.State
	leases map[nexus.JobID][]*store.Lease // all ever taken, the newest last
}

var sites = []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost"}

func (m *machine) submit(t *rapid.T) {
	sub := submission(rapid.SampledFrom(sites).Draw(t, "site"))
	if rapid.Bool().Draw(t, "teardown") {
		sub.Kind, sub.Input = nexus.KindTeardown, ""
	}
	if job, _, err := m.f.Submit(context.Background(), sub); err == nil {
		m.jobs = append(m.jobs, job.ID)
	} else if code := nexus.CodeOf(err); code != nexus.Conflict && code != nexus.NotFound {
		t.Fatal(err)
	}
}

func (m *machine) pick(t *rapid.T) nexus.Job {
	if len(m.jobs) == 0 {
		t.Skip("no job yet")
	}
	job, err := m.f.Job(context.Background(), rapid.SampledFrom(m.jobs).Draw(t, "job"))
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (m *machine) take(t *rapid.T) {
	job := m.pick(t)
	lease, _, taken, err := m.f.Take(context.Background(), job.ID, job.Dispatch)
	if err != nil {
		t.Fatal(err)
	}
	if taken == store.TakeOK {
		m.leases[job.ID] = append(m.leases[job.ID], lease)
	}
}

// write does something under a lease, be it the newest or one long lost: only
// the newest may succeed.
func (m *machine) write(t *rapid.T) {
	job := m.pick(t)
	all := m.leases[job.ID]
	if len(all) == 0 {
		t.Skip("never taken")
	}
	i := rapid.IntRange(0, len(all)-1).Draw(t, "lease")
	ctx, lease := context.Background(), all[i]
	var err error
	switch rapid.SampledFrom([]string{"renew", "reserve", "wait", "give up", "roll back", "finish", "park"}).Draw(t, "write") {
	case "renew":
		_, err = lease.Renew(ctx)
	case "reserve":
		err = lease.Reserve(ctx, "main", "nx1")
	case "wait":
		if job.State == nexus.Running {
			job.State = nexus.Waiting
		}
		err = lease.Wait(ctx, &job, 7*time.Second, nexus.Event{})
	case "give up":
		err = lease.GiveUp(ctx)
	case "roll back":
		if job.To(nexus.RollingBack) == nil {
			_, err = lease.Checkpoint(ctx, &job, "one", nexus.Event{})
		}
	case "finish":
		next := nexus.Succeeded
		if job.State == nexus.RollingBack {
			next = nexus.Failed
		}
		if job.To(next) == nil {
			err = lease.Finish(ctx, &job, "", nexus.Event{})
		}
	case "park":
		if job.State == nexus.RollingBack && job.To(nexus.RollbackFailed) == nil {
			err = lease.Finish(ctx, &job, "", nexus.Event{})
		}
	}
	stale := errors.Is(err, nexus.ErrFenced)
	if stale && lease.Gen() == job.Gen && !m.last[job.ID].Terminal() && m.last[job.ID] != nexus.RollbackFailed {
		t.Fatalf("the newest lease was fenced: %v", err)
	}
	if !stale && lease.Gen() != job.Gen && m.changed(job.ID) {
		t.Fatal("an old lease wrote")
	}
}

func (m *machine) changed(id nexus.JobID) bool {
	job, err := m.f.Job(context.Background(), id)
	return err == nil && job.State != m.last[id]
}

// check holds what must be true after every operation.
func (m *machine) check(t *rapid.T) {
	ctx := context.Background()
	live := map[nexus.SiteName]int{}
	for _, id := range m.jobs {
		job, err := m.f.Job(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if was := m.last[id]; was != "" && !reachable(was, job.State) {
			t.Fatalf("from %s to %s there is no way in the table", was, job.State)
		}
		m.last[id] = job.State
		_, dueErr := m.f.rdb.ZScore(ctx, "{nexus}:due", string(id)).Result()
		over := job.State.Terminal() || job.State == nexus.RollbackFailed
		if over != (dueErr != nil) {
			t.Fatalf("%s job, in the due index: %t", job.State, dueErr == nil)
		}
		ttl := m.f.rdb.PTTL(ctx, "{nexus}:job:"+string(id)).Val()
		if (ttl > 0) != job.State.Terminal() {
			t.Fatalf("%s job has a time to live of %s", job.State, ttl)
		}
		if !job.State.Terminal() {
			live[job.Site]++
			if tenant, err := m.f.Tenant(ctx, job.Site); err != nil || tenant.Job != id {
				t.Fatalf("the row of a live job's tenant: %+v, %v", tenant, err)
			}
		}
	}
	for site, n := range live {
		if n > 1 {
			t.Fatalf("%d live jobs on %s", n, site)
		}
	}
	if n := m.f.rdb.ZCard(ctx, "{nexus}:slots:main").Val(); n > 3 {
		t.Fatalf("%d slots taken of two and one", n)
	}
}

// reachable tells whether the table has a way, of any length, between two states.
func reachable(from, to nexus.State) bool {
	seen := []nexus.State{from}
	for i := 0; i < len(seen); i++ {
		if seen[i] == to {
			return true
		}
		for _, next := range seen[i].Next() {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
			}
		}
	}
	return false
}

// TestModel plays random operations of several workers, clients and the clock.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		f := newMini(t)
		defer func() { _ = f.rdb.Close() }()
		m := &machine{f: f, last: map[nexus.JobID]nexus.State{}, leases: map[nexus.JobID][]*store.Lease{}}
		rt.Repeat(map[string]func(*rapid.T){
			"submit": m.submit, "take": m.take, "write": m.write, "write more": m.write, "": m.check,
			"cancel": func(t *rapid.T) { _, _ = f.Cancel(context.Background(), m.pick(t).ID, "op") },
			"resume": func(t *rapid.T) { _, _ = f.Resume(context.Background(), m.pick(t).ID, "op") },
			"tick":   func(t *rapid.T) { f.tick(t) },
			"clock":  func(t *rapid.T) { f.advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second) },
		})
	})
}
