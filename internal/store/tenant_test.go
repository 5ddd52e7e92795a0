package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// active provisions a tenant.
func (f *fixture) active(t testing.TB, site nexus.SiteName) nexus.Job {
	t.Helper()
	job := f.submit(t, submission(site))
	return f.ended(t, job.ID, nexus.Succeeded)
}

// ended takes a job and ends it.
func (f *fixture) ended(t testing.TB, id nexus.JobID, state nexus.State) nexus.Job {
	t.Helper()
	lease, job := f.take(t, id)
	if job.Kind == nexus.KindProvision {
		if err := lease.Slot(t.Context(), "main", "nx"+string(job.Site[:1])); err != nil {
			t.Fatal(err)
		}
	}
	job.State = state
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	return f.job(t, id)
}

func on(kind nexus.Kind, site nexus.SiteName) store.Submission {
	sub := submission(site)
	sub.Kind, sub.Input, sub.PurgeAfter = kind, "", 7*24*time.Hour
	return sub
}

func (f *fixture) tenant(t testing.TB, site nexus.SiteName) nexus.Tenant {
	t.Helper()
	tenant, err := f.Tenant(t.Context(), site)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// purges reads the due index and returns the purges that are due.
func (f *fixture) purges(t testing.TB) (sites []nexus.SiteName) {
	t.Helper()
	found, err := f.Tick(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found.Purges {
		sites = append(sites, p.Site)
	}
	return sites
}

func TestDeletionHasAGrace(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		const site = "acme.localhost"
		f.active(t, site)
		f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
		if row := f.tenant(t, site); row.State != nexus.TenantSuspended || row.Job != "" || row.PurgeAt.IsZero() {
			t.Fatalf("suspended as %+v", row)
		}
		f.advance(7*24*time.Hour - time.Minute)
		if sites := f.purges(t); len(sites) > 0 {
			t.Fatalf("purged before its time: %v", sites)
		}
		f.advance(2 * time.Minute)
		if diff := cmp.Diff([]nexus.SiteName{site}, f.purges(t)); diff != "" {
			t.Fatal(diff)
		}
		if sites := f.purges(t); len(sites) > 0 {
			t.Fatalf("handed out to two lookers: %v", sites)
		}
		down := on(nexus.KindTeardown, site)
		down.Rest = nexus.NameRest
		f.ended(t, f.submit(t, down).ID, nexus.Succeeded)
		f.advance(2 * time.Minute)
		if sites := f.purges(t); len(sites) > 0 {
			t.Fatalf("purged again: %v", sites)
		}
		if free, _ := f.SiteFree(t.Context(), site); free {
			t.Fatal("the name does not rest")
		}
		_, _, err := f.Submit(t.Context(), submission(site))
		wantCode(t, err, nexus.Conflict)
		f.advance(nexus.NameRest)
		f.submit(t, submission(site))
	})
}

// TestPurgeOfAnotherDate: a purge found due before a restore, or before another
// deletion, removes nothing.
func TestPurgeOfAnotherDate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		const site = "acme.localhost"
		f.active(t, site)
		f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
		f.advance(8 * 24 * time.Hour)
		found, err := f.Tick(t.Context(), true)
		if err != nil || len(found.Purges) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
		purge := func(at string) error {
			down := on(nexus.KindTeardown, site)
			down.IdempotencyKey, down.Fingerprints = fmt.Sprintf("purge:%s:%s", site, at), []string{"purge"}
			_, _, err := f.Submit(t.Context(), down)
			return err
		}
		wantCode(t, purge("1"), nexus.Conflict)
		f.ended(t, f.submit(t, on(nexus.KindRestore, site)).ID, nexus.Succeeded)
		wantCode(t, purge(found.Purges[0].At), nexus.Conflict)
		if row := f.tenant(t, site); row.State != nexus.TenantActive || row.Job != "" {
			t.Fatalf("a restored tenant is %+v", row)
		}
		f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
		row := f.tenant(t, site)
		if err := purge(fmt.Sprint(row.PurgeAt.UnixMilli())); err != nil {
			t.Fatalf("a purge of its own date: %v", err)
		}
	})
}

func TestRestoreClearsThePurge(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		const site = "acme.localhost"
		f.active(t, site)
		_, _, err := f.Submit(t.Context(), on(nexus.KindRestore, site))
		wantCode(t, err, nexus.Conflict) // the tenant is active
		f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
		_, _, err = f.Submit(t.Context(), on(nexus.KindRotateKey, site))
		wantCode(t, err, nexus.Conflict) // the tenant is suspended
		f.ended(t, f.submit(t, on(nexus.KindRestore, site)).ID, nexus.Succeeded)
		if row := f.tenant(t, site); row.State != nexus.TenantActive || !row.PurgeAt.IsZero() {
			t.Fatalf("restored as %+v", row)
		}
		f.advance(30 * 24 * time.Hour)
		if sites := f.purges(t); len(sites) > 0 {
			t.Fatalf("a restored tenant is purged: %v", sites)
		}
	})
}

// TestJobsOnATenantGiveItBack checks the tenant's row after each end of each kind of job.
func TestJobsOnATenantGiveItBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind   nexus.Kind
		first  nexus.Kind // the job that sets the state which the kind needs
		end    nexus.State
		want   nexus.TenantState
		purged bool // whether the row has a purge date
	}{
		{kind: nexus.KindSuspend, end: nexus.Failed, want: nexus.TenantActive},
		{kind: nexus.KindSuspend, end: nexus.Canceled, want: nexus.TenantActive},
		{kind: nexus.KindRestore, first: nexus.KindSuspend, end: nexus.Failed, want: nexus.TenantSuspended, purged: true},
		{kind: nexus.KindRotateKey, end: nexus.Succeeded, want: nexus.TenantActive},
		{kind: nexus.KindRotateKey, end: nexus.Failed, want: nexus.TenantActive},
	} {
		t.Run(fmt.Sprintf("%s %s", tc.kind, tc.end), func(t *testing.T) {
			t.Parallel()
			f := newMini(t)
			const site = "acme.localhost"
			f.active(t, site)
			if tc.first != "" {
				f.ended(t, f.submit(t, on(tc.first, site)).ID, nexus.Succeeded)
			}
			id := f.submit(t, on(tc.kind, site)).ID
			lease, job := f.take(t, id)
			if tc.end != nexus.Succeeded {
				job.State = nexus.RollingBack
				if _, err := lease.Checkpoint(t.Context(), &job, "", nexus.Event{}); err != nil {
					t.Fatal(err)
				}
			}
			job.State = tc.end
			if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
				t.Fatal(err)
			}
			if row := f.tenant(t, site); row.State != tc.want || row.Job != "" || row.PurgeAt.IsZero() == tc.purged {
				t.Errorf("left as %+v", row)
			}
		})
	}
}

func TestAFailedAdoptionLeavesNoRow(t *testing.T) {
	t.Parallel()
	f := newMini(t)
	f.ended(t, f.submit(t, on(nexus.KindAdopt, "old.localhost")).ID, nexus.Failed)
	if free, _ := f.SiteFree(t.Context(), "old.localhost"); !free {
		t.Error("the row is left")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		limits := []store.Limit{{Bucket: "address:a", Max: 2}, {Bucket: "all:x", Max: 3}}
		ask := func(site nexus.SiteName, key string) error {
			sub := submission(site)
			sub.Limits = limits
			if key != "" {
				sub.IdempotencyKey, sub.Fingerprints = key, []string{"k1=aa"}
			}
			_, _, err := f.Submit(t.Context(), sub)
			return err
		}
		for _, err := range []error{ask("a.localhost", "one"), ask("a.localhost", "one"), ask("b.localhost", "")} {
			if err != nil {
				t.Fatal(err) // a replay is never charged
			}
		}
		wantCode(t, ask("a.localhost", ""), nexus.Conflict) // nor is a refusal
		err := ask("c.localhost", "")
		if e, _ := errors.AsType[*nexus.Error](err); !errors.Is(err, store.ErrLimited) || e.RetryAfter <= 0 || e.RetryAfter > time.Hour {
			t.Fatalf("the third of two: %v", err)
		}
		limits[0].Bucket = "address:b"
		if err := ask("c.localhost", ""); err != nil {
			t.Fatal(err)
		}
		if err := ask("d.localhost", ""); !errors.Is(err, store.ErrLimited) {
			t.Fatalf("the fourth of three: %v", err)
		}
		f.advance(time.Hour + time.Second)
		if err := ask("d.localhost", ""); err != nil {
			t.Fatal(err)
		}
	})
}
