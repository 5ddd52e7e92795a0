package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestCancelOfOneWay: a job that cannot be undone can be canceled until it starts, and not
// after that.
func TestCancelOfOneWay(t *testing.T) {
	t.Parallel()
	for _, kind := range []nexus.Kind{nexus.KindTeardown, nexus.KindRotateKey} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				const site = "acme.localhost"
				f.active(t, site)
				if job, err := f.Cancel(t.Context(), f.submit(t, on(kind, site)).ID, "op"); err != nil || job.State != nexus.Canceled {
					t.Fatalf("before it began: %s, %v", job.State, err)
				}
				if row := f.tenant(t, site); row.State != nexus.TenantActive || row.Job != "" {
					t.Fatalf("the tenant is %+v", row)
				}
				id := f.submit(t, on(kind, site)).ID
				lease, job := f.take(t, id)
				for _, when := range []string{"at work", "resting"} {
					before := f.dump(t)
					_, err := f.Cancel(t.Context(), id, "op")
					if nexus.CodeOf(err) != nexus.Conflict {
						t.Errorf("%s: %v", when, err)
					}
					if diff := cmp.Diff(before, f.dump(t)); diff != "" {
						t.Errorf("a cancel that was refused, %s, wrote:\n%s", when, diff)
					}
					if when == "at work" {
						job.State, job.WaitingFor = nexus.Waiting, nexus.WaitRetry
						if err := lease.Wait(t.Context(), &job, time.Second, nexus.Event{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				f.advance(2 * time.Second)
				f.tick(t)
				f.ended(t, id, nexus.Succeeded)
			})
		})
	}
}

// TestCanceledPurge: the cancel of a purge by date leaves the tenant suspended without a
// purge date. The cancel of an operator's own removal keeps the purge date.
func TestCanceledPurge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		rest time.Duration
		kept bool // whether the purge date is kept
	}{
		{name: "of the grace that is over", rest: nexus.NameRest},
		{name: "of an operator", kept: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				const site = "acme.localhost"
				f.active(t, site)
				f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
				f.advance(7*24*time.Hour + time.Minute)
				if diff := cmp.Diff([]nexus.SiteName{site}, f.purges(t)); diff != "" {
					t.Fatal(diff)
				}
				down := on(nexus.KindTeardown, site)
				down.Rest = tc.rest
				if _, err := f.Cancel(t.Context(), f.submit(t, down).ID, "op"); err != nil {
					t.Fatal(err)
				}
				if row := f.tenant(t, site); row.State != nexus.TenantSuspended || row.Job != "" || row.PurgeAt.IsZero() == tc.kept {
					t.Errorf("left as %+v", row)
				}
				f.advance(30 * 24 * time.Hour)
				if sites := f.purges(t); (len(sites) > 0) != tc.kept {
					t.Errorf("a month later it is to be removed: %v", sites)
				}
				if !tc.kept { // the tenant can be restored and suspended again
					f.ended(t, f.submit(t, on(nexus.KindRestore, site)).ID, nexus.Succeeded)
					f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
					if row := f.tenant(t, site); row.PurgeAt.IsZero() {
						t.Errorf("deleted again, it has no purge date: %+v", row)
					}
				}
			})
		})
	}
}
