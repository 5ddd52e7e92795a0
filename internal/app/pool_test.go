package app_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

const plainKey = "plain erpnext"

// shop is a stock whose workers keep standbys.
type shop struct {
	*stock
	t       *testing.T
	c       app.Config
	sized   int64        // bytes of a template
	found   func()       // called once, after the standbys are listed, unless nil
	foreign bool         // the bench lists other databases
	faulty  nexus.OpName // it fails
	warms   int          // calls of Warm
	warming func()       // called with each of them, unless nil
}

// Run changes what the sandbox lists, as a test wants it.
func (s *shop) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if op.Args.Op() == nexus.OpWarm {
		if s.warms++; s.warming != nil {
			s.warming()
		}
	}
	if op.Args.Op() == s.faulty {
		return nexus.Result{}, &nexus.Error{Code: nexus.Unavailable, Op: "shop", Msg: "Away."}
	}
	result, err := s.stock.Run(ctx, op)
	for i := range result.Templates {
		result.Templates[i].Bytes = s.sized
	}
	for i := range result.Standbys {
		if s.foreign {
			result.Standbys[i].DB = "nx9f3c00000000000000000000"
		}
	}
	if found := s.found; found != nil && op.Args.Op() == nexus.OpStandbys {
		s.found = nil
		found()
	}
	return result, err
}

func newShop(t *testing.T, pool string) *shop {
	t.Helper()
	return &shop{stock: newStock(t), t: t,
		c: app.Config{Bench: "sandbox", Pool: pool, PoolBytes: "10GiB", Apps: []string{"erpnext"}, ProvisionTimeout: time.Hour}}
}

// shopkeeper is a worker of a shop.
type shopkeeper struct{ compare, tend, round, list func() }

// worker returns another worker, which has listed the templates and compared the shelves.
func (s *shop) worker() shopkeeper {
	s.t.Helper()
	compare, tend, round, list := app.Pool(s.c, s.store, s, install)
	must := func(do func(context.Context) error) func() {
		return func() {
			s.t.Helper()
			if err := do(s.t.Context()); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	w := shopkeeper{must(compare), must(tend), must(round), must(list)}
	w.list()
	w.compare()
	return w
}

func (s *shop) shelf() nexus.Shelf {
	s.t.Helper()
	shelves, err := s.store.Shelves(s.t.Context(), "main")
	if err != nil || len(shelves) > 1 {
		s.t.Fatalf("shelves %v, %v", shelves, err)
	}
	if len(shelves) == 0 {
		return nexus.Shelf{}
	}
	return shelves[0]
}

// want compares the shelf with numbers of standbys that are made, on the shelf, and on the
// bench.
func (s *shop) want(when string, making, shelved, onBench int) {
	s.t.Helper()
	shelf := s.shelf()
	if m, n, there := shelf.Count(nexus.StandbyMaking), shelf.Count(nexus.StandbyShelved), len(s.there()); m != making || n != shelved || there != onBench {
		s.t.Errorf("%s: %d are made, %d shelved, %d on the bench; want %d, %d, %d", when, m, n, there, making, shelved, onBench)
	}
}

// there lists the standbys of the bench.
func (s *shop) there() []nexus.Standby {
	s.t.Helper()
	result, err := s.Run(s.t.Context(), nexus.Op{Args: nexus.Standbys{}})
	if err != nil {
		s.t.Fatal(err)
	}
	return result.Standbys
}

// begin takes a job that is queued, and reserves its slot.
func (s *shop) begin(id nexus.JobID, keys ...string) (*store.Lease, nexus.Job) {
	s.t.Helper()
	job, err := s.store.Job(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	lease, job, _, err := s.store.Take(s.t.Context(), id, job.Dispatch, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	way, err := lease.Reserve(s.t.Context(), "main", job.ID.Database(install), keys...)
	if err != nil {
		s.t.Fatal(err)
	}
	job.Take(way)
	return lease, job
}

func (s *shop) finish(lease *store.Lease, job nexus.Job, as nexus.State) {
	s.t.Helper()
	job.State = as
	if err := lease.Finish(s.t.Context(), &job, "", nexus.Event{}); err != nil {
		s.t.Fatal(err)
	}
}

// made does the jobs that make standbys, or fails them.
func (s *shop) made(as nexus.State) {
	s.t.Helper()
	for _, each := range s.shelf().Standbys {
		if each.State != nexus.StandbyMaking {
			continue
		}
		lease, job := s.begin(each.Job, plainKey)
		began := time.Now()
		job.Steps[1].StartedAt = &began
		if _, err := lease.Checkpoint(s.t.Context(), &job, ""); err != nil {
			s.t.Fatal(err)
		}
		for _, args := range []nexus.Args{nexus.Clone{Template: job.Template}, nexus.Shelve{}} {
			if as != nexus.Succeeded {
				break
			}
			if _, err := s.Run(s.t.Context(), nexus.Op{Site: job.Site, Room: nexus.RoomStandby, DB: job.DB, Owner: job.ID, Gen: job.Gen, Args: args}); err != nil {
				s.t.Fatal(err)
			}
		}
		for i := range job.Steps[1:] { // a build takes 20 ms
			job.Steps[1+i].Starts, job.Steps[1+i].StartedAt, job.Steps[1+i].EndedAt = 1, &began, new(began.Add(10*time.Millisecond))
		}
		s.finish(lease, job, as)
	}
}

// signup begins a signup, which takes a standby if there is one.
func (s *shop) signup() (*store.Lease, nexus.Job) {
	s.t.Helper()
	id := nexus.NewJobID()
	sub := store.Submission{ID: id, Kind: nexus.KindProvision, Site: nexus.SiteName(id[:8]) + ".example.com", Actor: "test",
		Steps: tasks.Steps(nexus.KindProvision), GiveUpAfter: time.Hour}
	if _, _, err := s.store.Submit(s.t.Context(), sub); err != nil {
		s.t.Fatal(err)
	}
	return s.begin(id, plainKey)
}

// full is a shop whose shelf holds as many as it is to hold.
func full(t *testing.T, pool string) (*shop, shopkeeper) {
	t.Helper()
	s := newShop(t, pool)
	w := s.worker()
	w.tend()
	w.tend()
	s.made(nexus.Succeeded)
	w.tend()
	return s, w
}

// TestPoolFills: a shelf is filled to its size, by jobs that anyone may look up. One that was
// taken is replaced, and the size grows with the demand, up to the limit.
func TestPoolFills(t *testing.T) {
	t.Parallel()
	s := newShop(t, "2-4")
	w := s.worker()
	w.tend()
	if shelf := s.shelf(); !shelf.Kept || shelf.Key != plainKey || shelf.Target != 2 {
		t.Errorf("the shelf: %+v", shelf)
	}
	w.tend()
	s.want("at first", 2, 0, 0)
	job, err := s.store.Job(t.Context(), s.shelf().Standbys[0].Job)
	if err != nil || job.Actor != "pool" || job.Kind != nexus.KindStandby || job.Site != nexus.StandbyName(job.ID) {
		t.Errorf("the job: %+v, %v", job, err)
	}
	s.made(nexus.Succeeded)
	w.tend()
	s.want("when it is full", 0, 2, 2)
	if _, taker := s.signup(); taker.Standby == "" {
		t.Error("a signup got no standby")
	}
	w.tend()
	s.want("after a signup", 1, 1, 2)
	for range 2 {
		s.signup()
	}
	w.tend()
	if shelf := s.shelf(); shelf.Target < 3 {
		t.Errorf("after three: %+v", shelf)
	}
	for range 3 {
		s.signup()
	}
	w.tend()
	if shelf := s.shelf(); shelf.Target != 4 {
		t.Errorf("after many: %+v", shelf)
	}
}

// TestPoolOfOtherApps: a template with other apps is for the signups of other workers.
func TestPoolOfOtherApps(t *testing.T) {
	t.Parallel()
	s := newShop(t, "2")
	s.c.Apps = []string{"erpnext", "hrms?"}
	w := s.worker()
	w.tend()
	w.tend()
	if shelf := s.shelf(); shelf.Kept || len(shelf.Standbys) > 0 {
		t.Errorf("%+v", shelf)
	}
}

// TestPoolFillsOnce: keepers that look at the same time make no more than the size.
func TestPoolFillsOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, "3")
	var all sync.WaitGroup
	for range 8 {
		w := s.worker()
		all.Go(func() { w.tend(); w.tend(); w.tend() })
	}
	all.Wait()
	s.want("after eight at once", 3, 0, 0)
}

// TestPoolBytes: the standbys take no more of the disk than they may.
func TestPoolBytes(t *testing.T) {
	t.Parallel()
	s := newShop(t, "5")
	s.sized = 4 << 20
	s.c.PoolBytes = "10MiB"
	w := s.worker()
	w.tend()
	w.tend()
	s.want("of 10 MiB", 2, 0, 0)
	if err := s.store.FillShelf(t.Context(), "main", plainKey, 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	w.tend()
	s.want("when an operator wants more", 2, 0, 0)
}

// TestPoolWaits: on a bench that is not open nothing is made and nothing dropped.
func TestPoolWaits(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	lease, job := s.signup()
	s.finish(lease, job, nexus.Failed) // its standby is to be dropped
	s.open(t, "16.2.0")                // and so are all others
	for _, mode := range []nexus.BenchMode{nexus.BenchPaused, nexus.BenchDrained} {
		if err := s.store.SetBench(t.Context(), "main", mode, "op"); err != nil {
			t.Fatal(err)
		}
		w.compare()
		w.compare()
		w.tend()
		s.want(string(mode), 0, 1, 2)
	}
	s.open(t, "16.1.0")
	if err := s.store.SetBench(t.Context(), "main", nexus.BenchOpen, "op"); err != nil {
		t.Fatal(err)
	}
	w.tend()
	s.want("open", 1, 1, 1)
}

// TestPoolBacksOff: after a job that failed, none is made for a while.
func TestPoolBacksOff(t *testing.T) {
	t.Parallel()
	s := newShop(t, "1")
	w := s.worker()
	w.tend()
	w.tend()
	s.made(nexus.Failed)
	w.tend()
	s.want("at once", 0, 0, 0)
	s.rdb.HSet(t.Context(), "{nexus}:pool:main "+plainKey, "failedAt", time.Now().Add(-31*time.Second).UnixMilli())
	w.tend()
	s.want("half a minute later", 1, 0, 0)
}

// TestPoolRenews: the oldest of the standbys that are a day old is dropped and made anew,
// then the next one.
func TestPoolRenews(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	for _, each := range s.shelf().Standbys {
		s.rdb.HSet(t.Context(), "{nexus}:standby:"+string(each.Job), "at", time.Now().Add(-25*time.Hour).UnixMilli())
	}
	w.tend()
	s.want("one is dropped", 0, 1, 1)
	w.tend()
	s.want("and made", 1, 1, 1)
	w.tend()
	s.made(nexus.Succeeded)
	w.tend()
	w.tend()
	s.want("then the other", 1, 1, 1)
}

// TestPoolDrops: what a signup gave back is dropped, by a token of its own. One that cannot be
// dropped is tried again after a minute, and nobody else tries meanwhile.
func TestPoolDrops(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	lease, job := s.signup()
	s.finish(lease, job, nexus.Failed)
	s.meet = func() error { return &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "Away."} }
	if _, tend, _, _ := app.Pool(s.c, s.store, s, install); tend(t.Context()) != nil {
		t.Error("a worker that has not compared yet dropped something")
	}
	compare, tend, _, list := app.Pool(s.c, s.store, s, install)
	if err := list(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := compare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tend(t.Context()); nexus.CodeOf(err) != nexus.Unavailable || len(s.drops) != 1 {
		t.Errorf("%v, dropped %d times", err, len(s.drops))
	}
	s.meet = nil
	w.tend()
	s.want("within a minute", 1, 1, 2)
	s.redis.FastForward(time.Minute)
	w.tend()
	s.want("a minute later", 1, 1, 1)
	op := s.drops[1]
	if op.Site != nexus.StandbyName(job.Standby) || op.Room != nexus.RoomStandby || op.DB != job.Standby.Database(install) || op.Owner != job.Standby || op.Gen == 0 || op.Submitted != op.Gen {
		t.Errorf("dropped by %+v", op)
	}
	w.tend()
	if len(s.drops) != 2 {
		t.Errorf("dropped %d times", len(s.drops))
	}
}

// TestPoolSparesClaims: a standby that a signup has taken is left alone, whatever the bench
// says of it, until that job is over.
func TestPoolSparesClaims(t *testing.T) {
	t.Parallel()
	s, w := full(t, "1")
	lease, job := s.signup()
	s.open(t, "16.2.0")
	w.compare()
	w.compare()
	w.tend()
	if len(s.drops) > 0 || s.shelf().Count(nexus.StandbyPopped) != 1 {
		t.Errorf("dropped %v, shelf %+v", s.drops, s.shelf())
	}
	s.finish(lease, job, nexus.Failed)
	w.tend()
	if len(s.drops) != 1 || len(s.there()) != 0 {
		t.Errorf("dropped %v, there %v", s.drops, s.there())
	}
}

// TestPoolRaces: a signup may take a standby that a worker has just decided to drop.
func TestPoolRaces(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	if err := s.store.DrainShelf(t.Context(), "main", plainKey); err != nil {
		t.Fatal(err)
	}
	var taken nexus.Job
	s.meet = func() error { _, taken = s.signup(); return nil }
	w.tend()
	if len(s.drops) != 1 || s.drops[0].Owner == taken.Standby || taken.Standby == "" || s.shelf().Count(nexus.StandbyPopped) != 1 {
		t.Errorf("dropped %v, the signup got %q", s.drops, taken.Standby)
	}
	s, w = full(t, "1")
	s.open(t, "16.2.0")
	w.compare()
	s.found = func() { _, taken = s.signup() }
	w.compare()
	if taken.Standby == "" || len(s.drops) > 0 || s.shelf().Count(nexus.StandbyPopped) != 1 {
		t.Errorf("the signup got %q, the shelf %+v", taken.Standby, s.shelf())
	}
}

// TestPoolDrainedAndFilled: an operator has a shelf emptied, then holds more than usual for a
// time.
func TestPoolDrainedAndFilled(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	if err := s.store.DrainShelf(t.Context(), "main", plainKey); err != nil {
		t.Fatal(err)
	}
	w.tend()
	w.tend()
	w.compare()
	w.tend()
	s.want("drained", 0, 0, 0)
	if err := s.store.FillShelf(t.Context(), "main", plainKey, 3, time.Hour); err != nil {
		t.Fatal(err)
	}
	w.tend()
	s.made(nexus.Succeeded)
	w.tend()
	s.want("filled", 0, 3, 3)
	s.rdb.HSet(t.Context(), "{nexus}:pool:main "+plainKey, "until", time.Now().Add(-time.Second).UnixMilli())
	s.signup()
	s.signup()
	w.tend()
	if shelf := s.shelf(); shelf.Count(nexus.StandbyMaking)+shelf.Count(nexus.StandbyShelved) != 2 {
		t.Errorf("when its time is over: %+v", shelf)
	}
}

// TestPoolOff: with a limit of zero nothing is made and the shelf is left, but what is on it
// may be taken, and is dropped when it is of no use. A worker that knows of no standby reads
// nothing.
func TestPoolOff(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "2")
	s.c.Pool = "0"
	w := s.worker()
	lease, job := s.signup()
	if err := s.store.FillShelf(t.Context(), "main", plainKey, 3, time.Hour); err != nil {
		t.Fatal(err)
	}
	w.tend()
	if shelf := s.shelf(); shelf.Kept || shelf.Count(nexus.StandbyMaking) > 0 || job.Standby == "" {
		t.Errorf("%+v, the signup got %q", shelf, job.Standby)
	}
	s.finish(lease, job, nexus.Failed)
	w.tend()
	s.want("after the signup failed", 0, 1, 1)
	lease, job = s.signup()
	s.finish(lease, job, nexus.Failed)
	w.tend()
	w.tend()
	asked := s.redis.CommandCount()
	w.tend()
	if n := s.redis.CommandCount(); n != asked {
		t.Errorf("%d commands", n-asked)
	}
	s.want("in the end", 0, 0, 0)
}
