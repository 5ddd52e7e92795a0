package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestJobsIndexForgets: an entry goes when its record has expired, a few with each
// job that is recorded; what still lives stays listed.
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
		var want []string
		for _, site := range []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost"} {
			want = append(want, string(f.submit(t, submission(site)).ID))
			f.advance(2 * time.Millisecond)
		}
		got := f.rdb.ZRange(t.Context(), "{nexus}:jobs", 0, -1).Val()
		if len(got) != len(want) {
			t.Fatalf("%d entries for %d records", len(got), len(want))
		}
		for _, id := range want {
			if f.rdb.ZScore(t.Context(), "{nexus}:jobs", id).Err() != nil {
				t.Errorf("a job that lives is not listed: %s", id)
			}
		}
	})
}
