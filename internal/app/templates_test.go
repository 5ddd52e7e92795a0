package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

const frozen nexus.SiteName = "plain-eeeeeeee" // made by the job lost

// stock is a registry, and a sandbox with one template.
type stock struct {
	redis *miniredis.Miniredis
	rdb   *redis.Client
	store *store.Store
	dir   string
	bench *bench.Sandbox
	drops []nexus.Op
	meet  func() error // called before each drop, unless nil
	then  func()       // called once, after the templates are listed, unless nil
	bare  bool         // the bench's register is empty
	lost  bool         // the bench does not know which job made the template
}

// Run records drops, and lets a test answer instead of the sandbox.
func (s *stock) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if _, ok := op.Args.(nexus.DropSite); ok {
		if s.drops = append(s.drops, op); s.meet != nil {
			if err := s.meet(); err != nil {
				return nexus.Result{}, err
			}
		}
	}
	result, err := s.bench.Run(ctx, op)
	if _, ok := op.Args.(nexus.Templates); ok && s.then != nil {
		then := s.then
		s.then = nil
		then()
	}
	if s.lost && len(result.Templates) > 0 {
		result.Templates[0].Job = ""
	}
	if s.bare && result.Inventory != nil {
		result.Inventory.Databases = nil
	}
	return result, err
}

// open opens the sandbox with another version of its app.
func (s *stock) open(t *testing.T, version string) {
	t.Helper()
	var err error
	if s.bench, err = bench.NewSandbox(bench.SandboxOptions{Dir: s.dir, Install: install, Apps: map[string]string{"frappe": version, "erpnext": version}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.bench.Close() })
}

func newStock(t *testing.T) *stock {
	t.Helper()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	s := &stock{redis: server, rdb: rdb, store: store.New(rdb, store.Options{Embedded: true}), dir: t.TempDir()}
	s.open(t, "16.1.0")
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.Freeze{Spec: nexus.TemplatePlain, Apps: []string{"erpnext"}}} {
		if _, err := s.bench.Run(t.Context(), nexus.Op{Site: frozen, Room: nexus.RoomTemplates, DB: lost.Database(install), Owner: lost, Gen: 1, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	s.offer(t)
	return s
}

// onBench lists the templates on the bench.
func (s *stock) onBench(t *testing.T) []nexus.Template {
	t.Helper()
	result, err := s.bench.Run(t.Context(), nexus.Op{Args: nexus.Templates{}})
	if err != nil {
		t.Fatal(err)
	}
	return result.Templates
}

func (s *stock) offer(t *testing.T) {
	t.Helper()
	if err := s.store.OfferTemplates(t.Context(), "main", s.onBench(t)); err != nil {
		t.Fatal(err)
	}
}

// listed is what the registry has: the names, with a star for one that is offered.
func listed(ctx context.Context, t *testing.T, st *store.Store) (out []string) {
	t.Helper()
	all, err := st.Templates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range all {
		out = append(out, string(each.Name)+map[bool]string{true: "*"}[each.Offered])
	}
	return out
}

// job records the job that built the template, and ends or parks it.
func (s *stock) job(t *testing.T, state nexus.State) {
	t.Helper()
	job, _, err := s.store.Submit(t.Context(), store.Submission{ID: lost, Kind: nexus.KindTemplate, Site: frozen, Build: "plain erpnext", Bench: "main", GiveUpAfter: time.Hour,
		Steps: tasks.Steps(nexus.KindTemplate)})
	if err == nil && state != nexus.Queued {
		var lease *store.Lease
		if lease, job, _, err = s.store.Take(t.Context(), job.ID, job.Dispatch, nil); err == nil {
			job.State = state
			err = lease.Finish(t.Context(), &job, "", nexus.Event{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stock) drop(t *testing.T, name nexus.SiteName) error {
	t.Helper()
	return app.DropTemplateOn(t.Context(), s.store, s, install, name, func(string, nexus.Template) error { return nil })
}

// TestDropTemplate: a template is withdrawn and then dropped, and the list is written anew.
func TestDropTemplate(t *testing.T) {
	t.Parallel()
	for _, state := range []nexus.State{"", nexus.Succeeded, nexus.Failed} { // of the job that built it; "": its record has expired
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			s := newStock(t)
			if state != "" {
				s.job(t, state)
			}
			s.meet = func() error {
				if got := listed(t.Context(), t, s.store); !cmp.Equal(got, []string{string(frozen)}) {
					t.Errorf("when it is dropped: %v", got)
				}
				return nil
			}
			if err := s.drop(t, frozen); err != nil {
				t.Fatal(err)
			}
			if left, got := s.onBench(t), listed(t.Context(), t, s.store); len(left)+len(got) > 0 || len(s.drops) != 1 {
				t.Errorf("left %v, listed %v, dropped %d times", left, got, len(s.drops))
			}
			if op := s.drops[0]; op.Site != frozen || op.Room != nexus.RoomTemplates || op.DB != lost.Database(install) || op.Owner != lost || op.Gen == 0 || op.Submitted != op.Gen {
				t.Errorf("dropped by %+v", op)
			}
		})
	}
}

// TestDropTemplateRefused: nothing is changed if the template is not there, a job is building
// it, or the operator does not agree.
func TestDropTemplateRefused(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for _, tc := range []struct {
		name  string
		drop  nexus.SiteName
		state nexus.State
		sure  error
		lost  bool
		code  nexus.Code
		says  string
	}{
		{name: "unknown", drop: "plain-00000000", code: nexus.NotFound, says: "nexus templates list"},
		{name: "built", drop: frozen, state: nexus.Queued, code: nexus.Conflict, says: "nexus jobs cancel " + string(lost)},
		{name: "parked", drop: frozen, state: nexus.RollbackFailed, code: nexus.Conflict, says: "nexus jobs resume " + string(lost)},
		{name: "nobody's", drop: frozen, lost: true, code: nexus.Conflict, says: "by hand"},
		{name: "not agreed", drop: frozen, sure: no},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStock(t)
			if tc.state != "" {
				s.job(t, tc.state)
			}
			asked := ""
			s.lost = tc.lost
			err := app.DropTemplateOn(t.Context(), s.store, s, install, tc.drop, func(name string, template nexus.Template) error {
				asked = name + " " + string(template.Name)
				return tc.sure
			})
			if tc.sure != nil && (!errors.Is(err, no) || asked != "main "+string(frozen)) || tc.sure == nil && (nexus.CodeOf(err) != tc.code || !strings.Contains(nexus.MessageOf(err), tc.says) || asked != "") {
				t.Errorf("%v, asked %q", err, asked)
			}
			if got := listed(t.Context(), t, s.store); len(s.drops) > 0 || !cmp.Equal(got, []string{string(frozen) + "*"}) {
				t.Errorf("dropped %v, offered %v", s.drops, got)
			}
		})
	}
}

// TestDropTemplateFenced: if the bench refuses the token as too low, a higher one is tried,
// unless a job is building the template now.
func TestDropTemplateFenced(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy %t", busy), func(t *testing.T) {
			t.Parallel()
			s := newStock(t)
			seen := nexus.Gen(time.Now().Add(time.Hour).UnixMicro())
			s.meet = func() error {
				if len(s.drops) > 1 {
					return nil
				}
				if busy {
					s.job(t, nexus.Queued)
				}
				return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "Newer.", Seen: seen}
			}
			err := s.drop(t, frozen)
			if busy && (nexus.CodeOf(err) != nexus.Conflict || len(s.drops) != 1 || len(s.onBench(t)) != 1) {
				t.Errorf("%v, dropped %d times", err, len(s.drops))
			}
			if !busy && (err != nil || len(s.drops) != 2 || s.drops[1].Gen <= seen || len(s.onBench(t)) > 0) {
				t.Errorf("%v, dropped %d times", err, len(s.drops))
			}
		})
	}
}

// TestDoctorTemplates: a template that became unusable is found and removed; a good one is
// nothing to the doctor, and neither is one that a job is building.
func TestDoctorTemplates(t *testing.T) {
	t.Parallel()
	s := newStock(t)
	doctor := func(o app.DoctorOptions) app.DoctorReport {
		t.Helper()
		report, err := app.DoctorOn(t.Context(), s.store, s, install, o)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := doctor(app.DoctorOptions{Fix: true}); len(report.Findings)+len(report.Mended)+len(report.Failed) > 0 {
		t.Errorf("a good template: %+v", report)
	}
	s.open(t, "16.2.0") // the bench was upgraded
	s.bare = true       // only the template names its job
	report := doctor(app.DoctorOptions{})
	if len(report.Findings) != 1 || report.Findings[0].Kind != tasks.UnusableTemplate || !report.Findings[0].Safe || !strings.Contains(report.Findings[0].What, "apps have changed") {
		t.Fatalf("%+v", report)
	}
	s.job(t, nexus.Queued)
	if report := doctor(app.DoctorOptions{Fix: true}); len(report.Findings)+len(report.Mended) > 0 || len(s.drops) > 0 {
		t.Errorf("while it is built: %+v", report)
	}
	if _, err := s.store.Cancel(t.Context(), lost, "op"); err != nil {
		t.Fatal(err)
	}
	if report := doctor(app.DoctorOptions{Fix: true}); len(report.Findings)+len(report.Failed) > 0 || len(report.Mended) != 1 || len(s.onBench(t)) > 0 {
		t.Errorf("%+v, left %v", report, s.onBench(t))
	}
	if op := s.drops[0]; len(s.drops) != 1 || op.Room != nexus.RoomTemplates || op.Owner != lost {
		t.Errorf("dropped by %+v", s.drops)
	}
}

// TestWorkerOffersTemplates: a worker writes the list of its bench at its start and every
// minute. It changes nothing if the bench does not answer, or knows no templates.
func TestWorkerOffersTemplates(t *testing.T) {
	t.Parallel()
	list := func(names ...nexus.SiteName) func() (nexus.Result, error) {
		var out []nexus.Template
		for i, name := range names {
			out = append(out, nexus.Template{Name: name, Spec: nexus.TemplatePlain, MadeAt: time.Unix(int64(i), 0)})
		}
		return func() (nexus.Result, error) { return nexus.Result{Templates: out}, nil }
	}
	fails := func(code nexus.Code) func() (nexus.Result, error) {
		return func() (nexus.Result, error) { return nexus.Result{}, &nexus.Error{Code: code, Op: "bench", Msg: "No."} }
	}
	m := miniredis.RunT(t)
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), ReadTimeout: -1, WriteTimeout: -1})
		defer rdb.Close() //nolint:errcheck // only a test
		st := store.New(rdb, store.Options{Embedded: true})
		if err := st.AnnounceBench(t.Context(), "sandbox"); err != nil {
			t.Fatal(err)
		}
		driver := &asked{answers: []func() (nexus.Result, error){list("a"), fails(nexus.Unavailable), fails(nexus.Invalid), list("a", "b"), list("c")}}
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- app.OfferTemplates(ctx, app.Config{Bench: "sandbox"}, log, st, driver) }()
		for i, want := range []string{"[a*]", "[a*]", "[a*]", "[a b*]", "[c*]"} {
			<-time.After(time.Second)
			if got := fmt.Sprint(listed(ctx, t, st)); got != want {
				t.Errorf("after %d minutes: %s, want %s", i, got, want)
			}
			if i == 3 {
				m.FlushAll() // Redis was restored from an empty backup
				if err := st.AnnounceBench(t.Context(), "sandbox"); err != nil {
					t.Error(err)
				}
			}
			<-time.After(time.Minute - time.Second)
		}
		stop()
		if err := <-ended; err != nil || strings.Count(out.String(), "templates of the bench not listed") != 1 {
			t.Errorf("%v, logged %s", err, out.String())
		}
		single := app.Config{Bench: "sandbox", Mode: "single"}
		if err := app.OfferTemplates(t.Context(), single, log, nil, nil); err != nil { // it would panic
			t.Error(err)
		}
	})
}

// TestListedSpecs: signups get what workers build first, and what else the bench has.
func TestListedSpecs(t *testing.T) {
	t.Parallel()
	c := app.Config{Templates: []string{"de:skr04", "plain"}}
	if got := app.SpecsOf(c, nil); !slices.Equal(got, []nexus.TemplateSpec{"DE:SKR04", "plain"}) {
		t.Errorf("before they are listed: %v", got)
	}
	if got := app.SpecsOf(c, []nexus.Template{{Spec: "plain"}, {Spec: "CH:KMU"}}); !slices.Equal(nexus.FittingSpecs("CH", got), []nexus.TemplateSpec{"CH:KMU", "CH", "plain"}) ||
		nexus.FittingSpecs("DE", got)[0] != "DE:SKR04" {
		t.Errorf("with others on the bench: %v", got)
	}
}
