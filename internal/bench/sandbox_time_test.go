package bench_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// timed is an operation, and how long it is to take. Fails is the code of its error; empty: it
// succeeds.
type timed struct {
	args  nexus.Args
	want  time.Duration
	fails nexus.Code
}

// check runs operations one after the other, and compares how long each takes.
func (b *build) check(t *testing.T, op nexus.Op, all []timed) {
	t.Helper()
	for _, each := range all {
		op.Args = each.args
		began := time.Now()
		_, err := b.try(t, op)
		if took := time.Since(began); took != each.want || nexus.CodeOf(err) != each.fails {
			t.Errorf("%s on %s took %s, want %s: %v", each.args.Op(), op.Site, took, each.want, err)
		}
	}
}

// tenantTimes are the operations after the one that makes a tenant's site.
func tenantTimes(apps, user time.Duration) []timed {
	const key = "jane@example.com"
	return []timed{
		{nexus.InstallApp{App: "erpnext"}, apps, ""},
		{nexus.InstallApp{App: "erpnext"}, 13 * time.Millisecond, ""},
		{nexus.InstallApp{App: "crm", Optional: true}, 13 * time.Millisecond, ""},
		{nexus.InstallApp{App: "crm"}, 13 * time.Millisecond, nexus.NotFound},
		{nexus.Company{Name: "Acme"}, 30 * time.Millisecond, ""},
		{nexus.EnsureUser{Email: key, Password: "Passw0rdXyz"}, user, ""},
		{nexus.ApplyPlan{Plan: "starter"}, 12 * time.Millisecond, ""},
		{nexus.IssueKey{Email: key, Key: "k", Secret: "s"}, 10 * time.Millisecond, ""},
		{nexus.Verify{Email: key, Key: "k", Secret: "s"}, 40 * time.Millisecond, nexus.Unavailable}, // nobody serves the sites
		{nexus.Mark{State: nexus.TenantActive}, 10 * time.Millisecond, ""},
		{nexus.Mark{State: nexus.TenantSuspended}, 100 * time.Millisecond, ""},
		{nexus.Inspect{}, 0, ""},
		{nexus.Stop{}, 0, ""},
		{nexus.DropSite{}, time.Second, ""},
	}
}

// TestSandboxFixedTimes: at a fixed delay each operation that may change a site takes it, also
// when there is nothing to do, and no other one does. Copies and claims have tests of their own.
func TestSandboxFixedTimes(t *testing.T) {
	t.Parallel()
	const delay, key = 20 * time.Second, "jane@example.com"
	s := newSandboxClaim(t)
	s.o.Delay, s.o.VerifyAddr = delay, "127.0.0.1:1"
	op := s.take(nil)
	op.DB = s.taker.Database("5a4d")
	synctest.Test(t, func(t *testing.T) {
		s.check(t, op, []timed{
			{nexus.NewSite{}, delay, ""},
			{nexus.NewSite{}, 0, ""},
			{nexus.InstallApp{App: "erpnext"}, delay, ""},
			{nexus.InstallApp{App: "erpnext"}, delay, ""},
			{nexus.InstallApp{App: "crm"}, delay, nexus.NotFound},
			{nexus.Company{Name: "Acme"}, delay, ""},
			{nexus.EnsureUser{Email: key, Password: "Passw0rdXyz"}, delay, ""},
			{nexus.ApplyPlan{Plan: "starter"}, delay, ""},
			{nexus.IssueKey{Email: key, Key: "k", Secret: "s"}, delay, ""},
			{nexus.Verify{Email: key, Key: "k", Secret: "s"}, 0, nexus.Unavailable},
			{nexus.Mark{State: nexus.TenantActive}, delay, ""},
			{nexus.Mark{State: nexus.TenantActive}, delay, ""},
			{nexus.Register{}, 0, ""}, {nexus.Adopt{}, 0, ""}, {nexus.Disown{}, 0, nexus.Conflict},
			{nexus.Hello{}, 0, ""}, {nexus.Inventory{}, 0, ""}, {nexus.Templates{}, 0, ""}, {nexus.Standbys{}, 0, ""},
			{nexus.Inspect{}, 0, ""}, {nexus.Stop{}, 0, ""},
			{nexus.DropSite{}, delay, ""},
			{nexus.DropSite{}, delay, ""},
		})
	})
}

// TestSandboxRealTimes: the kind of an operation, and the road by which its site was made, decide
// how long it takes.
func TestSandboxRealTimes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		road       nexus.Road
		site       time.Duration
		apps, user time.Duration
	}{
		{nexus.RoadNewSite, 17 * time.Second, 41 * time.Second, 700 * time.Millisecond},
		{nexus.RoadClone, 1460 * time.Millisecond, 13 * time.Millisecond, 31 * time.Millisecond},
		{nexus.RoadStandby, 23 * time.Millisecond, 13 * time.Millisecond, 31 * time.Millisecond},
	} {
		t.Run(string(tc.road), func(t *testing.T) {
			t.Parallel()
			s := newSandboxClaim(t)
			s.o.Real, s.o.Delay, s.o.VerifyAddr = true, time.Hour, "127.0.0.1:1"
			op := s.claim()
			switch tc.road {
			case nexus.RoadClone:
				op.DB, op.Args = s.taker.Database("5a4d"), nexus.Clone{Template: "plain"}
			case nexus.RoadNewSite:
				op.DB, op.Args = s.taker.Database("5a4d"), nexus.NewSite{}
			}
			synctest.Test(t, func(t *testing.T) {
				s.check(t, op, append([]timed{{op.Args, tc.site, ""}, {op.Args, 0, ""}}, tenantTimes(tc.apps, tc.user)...))
			})
		})
	}
}

// TestSandboxRealTimesMachine: a template and a standby take the time of a real bench too, and
// nobody waits for a list.
func TestSandboxRealTimesMachine(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.o.Real = true
	maker := nexus.NewJobID()
	synctest.Test(t, func(t *testing.T) {
		b.check(t, b.op(nil), []timed{
			{nexus.NewSite{}, 17 * time.Second, ""},
			{nexus.InstallApp{App: "erpnext"}, 41 * time.Second, ""},
			{nexus.SetUp{Country: "US"}, 24 * time.Second, ""},
			{nexus.Freeze{Spec: "US", Apps: []string{"erpnext"}}, 2 * time.Second, ""},
			{nexus.Hello{}, 0, ""}, {nexus.Inventory{}, 0, ""}, {nexus.Templates{}, 0, ""}, {nexus.Standbys{}, 0, ""},
		})
		b.check(t, (&sandboxClaim{build: b, maker: maker}).made(nil), []timed{
			{nexus.Clone{Template: "plain"}, 1460 * time.Millisecond, ""},
			{nexus.Shelve{}, 600 * time.Millisecond, ""},
			{nexus.Warm{}, time.Second, ""},
			{nexus.DropSite{}, time.Second, ""},
		})
	})
}

// TestSandboxRealFaults: slow-site takes five seconds more, and what is refused takes no time.
func TestSandboxRealFaults(t *testing.T) {
	t.Parallel()
	s := newSandboxClaim(t)
	s.o.Real = true
	synctest.Test(t, func(t *testing.T) {
		op := s.claim()
		op.Email = "slow-site@example.com"
		s.check(t, op, []timed{{op.Args, 5023 * time.Millisecond, ""}})
		op.Email = "fail-apps@example.com"
		s.check(t, op, []timed{{nexus.InstallApp{App: "hrms"}, 0, nexus.NotFound}})
		op.Site = "other.localhost"
		s.check(t, op, []timed{{nexus.ApplyPlan{}, 0, nexus.NotFound}})
	})
}

// TestSandboxProgress: at a fixed delay an operation reports four times; as on a real bench one
// that takes seconds reports each second, and a short one does not.
func TestSandboxProgress(t *testing.T) {
	t.Parallel()
	var each []string
	for n := range 17 {
		each = append(each, fmt.Sprintf("%ds %d", n, n*100/17))
	}
	for _, tc := range []struct {
		name  string
		delay time.Duration // zero: real
		args  nexus.Args
		want  []string
	}{
		{"fixed", 4 * time.Second, nexus.NewSite{}, []string{"0s 0", "1s 25", "2s 50", "3s 75"}},
		{"a site", 0, nexus.NewSite{}, each},
		{"a copy", 0, nexus.Clone{Template: "plain"}, []string{"0s 0"}},
		{"a claim", 0, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSandboxClaim(t)
			s.o.Delay, s.o.Real = tc.delay, tc.delay == 0
			op := s.claim()
			if tc.args != nil {
				op.DB, op.Args = s.taker.Database("5a4d"), tc.args
			}
			synctest.Test(t, func(t *testing.T) {
				var told []string
				began := time.Now()
				op.Progress = func(message string, percent int) {
					if message != "Working on acme.localhost" {
						t.Error(message)
					}
					told = append(told, fmt.Sprint(time.Since(began), " ", percent))
				}
				if result := s.run(t, op); !result.Changed || !slices.Equal(told, tc.want) {
					t.Error(cmp.Diff(tc.want, told))
				}
			})
		})
	}
}

// TestSandboxRealEnded: an operation ends with its context, wherever it is, and the next attempt
// makes the site.
func TestSandboxRealEnded(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Millisecond, 8500 * time.Millisecond, 16999 * time.Millisecond} {
		b := newBuild(t)
		b.o.Real = true
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithTimeoutCause(t.Context(), after, nexus.ErrCanceled)
			defer stop()
			began := time.Now()
			_, err := b.tryFor(ctx, t, b.op(nexus.NewSite{}))
			if took := time.Since(began); took != after || nexus.CodeOf(err) != nexus.CodeCanceled {
				t.Errorf("it ended after %s, want %s: %v", took, after, err)
			}
			b.check(t, b.op(nil), []timed{{nexus.NewSite{}, 17 * time.Second, ""}})
		})
	}
}
