package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// pile is the size of a backlog of jobs that nobody has taken.
type pile struct {
	queue []string // asynq's pending tasks, in their order
	other int      // number of asynq's tasks in any other state
	keys  int64    // number of keys in Redis
}

func (f *fixture) pile(t testing.TB) (p pile) {
	t.Helper()
	ctx := t.Context()
	for _, queue := range []string{store.QueueProvision, store.QueueResume} {
		prefix := "asynq:{" + queue + "}:"
		p.queue = append(p.queue, f.rdb.LRange(ctx, prefix+"pending", 0, -1).Val()...)
		p.other += int(f.rdb.LLen(ctx, prefix+"active").Val())
		for _, state := range []string{"scheduled", "retry", "archived", "completed", "lease"} {
			p.other += int(f.rdb.ZCard(ctx, prefix+state).Val())
		}
	}
	p.keys = f.rdb.DBSize(ctx).Val()
	return p
}

// TestBacklogStaysLinear: 120 jobs wait in a paused queue for eleven minutes of Redis' clock
// while a worker reads the due index every other second, and for eleven more while nobody
// does. Each job has one task all the time, the tasks keep the order of the jobs, and a job
// becomes due less and less often.
func TestBacklogStaysLinear(t *testing.T) {
	t.Parallel()
	const jobs, away = 120, 11 * time.Minute
	f := newMini(t)
	if err := asynq.NewInspectorFromRedisClient(f.rdb).PauseQueue(store.QueueProvision); err != nil {
		t.Fatal(err)
	}
	var ids []nexus.JobID
	for i := range jobs {
		ids = append(ids, f.submit(t, submission(nexus.SiteName(fmt.Sprintf("b%03d.localhost", i)))).ID)
	}
	first := f.pile(t)
	asBefore := func(when string, looks int) {
		t.Helper()
		if now := f.pile(t); len(now.queue) != jobs || now.other != 0 || now.keys != first.keys || !slices.Equal(now.queue, first.queue) {
			t.Fatalf("%s: %d jobs have %d pending and %d other tasks, in their order: %t; %d keys, and %d before", when, jobs, len(now.queue), now.other,
				slices.Equal(now.queue, first.queue), now.keys, first.keys)
		}
		for _, id := range ids {
			if r := f.rdb.HMGet(t.Context(), "{nexus}:job:"+string(id), "looks", "dispatch").Val(); r[1] != "1" || r[0] != fmt.Sprint(looks) {
				t.Fatalf("%s: job %s was looked at %s times, want %d; it has %s dispatches", when, id, r[0], looks, r[1])
			}
		}
	}
	asBefore("recorded", 0)
	for at := time.Duration(0); at < away; at += 2 * time.Second {
		f.advance(2 * time.Second)
		f.tick(t)
		if at%time.Minute == 0 {
			if now := f.pile(t); len(now.queue)+now.other != jobs || now.keys != first.keys {
				t.Fatalf("after %s %d jobs have %d tasks; %d keys, and %d before", at, jobs, len(now.queue)+now.other, now.keys, first.keys)
			}
		}
	}
	asBefore("looked at for eleven minutes", 14) // after 1, 6, 16, 36, 76 s, and then each minute
	f.advance(away)
	asBefore("not looked at for eleven minutes", 14)
	for range jobs/50 + 1 { // all are due at once
		f.tick(t)
	}
	asBefore("looked at again", 15)
	if lease, _ := f.take(t, ids[0]); lease == nil {
		t.Error("the first job cannot be taken")
	}
}

// TestTaskGivenBackIsHandedOutSoon: a worker that cannot do a job takes its task from the
// queue and does not take the job, so the task is gone. However often that happens, the job
// gets a new task within seconds.
func TestTaskGivenBackIsHandedOutSoon(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		f.advance(2 * time.Second)
		f.tick(t)
		look := asynq.NewInspectorFromRedisClient(f.rdb)
		for turn := range 10 {
			if p := f.pile(t); !slices.Equal(p.queue, []string{string(id) + ".1"}) || p.other != 0 {
				t.Fatalf("turn %d: %v is pending, and %d other tasks", turn, p.queue, p.other)
			}
			if err := look.DeleteTask(store.QueueProvision, string(id)+".1"); err != nil {
				t.Fatal(err)
			}
			f.advance(6 * time.Second)
			f.tick(t)
		}
	})
}
