package store_test

import (
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

func exit(code int) { os.Exit(code) }

func TestSubmit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		sub := submission("acme.localhost")
		sub.IdempotencyKey, sub.Fingerprints = "jane@example.com/once", []string{"k2=aa", "k1=bb"}
		job := f.submit(t, sub)
		if job.State != nexus.Queued || job.Rev != 1 || job.Dispatch != 1 || job.Owner != job.ID || len(job.Steps) != 2 ||
			job.GiveUpAt.Sub(job.CreatedAt) != 24*time.Hour {
			t.Fatalf("recorded %+v", job)
		}
		before := f.dump(t)

		again := sub
		again.ID, again.Fingerprints = nexus.NewJobID(), []string{"k3=cc", "k2=aa"} // the sealing keys were rotated meanwhile
		same, replay, err := f.Submit(t.Context(), again)
		if err != nil || !replay || same.ID != job.ID {
			t.Fatalf("replay: %t, %s, %v", replay, same.ID, err)
		}
		again.Fingerprints = []string{"k2=other"}
		if _, _, err = f.Submit(t.Context(), again); !errors.Is(err, store.ErrKeyReused) {
			t.Fatalf("another body under the key: %v", err)
		}
		_, _, err = f.Submit(t.Context(), submission("acme.localhost"))
		wantCode(t, err, nexus.Conflict)
		down := submission("nobody.localhost")
		down.Kind = nexus.KindTeardown
		_, _, err = f.Submit(t.Context(), down)
		wantCode(t, err, nexus.NotFound)
		down.Site = "acme.localhost" // its provision is not over
		_, _, err = f.Submit(t.Context(), down)
		wantCode(t, err, nexus.Conflict)
		if diff := cmp.Diff(before, f.dump(t)); diff != "" {
			t.Fatalf("a refusal or replay stored something:\n%s", diff)
		}
	})
}

func TestLeaseFences(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		old, job := f.take(t, id)
		if _, _, taken, _ := f.Take(t.Context(), id, 1, nil); taken != store.TakeStale {
			t.Fatalf("one dispatch taken twice: %q", taken)
		}
		f.advance(store.LeaseTime + time.Second)
		if _, err := old.Renew(t.Context()); err != nil {
			t.Fatalf("a late renewal is fine while nobody else came: %v", err)
		}
		f.advance(store.LeaseTime + time.Second)
		f.tick(t)
		fresh, rescued := f.take(t, id)
		if rescued.Dispatch != 2 || rescued.Rescues != 1 || fresh.Gen() <= old.Gen() {
			t.Fatalf("rescued as %+v, gen %d after %d", rescued, fresh.Gen(), old.Gen())
		}
		before := f.dump(t)
		event := nexus.Event{Note: "late"}
		job.State = nexus.Succeeded
		_, renewErr := old.Renew(t.Context())
		_, pointErr := old.Checkpoint(t.Context(), &job, "one", event)
		_, _, sealErr := old.Seal(t.Context(), &job, "one", "late", event)
		for name, err := range map[string]error{"renew": renewErr, "checkpoint": pointErr, "seal": sealErr,
			"wait": old.Wait(t.Context(), &job, 0, event), "give up": old.GiveUp(t.Context()),
			"reserve": old.Slot(t.Context(), "b", "nx1"), "finish": old.Finish(t.Context(), &job, "", event),
			"raise": old.Raise(t.Context(), 1), "divert": func() error { _, err := old.Divert(t.Context(), "nx1"); return err }()} {
			if !errors.Is(err, nexus.ErrFenced) {
				t.Errorf("%s with a stale token: %v", name, err)
			}
		}
		if diff := cmp.Diff(before, f.dump(t)); diff != "" {
			t.Fatalf("a stale token wrote:\n%s", diff)
		}
	})
}

func TestGenNeverGoesBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		lease, _ := f.take(t, f.submit(t, submission("a.localhost")).ID)
		seen := lease.Gen() + 5_000_000 // the bench has seen a later token than Redis
		if err := lease.Raise(t.Context(), seen); err != nil || lease.Gen() != seen+1 {
			t.Fatalf("raised to %d over %d: %v", lease.Gen(), seen, err)
		}
		other, _ := f.take(t, f.submit(t, submission("b.localhost")).ID)
		if other.Gen() <= lease.Gen() {
			t.Fatalf("%d was minted after %d", other.Gen(), lease.Gen())
		}
	})
}

func TestWaitIsATimer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		lease, job := f.take(t, id)
		job.State, job.WaitingFor, job.WaitNote = nexus.Waiting, nexus.WaitBench, "The bench is away."
		if err := lease.Wait(t.Context(), &job, 30*time.Second, nexus.Event{Step: "one"}); err != nil {
			t.Fatal(err)
		}
		f.advance(20 * time.Second)
		f.tick(t)
		if got := f.job(t, id); got.Dispatch != 1 || got.State != nexus.Waiting || got.WaitingFor != nexus.WaitBench {
			t.Fatalf("woken early: %+v", got)
		}
		f.advance(11 * time.Second)
		f.tick(t)
		_, again := f.take(t, id)
		if again.Dispatch != 2 || again.State != nexus.Running || again.WaitingFor != "" || again.Rescues != 0 {
			t.Fatalf("went on as %+v", again)
		}
	})
}

func TestUntakenDispatchIsDeliveredAgainNotAnew(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		for range 20 { // a long queue: the task stays pending
			f.advance(70 * time.Second)
			f.tick(t)
		}
		if got := f.job(t, id); got.Dispatch != 1 {
			t.Fatalf("a job that waits its turn got %d dispatches", got.Dispatch)
		}
		if n := f.rdb.LLen(t.Context(), "asynq:{provision}:pending").Val(); n != 1 {
			t.Fatalf("%d tasks are pending, want 1", n)
		}
		// asynq loses the task, as after a failover or an operator's delete.
		f.rdb.Del(t.Context(), "asynq:{provision}:pending", "asynq:{provision}:t:"+string(id)+".1")
		f.advance(70 * time.Second)
		f.tick(t)
		if n := f.rdb.LLen(t.Context(), "asynq:{provision}:pending").Val(); n != 1 {
			t.Fatalf("the lost task did not come back: %d pending", n)
		}
	})
}

func TestFinish(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		lease, job := f.take(t, id)
		if err := lease.Slot(t.Context(), "main", "nx1"); err != nil {
			t.Fatal(err)
		}
		_, first, err := lease.Seal(t.Context(), &job, "", "pair one")
		if err != nil {
			t.Fatal(err)
		}
		if _, none, err := lease.Seal(t.Context(), &job, "", ""); err != nil || none != "" {
			t.Fatalf("a checkpoint without a pair: %q, %v", none, err)
		}
		if _, second, _ := lease.Seal(t.Context(), &job, "", "pair two"); first != "pair one" || second != first {
			t.Fatalf("sealed %q, then %q", first, second)
		}
		_, err = f.Credentials(t.Context(), id, "me")
		wantCode(t, err, nexus.Conflict)
		job.State = nexus.Succeeded
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		tenant, err := f.Tenant(t.Context(), "acme.localhost")
		if err != nil || tenant.State != nexus.TenantActive || tenant.DB != "nx1" || tenant.Bench != "main" || tenant.Job != "" {
			t.Fatalf("tenant %+v, %v", tenant, err)
		}
		for range 2 { // the first pick-up may be repeated, another one may not
			if got, err := f.Credentials(t.Context(), id, "me"); err != nil || got != "pair one" {
				t.Fatalf("credentials %q, %v", got, err)
			}
		}
		if _, err = f.Credentials(t.Context(), id, "you"); !errors.Is(err, store.ErrGone) {
			t.Fatalf("a second pick-up: %v", err)
		}
		f.advance(11 * time.Minute)
		if _, err = f.Credentials(t.Context(), id, "me"); !errors.Is(err, store.ErrGone) {
			t.Fatalf("after ten minutes: %v", err)
		}
		if n := f.rdb.Exists(t.Context(), "{nexus}:input:"+string(id)).Val(); n != 0 {
			t.Fatal("the sealed input outlived the job")
		}
		_, err = f.Cancel(t.Context(), id, "op")
		wantCode(t, err, nexus.Conflict)
	})
}

func TestCancelBeatsCommit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		lease, job := f.take(t, id)
		if _, err := f.Cancel(t.Context(), id, "op"); err != nil {
			t.Fatal(err)
		}
		if asked, err := lease.Renew(t.Context()); err != nil || !asked {
			t.Fatalf("renewal says %t, %v", asked, err)
		}
		job.State = nexus.Succeeded
		err := lease.Finish(t.Context(), &job, "", nexus.Event{})
		if !errors.Is(err, nexus.ErrCanceled) {
			t.Fatalf("commit after cancel: %v", err)
		}
		job.State = nexus.RollingBack
		if _, err := lease.Checkpoint(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		job.State = nexus.Canceled
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		if free, _ := f.SiteFree(t.Context(), "acme.localhost"); !free {
			t.Fatal("a canceled job keeps the name")
		}
		f.submit(t, submission("acme.localhost"))
	})
}

func TestCancelBeforeTheStart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		job, err := f.Cancel(t.Context(), id, "op")
		if err != nil || job.State != nexus.Canceled || job.Error == nil || job.Error.Message == "" {
			t.Fatalf("%s, %+v, %v", job.State, job.Error, err)
		}
		if _, _, taken, _ := f.Take(t.Context(), id, 1, nil); taken != store.TakeOver {
			t.Fatalf("its task is still taken: %q", taken)
		}
		if free, _ := f.SiteFree(t.Context(), "acme.localhost"); !free {
			t.Fatal("the name is not free")
		}
	})
}

func TestTeardown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		made := f.submit(t, submission("acme.localhost"))
		lease, job := f.take(t, made.ID)
		_ = lease.Slot(t.Context(), "main", "nx1")
		job.State = nexus.Succeeded
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		down := submission("acme.localhost")
		down.Kind, down.Input = nexus.KindTeardown, ""
		first := f.submit(t, down)
		if first.Owner != made.ID || first.DB != "nx1" || first.Bench != "main" {
			t.Fatalf("teardown knows %+v", first)
		}
		if _, err := f.Cancel(t.Context(), first.ID, "op"); err != nil {
			t.Fatal(err)
		}
		if tenant, _ := f.Tenant(t.Context(), "acme.localhost"); tenant.State != nexus.TenantActive || tenant.Job != "" {
			t.Fatalf("a canceled deletion leaves %+v", tenant)
		}
		down.ID = nexus.NewJobID()
		f.submit(t, down)
		lease, job = f.take(t, down.ID)
		_, err := f.Cancel(t.Context(), down.ID, "op")
		wantCode(t, err, nexus.Conflict)
		job.State = nexus.RollbackFailed
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		if stats, err := f.Stats(t.Context()); err != nil || stats.Parked != 1 {
			t.Errorf("%d jobs are parked, %v", stats.Parked, err)
		}
		if free, _ := f.SiteFree(t.Context(), "acme.localhost"); free {
			t.Fatal("a parked deletion must keep the name")
		}
		resumed, err := f.Resume(t.Context(), down.ID, "op")
		if err != nil || resumed.State != nexus.Running {
			t.Fatalf("resumed as %s, %v", resumed.State, err)
		}
		if stats, err := f.Stats(t.Context()); err != nil || stats.Parked != 0 {
			t.Errorf("%d jobs are parked after it was resumed, %v", stats.Parked, err)
		}
		f.tick(t)
		lease, job = f.take(t, down.ID)
		job.State = nexus.Succeeded
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		_, err = f.Tenant(t.Context(), "acme.localhost")
		wantCode(t, err, nexus.NotFound)
	})
}

func TestAdmissionIsFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		var leases []*store.Lease
		var jobs []nexus.Job
		for _, site := range []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost"} {
			lease, job := f.take(t, f.submit(t, submission(site)).ID)
			leases, jobs = append(leases, lease), append(jobs, job)
			f.advance(time.Millisecond)
		}
		wait := func(i int) {
			jobs[i].State, jobs[i].WaitingFor = nexus.Waiting, nexus.WaitCapacity
			if err := leases[i].Wait(t.Context(), &jobs[i], time.Minute, nexus.Event{}); err != nil {
				t.Fatal(err)
			}
		}
		for i, lease := range leases {
			err := lease.Slot(t.Context(), "main", "nx")
			if full := nexus.CodeOf(err) == nexus.Limit; full != (i >= 2) {
				t.Fatalf("job %d: %v", i, err)
			}
			f.advance(time.Millisecond)
		}
		wait(2)
		wait(3)
		jobs[0].State = nexus.Succeeded
		if err := leases[0].Finish(t.Context(), &jobs[0], "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.tick(t) // the end of a made only c due
		if c, d := f.job(t, jobs[2].ID), f.job(t, jobs[3].ID); c.Dispatch != 2 || d.Dispatch != 1 {
			t.Fatalf("dispatches: c %d, d %d", c.Dispatch, d.Dispatch)
		}
		if err := f.mustLease(t, jobs[2].ID).Slot(t.Context(), "main", "nx"); err != nil {
			t.Fatalf("c has no room: %v", err)
		}
	})
}

func (f *fixture) mustLease(t testing.TB, id nexus.JobID) *store.Lease {
	lease, _ := f.take(t, id)
	return lease
}

func TestLists(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		var want []nexus.JobID
		for _, site := range []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost", "e.localhost"} {
			want = append([]nexus.JobID{f.submit(t, submission(site)).ID}, want...)
			f.advance(2 * time.Millisecond)
		}
		var got []nexus.JobID
		var sites []nexus.SiteName
		for cursor, page := "", 0; page == 0 || cursor != ""; page++ {
			jobs, next, err := f.Jobs(t.Context(), store.JobFilter{Limit: 2, State: nexus.Queued, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, job := range jobs {
				got = append(got, job.ID)
			}
			cursor = next
		}
		for cursor, page := "", 0; page == 0 || cursor != ""; page++ {
			tenants, next, err := f.Tenants(t.Context(), store.TenantFilter{Limit: 2, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, tenant := range tenants {
				sites = append(sites, tenant.Site)
			}
			cursor = next
		}
		slices.Sort(got) // on a real server all five may be of the same millisecond
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("jobs listed once each:\n%s", diff)
		}
		if diff := cmp.Diff([]nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost", "e.localhost"}, sites); diff != "" {
			t.Fatalf("tenants by name:\n%s", diff)
		}
		_, _, err := f.Jobs(t.Context(), store.JobFilter{Cursor: "?"})
		wantCode(t, err, nexus.Invalid)
	})
}

func TestEventsAndWatch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		lease, job := f.take(t, id)
		listening := t.Context()
		var done sync.WaitGroup
		t.Cleanup(done.Wait) // after the end of t's context
		done.Go(func() { _ = f.Listen(listening) })
		seen, rev := make(chan nexus.Job, 1), job.Rev
		done.Go(func() {
			got, _ := f.Watch(listening, id, rev, store.Patience{})
			seen <- got
		})
		job.Steps[0].State = nexus.StepDone
		if _, err := lease.Checkpoint(t.Context(), &job, "one", nexus.Event{Step: "one", StepState: nexus.StepDone, Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got.Rev != job.Rev || got.Steps[0].State != nexus.StepDone {
			t.Fatalf("watched %+v", got)
		}
		events, err := f.Events(t.Context(), id, 0)
		if err != nil || len(events) != 3 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		last := events[2]
		if last.Rev != 3 || last.Step != "one" || last.StepState != nexus.StepDone || last.State != nexus.Running || last.Attempt != 1 {
			t.Fatalf("last event %+v", last)
		}
		if rest, _ := f.Events(t.Context(), id, 2); len(rest) != 1 {
			t.Fatalf("%d events after the second", len(rest))
		}
	})
}
