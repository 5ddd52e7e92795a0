package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

const acmeSite nexus.SiteName = "acme.example.com"

// twoSides is a registry and a sandbox with one tenant.
type twoSides struct {
	redis *miniredis.Miniredis
	store *store.Store
	bench *bench.Sandbox
	marks []nexus.TenantState // asked of the bench by the doctor
	meet  func(nexus.Mark) error
}

// Run records marks, and lets a test answer instead of the sandbox.
func (s *twoSides) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if mark, ok := op.Args.(nexus.Mark); ok {
		s.marks = append(s.marks, mark.State)
		if s.meet != nil {
			if err := s.meet(mark); err != nil {
				return nexus.Result{}, err
			}
		}
	}
	return s.bench.Run(ctx, op)
}

func (s *twoSides) row(field string) string {
	return s.redis.HGet("{nexus}:tenant:"+string(acmeSite), field)
}

// newTwoSides makes the tenant with a state and its token in the registry, and others on
// the bench.
func newTwoSides(t *testing.T, registry nexus.TenantState, rowGen nexus.Gen, onBench nexus.TenantState, markGen nexus.Gen) *twoSides {
	t.Helper()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: t.TempDir(), Install: install})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sandbox.Close() })
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.Mark{State: onBench}} {
		if _, err := sandbox.Run(t.Context(), nexus.Op{Site: acmeSite, DB: lost.Database(install), Owner: lost, Gen: markGen, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	s := &twoSides{redis: server, store: store.New(rdb, store.Options{Embedded: true}), bench: sandbox}
	if err := s.store.Rebuild(t.Context(), nexus.Tenant{Site: acmeSite, State: registry, Plan: "free", Bench: "main", DB: lost.Database(install),
		MadeBy: lost, StateGen: rowGen}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *twoSides) doctor(t *testing.T, o app.DoctorOptions) app.DoctorReport {
	t.Helper()
	report, err := app.DoctorOn(t.Context(), s.store, s, install, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (s *twoSides) onBench(t *testing.T) string {
	t.Helper()
	result, err := s.bench.Run(t.Context(), nexus.Op{Site: acmeSite, Args: nexus.Inspect{}})
	if err != nil {
		t.Fatal(err)
	}
	return result.Site.State
}

// TestDoctorLooksAgainWhenFenced: if the tenant changes while the bench refuses the
// doctor's token, the doctor leaves it as it is.
func TestDoctorLooksAgainWhenFenced(t *testing.T) {
	t.Parallel()
	s := newTwoSides(t, nexus.TenantActive, 9, nexus.TenantSuspended, 5) // the registry is newer: safe to open
	s.meet = func(nexus.Mark) error {
		if len(s.marks) > 1 {
			return nil
		}
		s.redis.HSet("{nexus}:tenant:"+string(acmeSite), "state", "suspended") // a job has done that
		return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "Newer.", Seen: nexus.Gen(time.Now().Add(time.Hour).UnixMicro())}
	}
	report := s.doctor(t, app.DoctorOptions{Fix: true})
	if len(report.Failed) != 1 || len(report.Mended) > 0 || len(s.marks) != 1 {
		t.Errorf("%+v, marks %v", report, s.marks)
	}
	if s.row("state") != "suspended" || s.onBench(t) != "suspended" {
		t.Errorf("registry %s, bench %s", s.row("state"), s.onBench(t))
	}
}

// TestDoctorGoesOnWhenFenced: if nothing has changed, the doctor tries a higher token.
func TestDoctorGoesOnWhenFenced(t *testing.T) {
	t.Parallel()
	s := newTwoSides(t, nexus.TenantActive, 9, nexus.TenantSuspended, 5)
	s.meet = func(nexus.Mark) error {
		if len(s.marks) > 1 {
			return nil
		}
		return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "Newer.", Seen: nexus.Gen(time.Now().Add(time.Hour).UnixMicro())}
	}
	if report := s.doctor(t, app.DoctorOptions{Fix: true}); len(report.Findings)+len(report.Failed) > 0 || len(s.marks) != 2 {
		t.Errorf("%+v, marks %v", report, s.marks)
	}
	if s.onBench(t) != "active" {
		t.Errorf("the bench is %s", s.onBench(t))
	}
}

// TestDoctorDecides opens and closes a tenant whose two states differ.
func TestDoctorDecides(t *testing.T) {
	t.Parallel()
	for _, registry := range []nexus.TenantState{nexus.TenantActive, nexus.TenantSuspended} {
		for _, want := range []nexus.TenantState{nexus.TenantActive, nexus.TenantSuspended} {
			t.Run(fmt.Sprintf("%s becomes %s", registry, want), func(t *testing.T) {
				t.Parallel()
				onBench := map[nexus.TenantState]nexus.TenantState{nexus.TenantActive: nexus.TenantSuspended, nexus.TenantSuspended: nexus.TenantActive}[registry]
				s := newTwoSides(t, registry, 0, onBench, 5)
				if report := s.doctor(t, app.DoctorOptions{Fix: true}); len(report.Findings) != 1 || len(s.marks) > 0 {
					t.Fatalf("mended unasked: %+v", report)
				}
				if registry == nexus.TenantSuspended { // its date has passed
					s.redis.HSet("{nexus}:tenant:"+string(acmeSite), "purgeAt", "1000")
				}
				o := app.DoctorOptions{Open: []string{"acme"}}
				if want == nexus.TenantSuspended {
					o = app.DoctorOptions{Close: []string{string(acmeSite)}}
				}
				if report := s.doctor(t, o); len(report.Findings)+len(report.Failed) > 0 || len(report.Mended) != 1 {
					t.Fatalf("%+v", report)
				}
				row, err := s.store.Tenant(t.Context(), acmeSite)
				if err != nil || row.State != want || s.onBench(t) != string(want) {
					t.Errorf("registry %s, bench %s, %v", row.State, s.onBench(t), err)
				}
				if row.PurgeAt.IsZero() != (want == nexus.TenantActive) || want == nexus.TenantSuspended && time.Until(row.PurgeAt) < time.Minute {
					t.Errorf("to be purged at %s", row.PurgeAt)
				}
			})
		}
	}
	s := newTwoSides(t, nexus.TenantActive, 5, nexus.TenantActive, 5)
	if report := s.doctor(t, app.DoctorOptions{Close: []string{"acme"}}); len(report.Failed) != 1 || !strings.Contains(report.Failed[0], "is the same in the registry") || len(s.marks) > 0 {
		t.Errorf("closed though the two agree: %+v", report)
	}
}

// TestDoctorGraceAnew: if the site was suspended on the bench later than the registry
// knows, it stays closed and gets a new purge date.
func TestDoctorGraceAnew(t *testing.T) {
	t.Parallel()
	s := newTwoSides(t, nexus.TenantSuspended, 5, nexus.TenantSuspended, 9)
	s.redis.HSet("{nexus}:tenant:"+string(acmeSite), "purgeAt", "1000")
	report := s.doctor(t, app.DoctorOptions{Fix: true})
	if len(report.Findings)+len(report.Failed) > 0 || len(report.Mended) != 1 || report.Mended[0].Kind != tasks.OtherState {
		t.Errorf("%+v", report)
	}
	if row, err := s.store.Tenant(t.Context(), acmeSite); err != nil || time.Until(row.PurgeAt) < time.Minute {
		t.Errorf("to be purged at %s, %v", row.PurgeAt, err)
	}
}
