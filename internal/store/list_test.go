package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestJobsIndexForgets: entries of expired records are removed while jobs are recorded;
// entries of existing records stay.
func TestJobsIndexForgets(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for i := range 25 {
			id := f.submit(t, submission(nexus.SiteName(fmt.Sprintf("old%d.localhost", i)))).ID
			if _, err := f.Cancel(t.Context(), id, "op"); err != nil {
				t.Fatal(err)
			}
		}
		f.advance(31 * 24 * time.Hour)
		index := func() []string { return f.rdb.ZRange(t.Context(), "{nexus}:jobs", 0, -1).Val() }
		var want []string
		for i := 0; i < 3 || len(index()) > len(want); i++ { // each submission looks at one of four lists
			if i == 100 {
				t.Fatalf("%d entries for %d records", len(index()), len(want))
			}
			want = append(want, string(f.submit(t, submission(nexus.SiteName(fmt.Sprintf("new%d.localhost", i)))).ID))
			f.advance(2 * time.Millisecond)
		}
		for _, id := range want {
			if f.rdb.ZScore(t.Context(), "{nexus}:jobs", id).Err() != nil {
				t.Errorf("a job that lives is not listed: %s", id)
			}
		}
	})
}

// TestListsByState: each page is full or the last one, however rare the state is, even with
// entries whose records have expired or were moved by a worker of a former version.
func TestListsByState(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		var canceled []nexus.Job
		for i := range 620 {
			job := f.submit(t, submission(nexus.SiteName(fmt.Sprintf("s%d.localhost", i))))
			if i < 3 { // the oldest jobs
				if _, err := f.Cancel(t.Context(), job.ID, "op"); err != nil {
					t.Fatal(err)
				}
				canceled = append(canceled, job)
				f.advance(2 * time.Millisecond) // has no effect on the clock of a real server
			}
		}
		slices.SortFunc(canceled, func(a, b nexus.Job) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
		})
		var rare []nexus.JobID
		for _, job := range canceled {
			rare = append(rare, job.ID)
		}
		pages := func(filter store.JobFilter) (all []nexus.JobID) {
			for {
				jobs, next, err := f.Jobs(t.Context(), filter)
				if err != nil {
					t.Fatal(err)
				}
				if next != "" && len(jobs) != filter.Limit {
					t.Fatalf("%+v: a page of %d with another behind it", filter, len(jobs))
				}
				for _, job := range jobs {
					all = append(all, job.ID)
				}
				if filter.Cursor = next; next == "" {
					return all
				}
			}
		}
		for _, limit := range []int{1, 2, 200} {
			if got := pages(store.JobFilter{State: nexus.Canceled, Limit: limit}); !slices.Equal(got, rare) {
				t.Errorf("canceled, by %d: %q, want %q", limit, got, rare)
			}
		}
		if got := pages(store.JobFilter{State: nexus.Canceled, Kind: nexus.KindProvision, Limit: 200}); len(got) != 3 {
			t.Errorf("canceled provisions: %d", len(got))
		}
		if got := pages(store.JobFilter{State: nexus.Canceled, Kind: nexus.KindAdopt, Limit: 200}); len(got) != 0 {
			t.Errorf("canceled adoptions: %d", len(got))
		}
		for _, filter := range []store.JobFilter{{Limit: 7}, {Kind: nexus.KindProvision, Limit: 100}} {
			if got := pages(filter); len(got) != 620 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 620 {
				t.Errorf("%+v lists %d", filter, len(got))
			}
		}
		if got := pages(store.JobFilter{State: nexus.Queued, Limit: 200}); len(got) != 617 {
			t.Errorf("queued: %d", len(got))
		}
		f.advance(31 * 24 * time.Hour) // the records of the canceled jobs have expired
		if got := pages(store.JobFilter{State: nexus.Canceled, Limit: 1}); len(got) != 0 {
			t.Errorf("canceled, when their records are gone: %q", got)
		}
		if n := f.rdb.ZCard(t.Context(), "{nexus}:jobs:provision:canceled").Val(); n != 0 {
			t.Errorf("%d entries of records that are gone", n)
		}
	})
}

// TestListsAfterAFormerVersion: jobs that a former version recorded are listed.
func TestListsAfterAFormerVersion(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		var ids []nexus.JobID
		for i := range 3 {
			job := f.submit(t, submission(nexus.SiteName(fmt.Sprintf("s%d.localhost", i))))
			ids = append(ids, job.ID)
		}
		count := func(s *store.Store, state nexus.State, tenants nexus.TenantState) [2]int {
			jobs, _, err := s.Jobs(t.Context(), store.JobFilter{State: state})
			rows, _, other := s.Tenants(t.Context(), store.TenantFilter{State: tenants})
			if err = errors.Join(err, other); err != nil {
				t.Fatal(err)
			}
			return [2]int{len(jobs), len(rows)}
		}
		for _, list := range []string{"jobs:provision:queued", "tenants:making"} {
			if n := f.rdb.Del(t.Context(), "{nexus}:"+list).Val(); n != 1 {
				t.Fatalf("there was no %s", list)
			}
		}
		fresh := store.New(f.rdb, store.Options{Embedded: true}) // the API after an upgrade
		if got := count(fresh, nexus.Queued, nexus.TenantMaking); got != [2]int{3, 3} {
			t.Errorf("after an upgrade %v are listed", got)
		}
		// Meanwhile a worker of the former version ends a job.
		f.rdb.HSet(t.Context(), "{nexus}:job:"+string(ids[0]), "state", "failed")
		f.rdb.HSet(t.Context(), "{nexus}:tenant:s0.localhost", "state", "active")
		if err := fresh.Reindex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := count(fresh, nexus.Failed, nexus.TenantActive); got != [2]int{1, 1} {
			t.Errorf("of what a former version changed %v are listed", got)
		}
		if got := count(fresh, nexus.Queued, nexus.TenantMaking); got != [2]int{2, 2} {
			t.Errorf("of the others %v are listed", got)
		}
	})
}
