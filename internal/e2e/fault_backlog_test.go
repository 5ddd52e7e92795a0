//go:build service

package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultBacklog records five thousand jobs while no worker runs, then starts workers
// while asynq's queue is paused: there is never more than one task for each job. When
// the queue is resumed, the jobs begin in their order, and all succeed.
func TestFaultBacklog(t *testing.T) {
	const jobs, callers = 5000, 32
	s := newStack(t, 0, "NEXUS_APPS=erpnext")
	began := time.Now()
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := caller; i < jobs; i += callers {
				if _, err := s.client.Signup(t.Context(), person(fmt.Sprintf("b%04d", i), fmt.Sprintf("b%d@example.com", i)), ""); err != nil {
					t.Errorf("signup %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d jobs were recorded in %s", jobs, time.Since(began))
	if live, kept := s.tasks(); live != jobs || kept != 0 {
		t.Errorf("no worker yet, and %d tasks, %d kept", live, kept)
	}
	ctx := context.WithoutCancel(t.Context())
	s.rdb.Set(ctx, "asynq:{provision}:paused", time.Now().Unix(), 0)
	s.startWorkers(2)
	most := 0
	last := fromRedis(t, s.rdb.ZRange(ctx, "{nexus}:jobs", -1, -1))[0]
	eventually(t, 90*time.Second, "every job was looked at while the queue is paused", func() bool {
		live, kept := s.tasks()
		most = max(most, live+kept)
		return s.record(last).Fields["looks"] != "0"
	})
	opened := time.Now()
	s.rdb.Del(ctx, "asynq:{provision}:paused")
	eventually(t, 3*time.Minute, "all jobs are over", func() bool {
		live, kept := s.tasks()
		most = max(most, live+kept)
		n, err := s.rdb.ZCard(ctx, "{nexus}:due").Result()
		return err == nil && n == 0
	})
	took := time.Since(opened)
	t.Logf("all were done in %s, %.0f a second; at most %d tasks were there", took, jobs/took.Seconds(), most)
	if most > jobs+jobs/50 {
		t.Errorf("%d tasks for %d jobs", most, jobs)
	}
	s.firstCome(t, jobs)
	s.sound()
}

// firstCome checks that jobs began in the order in which they were recorded, except for
// those that run at the same time.
func (s *stack) firstCome(t *testing.T, want int) {
	t.Helper()
	type life struct {
		created string
		began   time.Time
		at      int
	}
	var lives []life
	ids := fromRedis(t, s.rdb.ZRange(t.Context(), "{nexus}:jobs", 0, -1))
	for _, id := range ids {
		r := s.record(id)
		if r.State != nexus.Succeeded || r.Rescues != 0 {
			t.Errorf("job %s is %s: %v", id, r.State, r.Fields["error"])
			continue
		}
		if slices.ContainsFunc(r.Steps, func(step nexus.Step) bool { return step.Starts != 1 }) {
			t.Errorf("job %s did a step twice: %+v", id, r.Steps)
		}
		lives = append(lives, life{created: r.Fields["createdAt"], began: *r.step("reserve").StartedAt})
	}
	// What is handed out a second time, between asynq's queue and the lease, is in this queue.
	if info, err := asynq.NewInspectorFromRedisClient(s.rdb).GetQueueInfo("resume"); err == nil && info.Size+info.Completed+info.Archived > want/50 {
		t.Errorf("of %d jobs many were handed out more than once: %+v", want, info)
	}
	if len(lives) != want {
		t.Fatalf("%d of %d jobs succeeded", len(lives), want)
	}
	slices.SortStableFunc(lives, func(a, b life) int { return strings.Compare(a.created, b.created) })
	for i := range lives {
		lives[i].at = i
	}
	slices.SortStableFunc(lives, func(a, b life) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	worst := 0
	for i, l := range lives {
		worst = max(worst, i-l.at, l.at-i)
	}
	t.Logf("the job most out of its turn was %d places off", worst)
	if worst > want/20 {
		t.Errorf("a job began %d places out of its turn", worst)
	}
}
