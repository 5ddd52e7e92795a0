package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

func TestMintGen(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		first, err := f.MintGen(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		seen := first + 500_000_000_000 // almost six days ahead, from a bench whose registry was lost
		for _, above := range []nexus.Gen{0, seen, 0} {
			gen, err := f.MintGen(t.Context(), above)
			if err != nil || gen <= first || gen <= above {
				t.Fatalf("%d after %d, above %d: %v", gen, first, above, err)
			}
			first = gen
		}
	})
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := nexus.NewJobID()
		want := nexus.Tenant{Site: "acme.example.com", State: nexus.TenantActive, Plan: "starter", Email: "jane@example.com", Bench: "main",
			DB: job.Database("9f3c"), MadeBy: job, CreatedAt: time.UnixMilli(1_700_000_000_000).UTC()}
		if err := f.Rebuild(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		got, err := f.Tenant(t.Context(), want.Site)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if err := f.Rebuild(t.Context(), want); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("a second time: %v", err)
		}
		if list, _, err := f.Tenants(t.Context(), store.TenantFilter{}); err != nil || len(list) != 1 {
			t.Errorf("listed: %v, %v", list, err)
		}
	})
}

func TestUnstick(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		site, job := nexus.SiteName("acme.example.com"), nexus.NewJobID()
		row := func(state nexus.TenantState, job, live nexus.JobID) {
			t.Helper()
			f.rdb.HSet(t.Context(), "{nexus}:tenant:"+string(site), "state", string(state), "madeBy", string(job), "job", string(live))
			f.rdb.ZAdd(t.Context(), "{nexus}:tenants", redis.Z{Member: string(site)})
		}
		if err := f.Unstick(t.Context(), site, job); err != nil {
			t.Errorf("no row: %v", err)
		}
		row(nexus.TenantMaking, job, job)
		if err := f.Unstick(t.Context(), site, nexus.NewJobID()); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("of another job: %v", err)
		}
		f.rdb.HSet(t.Context(), "{nexus}:job:"+string(job), "id", string(job), "state", "rollback_failed", "site", string(site))
		if err := f.Unstick(t.Context(), site, job); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("of a parked job: %v", err)
		}
		if jobs, _, err := f.JobsByID(t.Context(), []nexus.JobID{job, nexus.NewJobID()}); err != nil || len(jobs) != 1 || jobs[job].State != nexus.RollbackFailed {
			t.Errorf("%v, %v", jobs, err)
		}
		f.rdb.HSet(t.Context(), "{nexus}:job:"+string(job), "state", "failed")
		if err := f.Unstick(t.Context(), site, job); err != nil {
			t.Errorf("of a job that failed: %v", err)
		}
		if _, err := f.Tenant(t.Context(), site); nexus.CodeOf(err) != nexus.NotFound {
			t.Errorf("the row is left: %v", err)
		}
		row(nexus.TenantDeleting, job, nexus.NewJobID())
		if err := f.Unstick(t.Context(), site, job); err != nil {
			t.Errorf("of a deletion nobody knows: %v", err)
		}
		if got, err := f.Tenant(t.Context(), site); err != nil || got.State != nexus.TenantSuspended || got.Job != "" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestTurn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, want := range []bool{true, false} {
			if mine, err := f.Turn(t.Context(), "doctor", time.Minute); err != nil || mine != want {
				t.Errorf("%d: %t, %v", i, mine, err)
			}
		}
	})
}

// TestUnseen: a job that is missing in the due index is reported, and Look adds it again.
func TestUnseen(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, submission("acme.localhost"))
		unseen := func() (n int) {
			t.Helper()
			_, ids, err := f.JobsByID(t.Context(), []nexus.JobID{job.ID, nexus.NewJobID()})
			if err != nil {
				t.Fatal(err)
			}
			return len(ids)
		}
		if unseen() != 0 {
			t.Fatal("a job that is due is not seen")
		}
		f.rdb.ZRem(t.Context(), "{nexus}:due", string(job.ID))
		if unseen() != 1 {
			t.Fatal("nobody says that nobody looks at it")
		}
		if err := f.Look(t.Context(), job.ID); err != nil || unseen() != 0 {
			t.Fatalf("still unseen: %v", err)
		}
		f.tick(t)
		if looked := f.rdb.HGet(t.Context(), "{nexus}:job:"+string(job.ID), "looks").Val(); looked != "1" {
			t.Fatalf("looked at %s times", looked)
		}
	})
}
