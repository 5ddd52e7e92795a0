package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// call is what happens to one call of Do or Undo, as drawn by the test.
type call struct {
	Kind   string // how it ends
	Took   int    // seconds of work
	Deaf   bool   // it ignores its context
	Tell   int    // 1: it reports progress; 2: the last report is delayed
	Freeze int    // when its worker is suspended: 1 before the call reaches the bench, 2 before the effect, 3 after it; 0: never
	For    int    // seconds of the suspension
}

// effect is one thing that happened on the bench.
type effect struct {
	step int
	undo bool
	gen  nexus.Gen
}

// world is the simulated bench on which the steps act. It has a fence like a real bench: it
// refuses an operation whose gen is lower than the highest seen, at the start of the operation
// and at its effect.
type world struct {
	sim      *simulation
	steps    []tasks.Step
	calls    []call
	gen      nexus.Gen         // the highest seen
	refused  int               // how many owners of the job the fence refused
	things   map[int]bool      // what the steps made
	effects  []effect          // in their order
	busy     map[nexus.Gen]int // operations that are running
	failed   bool              // a step has returned a failure, so the job may roll back
	works    int               // operations that were started
	told     bool              // an undo reported progress, which also wrote the pending events of its worker
	row      int               // kills in a row, without a result in between
	poisoned bool              // there were more kills in a row than a step may have
	losses   int               // workers that were killed, suspended, or hung
}

// cover is the step whose Undo removes what step i made; -1: i makes nothing.
func (w *world) cover(i int) int {
	for ; i >= 0 && w.steps[i].Undo == nil; i-- {
	}
	return i
}

// process makes steps that act on the world. If the kind can be rolled back, the steps that
// the plot names have an Undo. The first step reserves.
func (w *world) process(kind nexus.Kind, count int, undos []bool) tasks.Process {
	for i := range count {
		step := tasks.Step{Name: nexus.StepName(fmt.Sprintf("step%d", i)), Timeout: 20 * time.Second, Attempts: 3,
			Do: func(ctx context.Context, k *tasks.Kit) error {
				if i == 0 && kind == nexus.KindProvision {
					if err := k.Records.Reserve(ctx, "main", "nx1"); err != nil {
						w.sim.mu.Lock()
						defer w.sim.mu.Unlock()
						return w.answer(err)
					}
				}
				return w.act(ctx, k, i, false)
			}}
		if undos[i] && !kind.OneWay() {
			step.Undo = func(ctx context.Context, k *tasks.Kit) error { return w.act(ctx, k, i, true) }
		}
		w.steps = append(w.steps, step)
	}
	return tasks.Process{Kind: kind, Steps: w.steps}
}

func (w *world) next() (c call) {
	if len(w.calls) > 0 {
		c, w.calls = w.calls[0], w.calls[1:]
	}
	return c
}

// act runs one call of Do or Undo. A kill ends the goroutine: there is no result, nothing more
// is journaled, and the lease expires.
func (w *world) act(ctx context.Context, k *tasks.Kit, i int, undo bool) (err error) {
	w.sim.mu.Lock()
	defer w.sim.mu.Unlock()
	n, gen, c := nodeOf(ctx), k.Records.Gen(), w.next()
	if w.sim.over() {
		runtime.Goexit()
	}
	w.sim.began(n, gen, i, undo)
	w.busy[gen]++
	defer func() { w.busy[gen]-- }()
	if w.busy[gen] > 1 {
		w.sim.broken("two operations at once under one token")
	}
	if c.Kind == "stale token" {
		w.gen = max(w.gen, gen) + nexus.Gen(time.Hour.Microseconds())
	}
	w.suspend(n, c, 1)
	if c.Kind == "absurd token" { // as if somebody had written it into the site's fence
		return w.answer(&nexus.Error{Code: nexus.Fenced, Op: "test", Seen: math.MaxInt64, Msg: "Too low."})
	}
	if err := w.fence(gen); err != nil {
		return err
	}
	w.kill(c, "kill before")
	if c.Tell > 0 {
		k.Progress("half way", 50)
		w.told = w.told || undo
	}
	ended := w.work(ctx, c)
	w.suspend(n, c, 2)
	if ended != nil && c.Kind != "lost answer" {
		return w.answer(ended)
	}
	if err := w.refusal(c.Kind); err != nil {
		return w.answer(err)
	}
	if err := w.fence(gen); err != nil {
		return err
	}
	w.effect(effect{i, undo, gen})
	w.suspend(n, c, 3)
	if c.Tell > 0 {
		w.sim.away.late = c.Tell == 2
		k.Progress("nearly there", 90)
	}
	w.kill(c, "kill after")
	if c.Kind == "lost answer" {
		return w.answer(&nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "The answer was lost."})
	}
	w.row = 0
	return nil
}

func (w *world) answer(err error) error {
	w.row = 0
	if !errors.Is(err, nexus.ErrDraining) && !errors.Is(err, nexus.ErrFenced) {
		w.failed = true
	}
	return err
}

// refusal returns an error without an effect; nil: the call has its effect.
func (w *world) refusal(kind string) error {
	switch kind {
	case "unavailable":
		return &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "Away."}
	case "unbegun":
		return &nexus.Error{Code: nexus.Unavailable, Op: "test", Unbegun: true, RetryAfter: 5 * time.Second, Msg: "Away."}
	case "limit":
		return &nexus.Error{Code: nexus.Limit, Op: "test", Msg: "Full."}
	case "invalid":
		return &nexus.Error{Code: nexus.Invalid, Op: "test", Msg: "No."}
	case "error":
		return errors.New("unforeseen")
	case "panic":
		w.failed = true
		panic("in a step")
	}
	return nil
}

// fence refuses a gen below the highest seen. The run that owns the job must not be refused,
// unless the bench has seen a gen that this Redis has not minted. The run then takes a higher
// gen, and does not repeat that without limit.
func (w *world) fence(gen nexus.Gen) error {
	if gen >= w.gen {
		w.gen = gen
		return nil
	}
	if w.sim.record.gen() == gen {
		w.refused++
		if w.sim.away.gens[w.gen] != nil || w.refused > 20 {
			w.sim.broken("the owner is refused with %d by a bench that has seen %d, %d times", gen, w.gen, w.refused)
			runtime.Goexit()
		}
	}
	return &nexus.Error{Code: nexus.Fenced, Op: "test", Seen: w.gen, Msg: "Too low."}
}

func (w *world) effect(e effect) {
	w.effects = append(w.effects, e)
	if e.undo {
		for i := range w.steps {
			if w.cover(i) == e.step {
				delete(w.things, i)
			}
		}
	} else if w.cover(e.step) >= 0 || w.sim.kind.OneWay() {
		w.things[e.step] = true
	}
}

func (w *world) kill(c call, kind string) {
	if c.Kind == kind {
		w.losses++
		w.row++
		w.poisoned = w.poisoned || w.row > 5
		runtime.Goexit()
	}
}

// suspend stops the whole worker with its renewals, as SIGSTOP does.
func (w *world) suspend(n *node, c call, at int) {
	if c.Freeze == at && c.For > 0 {
		w.losses++
		n.freeze(time.Duration(c.For) * time.Second)
	}
	n.thaw()
	if w.sim.over() {
		runtime.Goexit()
	}
}

// work waits for the duration of the call; it returns why it ended earlier, or nil.
func (w *world) work(ctx context.Context, c call) error {
	heeds := ctx.Done()
	if c.Deaf {
		heeds = nil
		if c.Took > 30 { // longer than the lease is renewed
			w.losses++
		}
	}
	w.works++ // no two operations end at the same time, and none at the time of a renewal
	took := time.Duration(c.Took)*time.Second + time.Duration(w.works)*137*time.Microsecond
	w.sim.free(func() {
		done := time.NewTimer(took)
		defer done.Stop()
		select {
		case <-done.C:
		case <-w.sim.ended:
		case <-heeds:
		}
	})
	if c.Deaf {
		return nil
	}
	return context.Cause(ctx)
}

// check compares the bench with the end of the job.
func (w *world) check(end nexus.Job) {
	made := 0
	for i := range w.steps {
		if w.cover(i) >= 0 || w.sim.kind.OneWay() {
			made++
		}
	}
	if end.State == nexus.Succeeded && len(w.things) != made {
		w.sim.broken("succeeded with %v", w.things)
	}
	if end.State != nexus.Succeeded && len(w.things) != 0 {
		w.sim.broken("%s, and left %v", end.State, w.things)
	}
	var undone []int
	high := nexus.Gen(0)
	for _, e := range w.effects {
		if e.undo {
			undone = append(undone, e.step)
		} else if len(undone) > 0 {
			w.sim.broken("step %d was done after the way back began", e.step)
		}
		if e.gen < high {
			w.sim.broken("an effect with the gen %d after one with %d", e.gen, high)
		}
		high = e.gen
	}
	if !slices.IsSortedFunc(undone, func(a, b int) int { return b - a }) {
		w.sim.broken("undone in the order %v", undone)
	}
}
