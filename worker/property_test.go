package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what the steps of a test act on: per step, whether its thing is
// there, and who is at work. It is the outside that Redis knows nothing of.
type world struct {
	mu     sync.Mutex
	things map[nexus.StepName]bool
	busy   map[nexus.StepName]int
	undone []nexus.StepName
	faults []string // drawn by the test, consumed by the calls, in order
	broken []string // invariants that did not hold
}

func (w *world) next() string {
	if len(w.faults) == 0 {
		return ""
	}
	fault := w.faults[0]
	w.faults = w.faults[1:]
	return fault
}

// act plays one call of Do or Undo with the next fault. A kill is the end of
// the goroutine, before or after the effect: nothing is answered, nothing more
// is journalled, the lease just runs out.
func (w *world) act(ctx context.Context, name nexus.StepName, effect func()) error {
	w.mu.Lock()
	w.busy[name]++
	if w.busy[name] > 1 {
		w.broken = append(w.broken, fmt.Sprintf("two owners in %s", name))
	}
	fault := w.next()
	done := func() { w.busy[name]--; w.mu.Unlock() }
	defer done()
	switch fault {
	case "kill before":
		runtime.Goexit()
	case "kill after":
		effect()
		runtime.Goexit()
	case "lost answer":
		effect()
		return &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "The answer was lost."}
	case "unavailable":
		return &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "Away."}
	case "invalid":
		return &nexus.Error{Code: nexus.Invalid, Op: "test", Msg: "No."}
	case "error":
		return errors.New("unforeseen")
	case "panic":
		panic("in a step")
	case "stale token":
		return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "Too low."}
	}
	if ctx.Err() == nil {
		effect()
		return nil
	}
	return context.Cause(ctx)
}

func (w *world) process(names []nexus.StepName, without int) tasks.Process {
	p := tasks.Process{Kind: nexus.KindProvision}
	for i, name := range names {
		step := tasks.Step{Name: name, Timeout: time.Minute, Attempts: 3,
			Do: func(ctx context.Context, _ *tasks.Kit) error {
				return w.act(ctx, name, func() { w.things[name] = true })
			},
			Undo: func(ctx context.Context, _ *tasks.Kit) error {
				return w.act(ctx, name, func() {
					delete(w.things, name)
					w.undone = append(w.undone, name)
				})
			}}
		if i == without {
			step.Undo = nil
		}
		p.Steps = append(p.Steps, step)
	}
	return p
}

type harness struct {
	redis *miniredis.Miniredis
	rdb   *redis.Client
	store *store.Store
	now   time.Time
	keys  *nexus.Keyring
}

func newHarness(tb interface{ Fatal(...any) }) *harness {
	m, err := miniredis.Run()
	if err != nil {
		tb.Fatal(err)
	}
	keys, _ := nexus.NewKeyring()
	h := &harness{redis: m, now: time.Unix(1_790_000_000, 0), keys: keys}
	m.SetTime(h.now)
	h.rdb = redis.NewClient(&redis.Options{Addr: m.Addr()})
	h.store = store.New(h.rdb, store.Options{Slots: 2})
	return h
}

func (h *harness) close() {
	_ = h.rdb.Close()
	h.redis.Close()
}

func (h *harness) advance(d time.Duration) {
	h.now = h.now.Add(d)
	h.redis.SetTime(h.now)
}

func (h *harness) engine(p tasks.Process) *worker.Engine {
	now := h.now
	return worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Jitter: func() float64 { return 0.5 }, Renew: time.Hour})
}

func (h *harness) submit(tb interface{ Fatal(...any) }, p tasks.Process) nexus.Job {
	names := make([]nexus.StepName, len(p.Steps))
	for i, step := range p.Steps {
		names[i] = step.Name
	}
	job, _, err := h.store.Submit(context.Background(), store.Submission{ID: nexus.NewJobID(), Kind: p.Kind,
		Site: "acme.localhost", Steps: names, GiveUpAfter: 24 * time.Hour, KeyID: h.keys.ID()})
	if err != nil {
		tb.Fatal(err)
	}
	return job
}

// live drives a job the way workers do: tick, and work on what was dispatched.
// A goroutine of its own lets a kill end it without a word.
func (h *harness) live(tb interface{ Fatal(...any) }, p tasks.Process, id nexus.JobID, each func(round int)) nexus.Job {
	ctx := context.Background()
	for round := range 2000 {
		job, err := h.store.Job(ctx, id)
		if err != nil {
			tb.Fatal(err)
		}
		if job.State.Terminal() || job.State == nexus.RollbackFailed {
			return job
		}
		if job.Taken < job.Dispatch {
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.engine(p).Work(ctx, store.Task{V: 1, Job: id, Dispatch: job.Dispatch})
			}()
			<-done
		}
		each(round)
		h.advance(3 * time.Second)
		if _, err := h.store.Tick(ctx, true); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatal("the job never ended")
	return nexus.Job{}
}

// TestSaga holds random processes against random faults at every call of Do and
// Undo: a job ends terminal or parked, what it undid is the reverse of what it
// did, nothing is left over, and never are two owners at work in one step.
func TestSaga(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(rt)
		defer h.close()
		count := rapid.IntRange(1, 6).Draw(rt, "steps")
		names := make([]nexus.StepName, count)
		for i := range names {
			names[i] = nexus.StepName(fmt.Sprintf("step%d", i))
		}
		w := &world{things: map[nexus.StepName]bool{}, busy: map[nexus.StepName]int{},
			faults: rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "kill before", "kill after", "lost answer", "unavailable",
				"invalid", "error", "panic", "stale token"}), 0, 14).Draw(rt, "faults")}
		p := w.process(names, -1)
		cancelAt := rapid.IntRange(-1, 8).Draw(rt, "cancel at round")
		job := h.submit(rt, p)
		end := h.live(rt, p, job.ID, func(round int) {
			if round == cancelAt {
				_, _ = h.store.Cancel(context.Background(), job.ID, "op") // may be over: conflict
			}
		})
		w.check(rt, names, end)
		_, err := h.store.Tenant(context.Background(), job.Site)
		if gone := nexus.CodeOf(err) == nexus.NotFound; gone != (end.State == nexus.Failed || end.State == nexus.Canceled) {
			rt.Fatalf("state %s, tenant row gone: %t", end.State, gone)
		}
		if due, _ := h.redis.ZMembers("{nexus}:due"); len(due) > 0 {
			rt.Fatalf("the due index still holds %v", due)
		}
	})
}

func (w *world) check(rt *rapid.T, names []nexus.StepName, end nexus.Job) {
	if len(w.broken) > 0 {
		rt.Fatalf("broken: %v", w.broken)
	}
	switch end.State {
	case nexus.Succeeded:
		if len(w.things) != len(names) {
			rt.Fatalf("succeeded with %v", w.things)
		}
	case nexus.Failed, nexus.Canceled:
		if len(w.things) != 0 {
			rt.Fatalf("%s, and left %v", end.State, w.things)
		}
		// An undo whose answer was lost runs again, so compare without repeats.
		order := slices.Compact(slices.Clone(w.undone))
		if !slices.IsSortedFunc(order, func(a, b nexus.StepName) int { return slices.Index(names, b) - slices.Index(names, a) }) {
			rt.Fatalf("undone in the order %v", w.undone)
		}
		if end.Error == nil || end.Error.Message == "" || end.Error.Action == "" {
			rt.Fatalf("%s without a word for people: %+v", end.State, end.Error)
		}
	case nexus.RollbackFailed:
	default:
		rt.Fatalf("ended as %s", end.State)
	}
}
