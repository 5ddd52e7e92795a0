package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestStepsOfAFormerVersion: a former version stored the steps of a live job as objects, and
// those of a finished job in the field journal. Both are read.
func TestStepsOfAFormerVersion(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 29, 6, 54, 59, 680_000_000, time.UTC)
	done := nexus.Step{Name: "one", State: nexus.StepDone, Attempts: 1, Starts: 1, StartedAt: &start, EndedAt: new(start.Add(4 * time.Second)), Percent: 100}
	onBoth(t, func(t *testing.T, f *fixture) {
		for name, tc := range map[string]struct {
			fields []any
			want   nexus.Step
		}{
			"live": {[]any{"steps", `[{"name":"one","state":"done","attempts":1,"starts":1,"startedAt":"2026-11-29T06:54:59.68Z","endedAt":"2026-11-29T06:55:03.68Z","percent":100}]`}, done},
			"over": {[]any{"state", "succeeded", "journal", `[["one","done",1,1,1795935299680,4000]]`}, done},
		} {
			id := f.submit(t, submission(nexus.SiteName(name+".localhost"))).ID
			key := "{nexus}:job:" + string(id)
			if err := f.rdb.HDel(t.Context(), key, "steps").Err(); err != nil {
				t.Fatal(err)
			}
			if err := f.rdb.HSet(t.Context(), key, tc.fields...).Err(); err != nil {
				t.Fatal(err)
			}
			if got := f.job(t, id).Steps; !reflect.DeepEqual(got, []nexus.Step{tc.want}) {
				t.Errorf("%s: read as %+v", name, got)
			}
		}
	})
}
