package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestListensWhileSomebodyWatches: a process subscribes when somebody watches a job. A
// change from before the subscription, which sent no message, is seen at once.
func TestListensWhileSomebodyWatches(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, submission("acme.localhost"))
		var all sync.WaitGroup
		t.Cleanup(all.Wait) // after the end of t's context
		watching := make(chan nexus.Job, 1)
		all.Go(func() {
			got, _ := f.Watch(t.Context(), job.ID, job.Rev, store.Patience{})
			watching <- got
		})
		until(t, "the job is watched", func() bool { return f.WatchedJobs() == 1 })
		f.take(t, job.ID)
		all.Go(func() { _ = f.Listen(t.Context()) })
		select {
		case got := <-watching:
			if got.Rev == job.Rev {
				t.Errorf("still at rev %d", got.Rev)
			}
		case <-time.After(10 * time.Second): // Watch itself looks again after 15 s
			t.Error("the change was not seen")
		}
	})
}

// TestListensForNobody: a subscription that nobody needs any more ends, and the next
// watcher gets one again.
func TestListensForNobody(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.SetIdle(time.Millisecond)
		id := f.submit(t, submission("acme.localhost")).ID
		var all sync.WaitGroup
		t.Cleanup(all.Wait) // after the end of t's context
		all.Go(func() { _ = f.Listen(t.Context()) })
		for range 2 {
			watching, leave := context.WithCancel(t.Context())
			all.Go(func() { _, _ = f.Watch(watching, id, -1, store.Patience{}) })
			until(t, "there is a subscription", func() bool { return f.subscriptions(t) == 1 })
			leave()
			until(t, "there is none", func() bool { return f.subscriptions(t) == 0 })
		}
	})
}

func (f *fixture) subscriptions(t *testing.T) int64 {
	t.Helper()
	return f.rdb.PubSubNumSub(t.Context(), "{nexus}:wake").Val()["{nexus}:wake"]
}
