package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// plot is a random job with all events that happen to it; rapid draws it.
type plot struct {
	Kind    nexus.Kind
	Undos   []bool // which steps have an Undo
	GiveUp  int    // seconds
	Calls   []call
	Redis   []string
	Blows   []blow
	Workers []int // which worker gets each dispatch
	Slow    int   // seconds until it gets it
	Twice   bool  // each dispatch is given to two workers
}

// blow is an event from outside at a given time, whether a step is running or not.
type blow struct {
	At   int // half seconds from the start
	What string
	Node int
	For  int // seconds
}

var (
	kinds = []nexus.Kind{nexus.KindProvision, nexus.KindProvision, nexus.KindProvision, nexus.KindAdopt, nexus.KindSuspend,
		nexus.KindRestore, nexus.KindRotateKey, nexus.KindRotateKey, nexus.KindTeardown, nexus.KindTemplate}
	calls = rapid.Custom(func(t *rapid.T) call {
		c := call{Kind: rapid.SampledFrom([]string{"", "", "", "", "kill before", "kill after", "lost answer", "unavailable", "unbegun",
			"limit", "invalid", "invalid", "error", "panic", "stale token", "absurd token"}).Draw(t, "kind")}
		c.Took = rapid.SampledFrom([]int{0, 0, 1, 1, 1, 7, 30, 60}).Draw(t, "took")
		c.Deaf, c.Tell = rapid.Bool().Draw(t, "deaf"), rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "tell")
		if c.Freeze = max(0, rapid.IntRange(-2, 3).Draw(t, "freeze")); c.Freeze > 0 {
			c.For = rapid.IntRange(1, 30).Draw(t, "for")
		}
		return c
	})
	blows = rapid.Custom(func(t *rapid.T) blow {
		return blow{rapid.OneOf(rapid.IntRange(0, 9), rapid.IntRange(10, 80)).Draw(t, "at"), rapid.SampledFrom([]string{"cancel", "cancel", "drain", "leave", "freeze", "redis"}).Draw(t, "what"),
			rapid.IntRange(0, nodes-1).Draw(t, "node"), rapid.IntRange(1, 20).Draw(t, "for")}
	})
	plots = rapid.Custom(func(t *rapid.T) plot {
		return plot{
			Kind:   rapid.SampledFrom(kinds).Draw(t, "kind"),
			Undos:  rapid.SliceOfN(rapid.Bool(), rapid.SampledFrom([]int{1, 2, 3, 4}).Draw(t, "least"), 5).Draw(t, "undos"),
			GiveUp: rapid.SampledFrom([]int{86400, 86400, 86400, 90, 20, 5}).Draw(t, "give up"),
			Calls: append(make([]call, rapid.SampledFrom([]int{0, 0, 1, 2, 3, 4}).Draw(t, "fine")),
				rapid.SliceOfN(calls, 0, 14).Draw(t, "calls")...),
			Redis: rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "", "", "", "", "", "", "slow", "slow", "before", "lost", "twice", "stuck"}),
				0, 40).Draw(t, "redis"),
			Blows:   rapid.SliceOfN(blows, 0, 3).Draw(t, "blows"),
			Workers: rapid.SliceOfN(rapid.IntRange(0, nodes-1), 1, 8).Draw(t, "workers"),
			Slow:    rapid.IntRange(0, 3).Draw(t, "slow"),
			Twice:   rapid.Bool().Draw(t, "twice"),
		}
	})
)

// nodes is how many workers there are.
const nodes = 3

// simulation runs one job with several workers in simulated time.
type simulation struct {
	plot
	kind    nexus.Kind
	id      nexus.JobID
	world   *world
	away    *away
	store   *store.Store
	process tasks.Process
	keys    *nexus.Keyring
	nodes   []*node
	runs    sync.WaitGroup
	alive   int
	begin   time.Time
	mu      sync.Mutex // guards all fields below, and the contents of world, away and nodes
	record  record     // the job's record after the last command
	ended   chan struct{}
	wrong   []string

	canceled bool // a cancel was accepted
	resumed  int
	handed   int64     // the last dispatch given to a worker
	at       time.Time // when it is given for the first or the next time
	calm     time.Time // no rescue before this time
}

func (s *simulation) broken(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf("after %s: ", time.Since(s.begin))+fmt.Sprintf(format, args...))
}

// free releases the lock while it calls a function that takes time or uses Redis.
func (s *simulation) free(do func()) {
	s.mu.Unlock()
	defer s.mu.Lock()
	do()
}

func (s *simulation) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func newSimulation(ctx context.Context, m *miniredis.Miniredis, rdb *redis.Client, p plot) (*simulation, error) {
	s := &simulation{plot: p, kind: p.Kind, begin: time.Now(), id: "000000000000000000000000000000a1", ended: make(chan struct{}),
		store: store.New(rdb, store.Options{Slots: 2})}
	s.keys, _ = nexus.NewKeyring()
	s.away = &away{sim: s, redis: m, faults: p.Redis, gens: map[nexus.Gen]*node{}}
	rdb.AddHook(s.away)
	s.world = &world{sim: s, calls: p.Calls, things: map[int]bool{}, busy: map[nexus.Gen]int{}}
	s.process = s.world.process(p.Kind, len(p.Undos), p.Undos)
	for i := range nodes {
		s.nodes = append(s.nodes, s.worker(i))
	}
	if err := s.tenant(ctx); err != nil {
		return nil, err
	}
	sub := store.Submission{ID: s.id, Kind: p.Kind, Site: "acme.localhost", Build: map[nexus.Kind]string{nexus.KindTemplate: "plain"}[p.Kind], KeyID: s.keys.ID(), GiveUpAfter: time.Duration(p.GiveUp) * time.Second}
	for _, step := range s.process.Steps {
		sub.Steps = append(sub.Steps, step.Name)
	}
	_, _, err := s.store.Submit(ctx, sub)
	s.record = s.away.read()
	return s, err
}

func (s *simulation) worker(i int) *node {
	return &node{name: i, sim: s, engine: worker.NewEngine(worker.Options{Store: s.store, Keys: s.keys, Processes: []tasks.Process{s.process},
		Log: slog.New(slog.DiscardHandler), Jitter: func() float64 { return 0.5 }})}
}

// tenant makes the tenant that the job's kind needs.
func (s *simulation) tenant(ctx context.Context) error {
	before := map[nexus.Kind][]nexus.Kind{nexus.KindSuspend: {nexus.KindProvision}, nexus.KindTeardown: {nexus.KindProvision},
		nexus.KindRotateKey: {nexus.KindProvision}, nexus.KindRestore: {nexus.KindProvision, nexus.KindSuspend}}
	for i, kind := range before[s.kind] {
		id := nexus.JobID(fmt.Sprintf("000000000000000000000000000000b%d", i))
		job, _, err := s.store.Submit(ctx, store.Submission{ID: id, Kind: kind, Site: "acme.localhost", GiveUpAfter: time.Hour, PurgeAfter: 240 * time.Hour})
		if err != nil {
			return err
		}
		lease, job, _, err := s.store.Take(ctx, id, job.Dispatch, nil)
		if err == nil && kind == nexus.KindProvision {
			_, err = lease.Reserve(ctx, "main", "nx1")
		}
		if err == nil {
			job.State = nexus.Succeeded
			err = lease.Finish(ctx, &job, "", nexus.Event{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// began checks what must be true when a worker starts an operation: the worker owns the job,
// and the journal has the start of the step.
func (s *simulation) began(n *node, gen nexus.Gen, i int, undo bool) {
	steps, name := s.record.steps(), map[bool]string{false: "step", true: "the undo of step"}[undo]
	if owner := s.away.gens[gen]; s.record.gen() != gen || owner != n {
		s.broken("worker %d began %s %d with the gen %d, the record's is %d", n.name, name, i, gen, s.record.gen())
	}
	if !undo && s.record["cancel"] == "1" {
		s.broken("step %d began after a cancel", i)
	}
	if want := map[bool]nexus.State{false: nexus.Running, true: nexus.RollingBack}[undo]; s.record.state() != want {
		s.broken("%s %d began in the state %s", name, i, s.record.state())
	}
	for j, step := range steps {
		before, after, self := j < i, j > i, j == i
		switch {
		case !undo && (before && step.State != nexus.StepDone || self && step.State != nexus.StepStarted || after && step.State != nexus.StepPending):
			s.broken("step %d began, and step %d is journalled as %s", i, j, step.State)
		case undo && after && s.process.Steps[j].Undo != nil && step.State != nexus.StepPending && step.State != nexus.StepUndone,
			undo && self && (step.State == nexus.StepPending || step.State == nexus.StepUndone):
			s.broken("the undo of step %d began, and step %d is journalled as %s", i, j, step.State)
		}
	}
}

// hand gives a dispatch that was not taken to a worker, and some time later to another one.
func (s *simulation) hand(ctx context.Context) {
	dispatch := s.record.num("dispatch")
	if s.record.num("taken") >= dispatch {
		return
	}
	if dispatch != s.handed {
		s.handed, s.at = dispatch, time.Now().Add(time.Duration(s.Slow)*time.Second)
	}
	if time.Now().Before(s.at) {
		return
	}
	s.at = time.Now().Add(5 * time.Second)
	for i := range map[bool]int{false: 1, true: 2}[s.Twice] {
		k := s.Workers[0]
		s.Workers = append(s.Workers[1:], k)
		n := s.nodes[k]
		s.alive++
		s.runs.Go(func() {
			defer func() { // also after a kill
				s.mu.Lock()
				defer s.mu.Unlock()
				s.alive--
			}()
			<-time.After(time.Duration(i) * time.Millisecond) // no two at the same time, so that each plot has one outcome
			s.mu.Lock()
			resumed := s.resumed
			s.mu.Unlock()
			over := n.engine.Work(context.WithValue(ctx, nodeKey{}, n), store.Task{V: 1, Job: s.id, Dispatch: dispatch})
			s.mu.Lock()
			state := s.record.state()
			if over && !state.Terminal() && state != nexus.RollbackFailed && resumed == s.resumed {
				s.broken("worker %d says the job is over, it is %s", n.name, state)
			}
			s.mu.Unlock()
		})
	}
}

// strike applies the blows whose time has come.
func (s *simulation) strike(ctx context.Context) {
	s.Blows = slices.DeleteFunc(s.Blows, func(b blow) bool {
		if time.Since(s.begin) < time.Duration(b.At)*500*time.Millisecond {
			return false
		}
		n := s.nodes[b.Node]
		switch b.What {
		case "cancel":
			back := s.record.state() == nexus.RollingBack
			s.free(func() {
				_, err := s.store.Cancel(ctx, s.id, "op")
				s.canceled = s.canceled || err == nil && !back
			})
		case "drain", "leave":
			s.runs.Go(func() {
				s.mu.Lock()
				n.thaw()
				s.mu.Unlock()
				n.engine.Drain()
				if b.What == "leave" {
					n.engine.Abandon(context.WithValue(ctx, nodeKey{}, n))
				}
			})
			s.nodes[b.Node] = s.worker(b.Node)
		case "freeze":
			s.world.losses++
			n.freeze(time.Duration(b.For) * time.Second)
		case "redis":
			s.away.failed = true
			s.away.until = time.Now().Add(time.Duration(b.For) * time.Second)
			s.calm = s.away.until.Add(store.LeaseTime)
		}
		return true
	})
}

// live runs the job to its end, and waits for all workers that still work on it.
func (s *simulation) live(ctx context.Context) (end nexus.Job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for err == nil && time.Since(s.begin) < 6*time.Hour && len(s.wrong) == 0 {
		s.strike(ctx)
		s.hand(ctx)
		s.free(func() { <-time.After(500*time.Millisecond + 13*time.Microsecond) })
		if s.record.state().Terminal() && s.alive == 0 {
			s.free(func() { end, err = s.store.Job(ctx, s.id) })
			return end, err
		}
		if s.record.state() == nexus.RollbackFailed {
			s.resumed++
			s.free(func() { _, err = s.store.Resume(ctx, s.id, "op") })
		}
		if s.away.out() {
			continue
		}
		score, noEntry := s.away.redis.ZScore("{nexus}:due", string(s.id))
		if noEntry != nil || int64(score) > time.Now().UnixMilli() || err != nil {
			continue
		}
		var found store.Found
		s.free(func() { found, err = s.store.Tick(ctx, !time.Now().Before(s.calm)) })
		if len(found.Rescued) > 0 && s.world.losses == 0 && !s.away.failed {
			s.broken("rescued from a worker that lives")
		}
	}
	if err == nil && len(s.wrong) == 0 {
		s.broken("the job never ended: %v", s.record)
	}
	return end, err
}

// stop ends all calls that are still running.
func (s *simulation) stop() {
	close(s.ended)
	for _, n := range s.nodes {
		n.engine.Drain()
	}
	s.runs.Wait()
}

// play runs a plot in simulated time and returns what was wrong.
func play(t *testing.T, m *miniredis.Miniredis, p plot) (wrong string) {
	synctest.Test(t, func(t *testing.T) {
		m.FlushAll()
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), PoolSize: 50, MaxRetries: -1,
			ReadTimeout: -1, WriteTimeout: -1}) // no timeouts in real time
		defer rdb.Close() //nolint:errcheck // only a test
		s, err := newSimulation(t.Context(), m, rdb, p)
		if err != nil {
			wrong = err.Error()
			return
		}
		end, err := s.live(t.Context())
		if err != nil {
			s.broken("%v", err)
		}
		if len(s.wrong) == 0 {
			s.world.check(end)
			s.check(t.Context(), end)
		}
		s.stop()
		wrong = strings.Join(s.wrong, "\n")
	})
	return wrong
}

// pinned are plots that random runs seldom find.
var pinned = []struct {
	name string
	plot plot
}{
	{"a cancel that the next write of the journal tells", plot{Kind: nexus.KindProvision, Undos: []bool{true, true}, Calls: []call{{Took: 1}},
		Blows: []blow{{At: 1, What: "cancel"}}}},
	{"a cancel that only the end tells", plot{Kind: nexus.KindProvision, Undos: []bool{true}, Calls: []call{{Took: 1}},
		Blows: []blow{{At: 1, What: "cancel"}}}},
	{"progress that is late", plot{Kind: nexus.KindProvision, Undos: []bool{true, true, true, true, true}, Calls: slices.Repeat([]call{{Took: 1, Tell: 2}}, 5)}},
	{"an undo that has to rest", plot{Kind: nexus.KindProvision, Undos: []bool{true, false, false}, Calls: []call{{}, {}, {Kind: "invalid"}, {Kind: "unavailable"}}}},
	{"a step that is done when the time is over", plot{Kind: nexus.KindRotateKey, Undos: []bool{false, false}, GiveUp: 5, Calls: []call{{Took: 7}}}},
	{"a worker that outlives its job", plot{Kind: nexus.KindProvision, Undos: []bool{true, false}, Calls: []call{{}, {Freeze: 2, For: 30}}}},
	{"a token below the bench's", plot{Kind: nexus.KindProvision, Undos: []bool{true}, Calls: []call{{Kind: "stale token"}}}},
	{"a run that ends while its worker gives up the lease", plot{Kind: nexus.KindProvision, Undos: []bool{true}, Calls: []call{{Took: 30}},
		Redis: []string{"", "", "", "", "slow"}, Blows: []blow{{At: 4, What: "leave"}}}},
	{"a step that kills all its workers", plot{Kind: nexus.KindProvision, Undos: []bool{true}, Calls: slices.Repeat([]call{{Kind: "kill after"}}, 6)}},
}

// TestSaga runs random jobs of every kind with several workers. Calls of Do, Undo and Redis
// fail in every way, answers are lost, and workers are killed, drained, or suspended, so that
// they continue after another worker has taken over. In all cases the job ends. Either all of
// its effects are there or none of them. By the journal each step is done once, and the steps
// are undone in reverse order. A worker that has lost the job changes nothing after that.
func TestSaga(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	for _, tc := range pinned {
		if tc.plot.Workers = []int{0, 1, 2}; tc.plot.GiveUp == 0 {
			tc.plot.GiveUp = 86400
		}
		if wrong := play(t, m, tc.plot); wrong != "" {
			t.Errorf("%s: %s", tc.name, wrong)
		}
	}
	if t.Failed() {
		return
	}
	rapid.Check(t, func(rt *rapid.T) {
		if wrong := play(t, m, plots.Draw(rt, "plot")); wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// begun tells whether a job may have changed anything: more than one start of its first
// step, or one of a later step.
func begun(job nexus.Job) bool {
	return job.Steps[0].Starts > 1 || slices.ContainsFunc(job.Steps[1:], func(s nexus.Step) bool { return s.Starts > 0 })
}

// check compares the record and the tenant's row with the end of the job.
func (s *simulation) check(ctx context.Context, end nexus.Job) {
	faults := len(slices.DeleteFunc(slices.Clone(s.Redis), func(f string) bool { return f == "" })) // each may cause the loss of a lease
	unhurt := !s.world.failed && s.world.losses+faults <= 5 && time.Since(s.begin) < time.Duration(s.GiveUp)*time.Second
	switch {
	case end.State == nexus.Succeeded && s.canceled:
		s.broken("canceled in time, and succeeded")
	case end.State == nexus.Canceled && !s.canceled:
		s.broken("canceled unasked")
	case s.world.poisoned && end.State == nexus.Succeeded && !s.kind.OneWay():
		s.broken("a step cost six workers, and was tried again")
	case end.State == nexus.Failed && (s.canceled && unhurt || s.kind.OneWay() && begun(end)), end.State != nexus.Succeeded && unhurt && !s.canceled:
		s.broken("%s for no reason", end.State)
	case end.State == nexus.Canceled && end.Gen == 0: // canceled at once, never taken
	case end.State != nexus.Succeeded && (end.Error == nil || end.Error.Message == "" || end.Error.Action == "" || end.Error.First != nil):
		s.broken("%s without a word for people: %+v", end.State, end.Error)
	case end.State == nexus.Succeeded && end.Error != nil:
		s.broken("succeeded with %+v", end.Error)
	}
	events, err := s.store.Events(ctx, s.id, 0)
	if err != nil {
		s.broken("%v", err)
	}
	for _, step := range end.Steps {
		done, undone, last := 0, 0, step.Name == end.Steps[len(end.Steps)-1].Name
		for _, e := range events {
			switch {
			case e.Step == step.Name && e.StepState == nexus.StepDone && (e.State == nexus.Running || last):
				done++
			case e.Step == step.Name && e.StepState == nexus.StepUndone:
				undone++
			}
		}
		switch {
		case end.State == nexus.Succeeded && step.State != nexus.StepDone, end.State != nexus.Succeeded && step.State != nexus.StepPending && step.State != nexus.StepUndone:
			s.broken("%s, and %s is %s", end.State, step.Name, step.State)
		case done > 1 && !s.away.hurt && !last, done < 1 && end.State == nexus.Succeeded:
			s.broken("%s is told as done %d times", step.Name, done)
		case undone > 1 && !s.away.hurt, undone < 1 && step.State == nexus.StepUndone && !s.world.told:
			s.broken("%s is told as undone %d times", step.Name, undone)
		}
	}
	s.checkTenant(ctx, end)
	if due, _ := s.away.redis.ZMembers("{nexus}:due"); slices.Contains(due, string(s.id)) {
		s.broken("the due index still holds the job")
	}
	for _, key := range []string{"{nexus}:slots:main", "{nexus}:waiters:main", "{nexus}:slots:main machine", "{nexus}:waiters:main machine"} {
		if s.away.redis.Exists(key) {
			s.broken("%s is left", key)
		}
	}
}

func (s *simulation) checkTenant(ctx context.Context, end nexus.Job) {
	done := end.State == nexus.Succeeded
	want := map[nexus.Kind]map[bool]nexus.TenantState{ // missing: the tenant has no row
		nexus.KindProvision: {true: nexus.TenantActive}, nexus.KindAdopt: {true: nexus.TenantActive},
		nexus.KindSuspend:   {true: nexus.TenantSuspended, false: nexus.TenantActive},
		nexus.KindRestore:   {true: nexus.TenantActive, false: nexus.TenantSuspended},
		nexus.KindRotateKey: {true: nexus.TenantActive, false: nexus.TenantActive},
		nexus.KindTeardown:  {false: nexus.TenantActive},
	}[s.kind][done]
	row, err := s.store.Tenant(ctx, "acme.localhost")
	if gone := nexus.CodeOf(err) == nexus.NotFound; gone != (want == "") || !gone && (row.State != want || row.Job != "") {
		s.broken("%s %s, and the tenant is %+v, %v", s.kind, end.State, row, err)
	}
}
