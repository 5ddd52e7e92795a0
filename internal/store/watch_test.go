package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// counting counts the reads of records.
type counting struct {
	noHook
	reads atomic.Int64
}

func (c *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

func (c *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.count(cmd)
		}
		return next(ctx, cmds)
	}
}

func (c *counting) count(cmd redis.Cmder) {
	if name := cmd.Name(); name == "hgetall" || name == "xrange" {
		c.reads.Add(1)
	}
}

// TestWatchersShareReads: a process reads a change of a job once, however many watchers the
// job has, and each watcher gets every event.
func TestWatchersShareReads(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, submission("acme.localhost"))
		ctx := t.Context()
		var all sync.WaitGroup
		t.Cleanup(all.Wait) // after the end of t's context
		all.Go(func() { _ = f.Listen(ctx) })
		const many, changes = 40, 8
		counts := &counting{}
		f.rdb.AddHook(counts)
		var ready, got sync.WaitGroup
		revs := make([][]int64, many)
		followed := make([]atomic.Int64, many)
		for i := range many {
			ready.Add(1)
			got.Go(func() {
				rev := job.Rev
				for first := true; rev < job.Rev+changes; first = false {
					if first {
						ready.Done()
					}
					now, events, err := f.Follow(ctx, job.ID, rev, store.Patience{})
					if err != nil || ctx.Err() != nil {
						t.Errorf("follow: %v", err)
						return
					}
					for _, e := range events {
						revs[i] = append(revs[i], e.Rev)
						rev = max(rev, e.Rev)
					}
					rev = max(rev, now.Rev)
					followed[i].Store(rev)
				}
			})
		}
		ready.Wait()
		lease, now := f.take(t, job.ID) // the first change of the job
		for n := range changes {
			if n > 0 {
				if _, err := lease.Checkpoint(t.Context(), &now, "", nexus.Event{Step: "one", Percent: n}); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "all follow", func() bool {
				for i := range followed {
					if followed[i].Load() < job.Rev+int64(n)+1 {
						return false
					}
				}
				return true
			})
		}
		got.Wait()
		for i, list := range revs {
			if len(list) != changes {
				t.Errorf("watcher %d got %v", i, list)
			}
		}
		// One record and one range for each change, a few at the start, and the reads of the test.
		if n := counts.reads.Load(); n > 2*many+6*changes {
			t.Errorf("%d watchers of %d changes read %d times", many, changes, n)
		}
	})
}
