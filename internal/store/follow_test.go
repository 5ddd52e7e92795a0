package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// failing fails the pipelines of a client while it is armed.
type failing struct {
	noHook
	armed atomic.Bool
}

func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if f.armed.Load() {
			return errors.New("the connection was lost")
		}
		return next(ctx, cmds)
	}
}

// stay makes a watcher that stays until the end of the test.
func (f *fixture) stay(t *testing.T, id nexus.JobID, rev int64) {
	t.Helper()
	var all sync.WaitGroup
	t.Cleanup(all.Wait) // after the end of t's context
	all.Go(func() { _, _, _ = f.Follow(t.Context(), id, rev, store.Patience{}) })
	until(t, "the job is watched", func() bool { return f.WatchedJobs() == 1 })
	if _, _, err := f.once(t, id, rev); err != nil { // waits until that watcher has read
		t.Fatal(err)
	}
}

// once looks as a watcher does, without waiting.
func (f *fixture) once(t *testing.T, id nexus.JobID, rev int64) (*nexus.Job, []nexus.Event, error) {
	t.Helper()
	return f.Follow(t.Context(), id, rev, store.Patience{For: time.Nanosecond})
}

// TestWatchKnowsNoLess: a watcher that has seen a change is not told the state before it,
// which another watcher has read and which no wake-up has outdated yet.
func TestWatchKnowsNoLess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, submission("acme.localhost"))
		f.stay(t, job.ID, job.Rev)
		_, now := f.take(t, job.ID)
		got, events, err := f.once(t, job.ID, now.Rev)
		if err != nil {
			t.Fatal(err)
		}
		if got.Rev != now.Rev || len(events) > 0 {
			t.Errorf("at rev %d it gets rev %d and %d events", now.Rev, got.Rev, len(events))
		}
	})
}

// TestWatchAfterLostWrites: Redis lost its last writes in a failover, during which a read
// failed. Watchers get no event that was lost, and each that comes afterwards.
func TestWatchAfterLostWrites(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		faults := &failing{}
		f.rdb.AddHook(faults)
		job := f.submit(t, submission("acme.localhost"))
		record, events := "{nexus}:job:"+string(job.ID), "{nexus}:events:"+string(job.ID)
		fields, first := f.rdb.HGetAll(t.Context(), record).Val(), f.rdb.XRange(t.Context(), events, "-", "+").Val()
		f.stay(t, job.ID, job.Rev)
		lease, lost := f.take(t, job.ID)
		if _, err := lease.Checkpoint(t.Context(), &lost, "", nexus.Event{Step: "one", Note: "lost"}); err != nil {
			t.Fatal(err)
		}
		if _, told, err := f.once(t, job.ID, lost.Rev); err != nil || len(told) != 0 {
			t.Fatalf("%+v, %v", told, err)
		}
		faults.armed.Store(true)
		if _, _, err := f.once(t, job.ID, lost.Rev+1); err == nil {
			t.Fatal("the read did not fail")
		}
		faults.armed.Store(false)
		f.rdb.Del(t.Context(), record, events)
		f.rdb.HSet(t.Context(), record, fields)
		f.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: events, ID: first[0].ID, Values: first[0].Values})
		if got, told, err := f.once(t, job.ID, job.Rev); err != nil || got.Rev != job.Rev || len(told) != 0 {
			t.Errorf("rev %d, %+v, %v", got.Rev, told, err)
		}
		f.take(t, job.ID)
		if got, told, err := f.once(t, job.ID, job.Rev+1); err != nil || got.Rev != job.Rev+1 || len(told) != 0 {
			t.Errorf("then rev %d, %+v, %v", got.Rev, told, err)
		}
		if _, told, err := f.once(t, job.ID, job.Rev); err != nil || len(told) != 1 || told[0].Rev != job.Rev+1 || told[0].State != nexus.Running {
			t.Errorf("and of the take %+v, %v", told, err)
		}
	})
}
