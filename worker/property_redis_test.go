package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/worker"
)

// node is one worker process.
type node struct {
	name   int
	engine *worker.Engine
	sim    *simulation
	frozen time.Time
	woken  int
}

type (
	nodeKey   struct{}
	insideKey struct{}
)

// nodeOf is the worker that a call comes from; nil: the test itself.
func nodeOf(ctx context.Context) *node {
	n, _ := ctx.Value(nodeKey{}).(*node)
	return n
}

func (n *node) freeze(d time.Duration) {
	if until := time.Now().Add(d); until.After(n.frozen) {
		n.frozen = until
	}
}

// thaw waits until the worker goes on. No two wake at one moment: what follows from
// a plot must be the same each time.
func (n *node) thaw() {
	for d := time.Until(n.frozen); d > 0; d = time.Until(n.frozen) {
		n.woken++
		d += time.Duration(nodes*n.woken+n.name) * time.Microsecond
		n.sim.free(func() { <-time.After(d) })
	}
}

// record is a job's record as it is in Redis.
type record map[string]string

func (r record) num(field string) int64 {
	n, _ := strconv.ParseInt(r[field], 10, 64)
	return n
}

func (r record) gen() nexus.Gen     { return nexus.Gen(r.num("gen")) }
func (r record) state() nexus.State { return nexus.State(r["state"]) }

func (r record) steps() (steps []nexus.Step) {
	_ = json.Unmarshal([]byte(r["steps"]), &steps)
	return steps
}

// away is Redis between the test and all that use it. It keeps Redis' clock the
// test's own, makes the workers' calls fail as drawn, and looks at the job's record
// before and after each.
type away struct {
	sim    *simulation
	redis  *miniredis.Miniredis
	faults []string
	late   bool      // the next progress takes its time
	slow   int       // calls that did
	failed bool      // a call failed
	hurt   bool      // an answer was lost
	until  time.Time // the end of an outage
	gens   map[nexus.Gen]*node
	newest nexus.Gen
}

var errAway = errors.New("the connection was lost")

// DialHook changes nothing.
func (*away) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing.
func (*away) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook plays the faults.
func (a *away) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Value(insideKey{}) != nil { // the greeting of a new connection
			return next(ctx, cmd)
		}
		n, ctx := nodeOf(ctx), context.WithValue(ctx, insideKey{}, true)
		a.sim.mu.Lock()
		defer a.sim.mu.Unlock()
		if n != nil {
			n.thaw()
		}
		a.redis.SetTime(time.Now())
		if n == nil {
			err := next(ctx, cmd)
			a.look(nil, cmd)
			return err
		}
		fault := ""
		if len(a.faults) > 0 {
			fault, a.faults = a.faults[0], a.faults[1:]
		}
		if until, ok := ctx.Deadline(); fault == "slow" || a.late && ok && time.Until(until) <= 2*time.Second { // a progress' own
			a.late = false
			a.slow++
			ctx = context.WithoutCancel(ctx) // nobody can call it back
			d := 200*time.Millisecond + time.Duration(a.slow)*time.Microsecond
			a.sim.free(func() { <-time.After(d) })
			a.redis.SetTime(time.Now())
		}
		a.failed = a.failed || fault != "" && fault != "slow"
		switch {
		case fault == "stuck": // the client gives up; what it sent arrives all the same
			a.hurt = true
			a.slow++
			d, copied := 2*time.Second+time.Duration(a.slow)*time.Microsecond, redis.NewCmd(ctx, cmd.Args()...)
			a.sim.runs.Go(func() {
				<-time.After(d)
				a.sim.mu.Lock()
				defer a.sim.mu.Unlock()
				if !a.sim.over() {
					a.redis.SetTime(time.Now())
					_ = next(context.WithoutCancel(ctx), copied)
					a.look(n, copied)
				}
			})
			return errAway
		case fault == "before" || a.out() || a.sim.over():
			return errAway
		case fault == "lost" || fault == "twice":
			a.hurt = true
			_ = next(ctx, cmd)
			a.look(n, cmd)
			if fault == "lost" {
				return errAway
			}
		}
		err := next(ctx, cmd)
		a.look(n, cmd)
		return err
	}
}

// out tells whether Redis is away.
func (a *away) out() bool { return time.Now().Before(a.until) }

func (a *away) read() record {
	key := "{nexus}:job:" + string(a.sim.id)
	out := record{}
	fields, _ := a.redis.HKeys(key)
	for _, field := range fields {
		out[field] = a.redis.HGet(key, field)
	}
	return out
}

// moves are the ways of a step's journal entry. A step that is done is not done
// again, and what is undone stays so.
var moves = map[nexus.StepState][]nexus.StepState{
	nexus.StepPending: {nexus.StepStarted},
	nexus.StepStarted: {nexus.StepDone, nexus.StepFailed, nexus.StepUndone},
	nexus.StepFailed:  {nexus.StepStarted, nexus.StepUndone},
	nexus.StepDone:    {nexus.StepUndone},
}

// renewed tells whether all that a write did was to renew the lease, under the token
// that its run had before it was raised: the run may not know the new one yet.
func renewed(was, is record, gen int64) bool {
	rest := maps.Clone(is)
	rest["leaseUntil"] = was["leaseUntil"]
	return was["former"] == strconv.FormatInt(gen, 10) && maps.Equal(was, rest)
}

// look compares the record with what it was before a command.
func (a *away) look(n *node, cmd redis.Cmder) {
	was, is := a.sim.record, a.read()
	a.sim.record = is
	if len(was) == 0 || len(is) == 0 {
		return
	}
	// A script of a lease: its second argument is a gen, which is a large number.
	if args := cmd.Args(); len(args) > 5 {
		gen, _ := args[5].(int64)
		if nexus.Gen(gen) != was.gen() && gen > 1<<40 && !maps.Equal(was, is) && !renewed(was, is, gen) {
			a.sim.broken("worker %d wrote with the gen %d, the record's is %d:\n%v\n%v", n.name, gen, was.gen(), was, is)
		}
	}
	parked := a.sim.kind.OneWay() && is.state() == nexus.RollbackFailed // in one write, by way of rolling_back
	if from, to := was.state(), is.state(); from != to && !slices.Contains(from.Next(), to) && !parked {
		a.sim.broken("from %s to %s there is no way", from, to)
	}
	if is.num("rev") < was.num("rev") || is.num("dispatch") < was.num("dispatch") && !is.state().Terminal() {
		a.sim.broken("rev or dispatch went back")
	}
	if gen := is.gen(); gen != was.gen() && gen != 0 {
		if gen <= a.newest || a.gens[gen] != nil {
			a.sim.broken("the gen %d is not above %d", gen, a.newest)
		}
		if until := was.num("leaseUntil"); until > time.Now().UnixMilli() && n != a.gens[was.gen()] && was.gen() != 0 {
			a.sim.broken("taken from an owner whose lease is valid")
		}
		if raised := was.num("taken") == is.num("taken") && was.state() != nexus.RollbackFailed; raised && gen <= a.sim.world.gen {
			a.sim.broken("raised to the gen %d, the bench has seen %d", gen, a.sim.world.gen)
		}
		a.newest, a.gens[gen] = gen, n
	}
	before := was.steps()
	for i, step := range is.steps() {
		if from := before[i].State; from != step.State && !slices.Contains(moves[from], step.State) {
			a.sim.broken("step %d went from %s to %s", i, from, step.State)
		}
	}
}
