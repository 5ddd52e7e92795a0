package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

const (
	maker      = nexus.JobID("fedcba9876543210fedcba9876543210")
	claimer    = nexus.JobID("0123456789abcdef0123456789abcdef")
	itsInstall = nexus.InstallID("9f3c")
)

var its, own = maker.Database(itsInstall), claimer.Database(itsInstall)

// claimBench is a bench with one standby.
type claimBench struct {
	t       *testing.T
	fails   string // how the claim fails: "", skips or breaks
	cancel  func() // called before the site is used; nil: never
	died    func()
	holders map[string]nexus.JobID // of the databases
	room    bool                   // the standby is in its room
	site    string                 // the database of the tenant's site; empty: there is none
	asked   []nexus.OpName
}

// Run does an operation. The worker may die before, after, and in the middle of a claim.
func (b *claimBench) Run(_ context.Context, op nexus.Op) (nexus.Result, error) {
	b.died()
	b.asked = append(b.asked, op.Args.Op())
	result, err := b.run(op)
	b.died()
	return result, err
}

func (b *claimBench) run(op nexus.Op) (nexus.Result, error) {
	switch args := op.Args.(type) {
	case nexus.Claim:
		if args.Maker != maker || args.Standby != nexus.StandbyName(maker) || op.DB != its {
			b.t.Errorf("claims %+v with the database %s", args, op.DB)
		}
		if b.site != "" && b.holders[b.site] == op.Owner {
			return nexus.Result{}, nil
		}
		if b.fails == "skips" || !b.room || b.holders[op.DB] != maker && b.holders[op.DB] != op.Owner {
			return nexus.Result{Skipped: true, Note: "It is not there."}, nil
		}
		b.holders[op.DB] = op.Owner
		b.died()
		if b.fails == "breaks" {
			return nexus.Result{}, &nexus.Error{Code: nexus.Internal, Op: "bench.claim", Msg: "It broke."}
		}
		b.room, b.site = false, op.DB
	case nexus.Clone, nexus.NewSite:
		if op.DB != own {
			b.t.Errorf("%s with the database %s", op.Args.Op(), op.DB)
		}
		b.holders[op.DB], b.site = op.Owner, op.DB
	case nexus.DropSite:
		if b.holders[op.DB] == op.Owner {
			delete(b.holders, op.DB)
			if b.site == op.DB {
				b.site = ""
			}
			b.room = b.room && op.DB != its
		}
	case nexus.Inspect:
	default:
		if b.cancel != nil {
			b.cancel()
		}
		if op.DB != b.site {
			b.t.Errorf("%s with the database %s, the site has %q", op.Args.Op(), op.DB, b.site)
		}
	}
	return nexus.Result{Changed: true}, nil
}

// deaths kills a worker at a place, counted over all places where it can die.
type deaths struct{ at, passed int }

func (d *deaths) died() {
	if d.passed++; d.passed == d.at {
		runtime.Goexit()
	}
}

type workerKey struct{}

// DialHook changes nothing.
func (*deaths) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing.
func (*deaths) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook lets the worker die before and after each script.
func (d *deaths) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		sha, text := cmd.Name() == "evalsha", cmd.Name() == "eval" // the text, if Redis does not have the script yet
		if ctx.Value(workerKey{}) == nil || !sha && !text {
			return next(ctx, cmd)
		}
		if sha {
			d.died()
		}
		err := next(ctx, cmd)
		if err == nil {
			d.died()
		}
		return err
	}
}

// claims runs a provision that pops a standby, with workers of which one dies at a place.
func claims(t *testing.T, fails string, cancels bool, at int) (b *claimBench, passed int) {
	h := newHarness(t)
	defer h.close()
	d := &deaths{at: at}
	h.rdb.AddHook(d)
	b = &claimBench{t: t, fails: fails, died: d.died, room: true, holders: map[string]nexus.JobID{its: maker}}
	if cancels {
		b.cancel = func() { _, _ = h.store.Cancel(t.Context(), claimer, "op") } // again is all the same
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.store.OfferTemplates(t.Context(), "main", []nexus.Template{{Name: "plain-2", Spec: nexus.TemplatePlain}}))
	must(h.store.Reshelve(t.Context(), "main", nexus.Standby{Job: maker, DB: its, Template: "plain-1", Spec: nexus.TemplatePlain}))
	input, _ := json.Marshal(tasks.Input{Password: "Secret-Horse-7"})
	sealed, err := h.keys.Seal(claimer, nexus.PurposeInput, input)
	must(err)
	job, _, err := h.store.Submit(t.Context(), store.Submission{ID: claimer, Kind: nexus.KindProvision, Site: "acme.localhost", Steps: tasks.Steps(nexus.KindProvision),
		Spec: nexus.Spec{Email: "jane@example.com", Organization: "Acme", Plan: "free"}, Input: sealed, KeyID: h.keys.ID(), GiveUpAfter: 24 * time.Hour})
	must(err)
	registry := prometheus.NewRegistry()
	metrics := worker.NewMetrics(registry)
	for range 40 {
		if job.State.Terminal() {
			break
		}
		if job.Taken < job.Dispatch {
			done, now := make(chan struct{}), h.now
			go func() {
				defer close(done)
				worker.NewEngine(worker.Options{Store: h.store, Bench: b, Keys: h.keys, Settings: tasks.Settings{Bench: "main", Install: itsInstall}, Metrics: metrics,
					Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Jitter: func() float64 { return 0.5 }, Renew: time.Hour}).
					Work(context.WithValue(context.Background(), workerKey{}, true), store.Task{V: 1, Job: claimer, Dispatch: job.Dispatch})
			}()
			<-done
		}
		h.advance(3 * time.Second)
		_, err := h.store.Tick(t.Context(), true)
		must(err)
		job, err = h.store.Job(t.Context(), claimer)
		must(err)
	}
	checkClaim(t, h, b, job)
	if n := detoursBy(t, registry, nexus.RoadStandby); at == 0 && (n == 1) != (fails != "") {
		t.Errorf("%v detours counted", n)
	}
	return b, d.passed
}

// checkClaim compares the end of the job with what is on the bench, and with the shelf.
func checkClaim(t *testing.T, h *harness, b *claimBench, job nexus.Job) {
	t.Helper()
	all, err := h.store.Shelves(t.Context(), "main")
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	state, row := nexus.StandbyState(""), nexus.Tenant{}
	if len(all[0].Standbys) > 0 {
		state = all[0].Standbys[0].State
	}
	wantState, wantEnd, db, road, holders := nexus.StandbyState(""), nexus.Succeeded, its, nexus.RoadStandby, map[string]nexus.JobID{its: claimer}
	switch b.fails {
	case "skips":
		wantState, db, road, holders = nexus.StandbyReaping, own, nexus.RoadClone, map[string]nexus.JobID{its: maker, own: claimer}
	case "breaks":
		wantState, db, road, holders = nexus.StandbyReaping, own, nexus.RoadClone, map[string]nexus.JobID{own: claimer}
	}
	if b.cancel != nil {
		wantState, wantEnd = nexus.StandbyReaping, nexus.Canceled
		delete(holders, db)
	} else if row, err = h.store.Tenant(t.Context(), "acme.localhost"); err != nil || row.DB != db || row.Road != road || b.site != db {
		t.Errorf("the tenant's row %+v, %v; the site's database is %q", row, err, b.site)
	}
	if job.State != wantEnd || job.DB != db || job.Road != road || state != wantState {
		t.Errorf("the job is %s (%+v) by %s with the database %s; the standby is %q", job.State, job.Error, job.Road, job.DB, state)
	}
	if detours := map[bool]int64{true: 1}[b.fails != ""]; all[0].Detours != detours {
		t.Errorf("%d detours of the shelf", all[0].Detours)
	}
	if !maps.Equal(b.holders, holders) || b.cancel != nil && b.site != "" {
		t.Errorf("on the bench: %v, the site %q", b.holders, b.site)
	}
}

// detoursBy is the value of the counter of detours from a road.
func detoursBy(t *testing.T, registry *prometheus.Registry, road nexus.Road) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "nexus_road_detours_total" && m.GetLabel()[0].GetValue() == string(road) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestClaimSurvivesCrashes: wherever the worker of a job dies that has popped a standby, the
// next one goes on with the recorded standby, or with the longer road if that was recorded.
// All operations after the site is made are on its database, and the rollback drops that.
func TestClaimSurvivesCrashes(t *testing.T) {
	t.Parallel()
	for _, fails := range []string{"", "skips", "breaks"} {
		for _, cancels := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s canceled %t", fails, cancels), func(t *testing.T) {
				t.Parallel()
				b, places := claims(t, fails, cancels, 0)
				if !slices.Contains(b.asked, nexus.OpClaim) || slices.Contains(b.asked, nexus.OpClone) != (fails != "") || places < 20 {
					t.Fatalf("asked %v, with %d places to die", b.asked, places)
				}
				for at := 1; at <= places && !t.Failed(); at++ {
					if claims(t, fails, cancels, at); t.Failed() {
						t.Logf("the worker died at place %d of %d", at, places)
					}
				}
			})
		}
	}
}
