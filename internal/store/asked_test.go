package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestAskedRoad: a signup gets the road that was asked for, or the next slower one, and never a
// faster one. One that asked for another road is not counted by a shelf.
func TestAskedRoad(t *testing.T) {
	t.Parallel()
	type got struct {
		road         nexus.Road
		hits, misses int64
	}
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, tc := range []struct {
			name            string
			asked           nexus.Road
			shelf, template bool
			want            got
		}{
			{"nothing", "", true, true, got{nexus.RoadStandby, 1, 0}},
			{"standby", nexus.RoadStandby, true, true, got{nexus.RoadStandby, 1, 0}},
			{"standby-empty", nexus.RoadStandby, false, true, got{nexus.RoadClone, 0, 1}},
			{"standby-none", nexus.RoadStandby, false, false, got{nexus.RoadNewSite, 0, 1}},
			{"clone", nexus.RoadClone, true, true, got{nexus.RoadClone, 0, 0}},
			{"clone-none", nexus.RoadClone, true, false, got{nexus.RoadNewSite, 0, 0}},
			{"new-site", nexus.RoadNewSite, true, true, got{nexus.RoadNewSite, 0, 0}},
		} {
			bench := tc.name
			if err := f.SetTarget(t.Context(), bench, erpKey, 2); err != nil {
				t.Fatal(err)
			}
			if tc.template {
				f.offer(t, bench, madeTemplate("plain-1", erp, 1, ""))
			}
			if tc.shelf {
				standby := nexus.Standby{Job: nexus.NewJobID(), DB: "nx-its", Template: "plain-1", Spec: nexus.TemplatePlain, Apps: erp}
				if err := f.Reshelve(t.Context(), bench, standby); err != nil {
					t.Fatal(err)
				}
			}
			sub := submission(nexus.SiteName(tc.name + ".localhost"))
			sub.Steps, sub.Spec.Road = []nexus.StepName{"one", "company"}, tc.asked
			lease, job := f.take(t, f.submit(t, sub).ID)
			if job.Spec.Road != tc.asked {
				t.Errorf("%s: recorded as %q", tc.name, job.Spec.Road)
			}
			way, err := lease.Reserve(t.Context(), bench, "nx-own", erpKey)
			if err != nil {
				t.Fatal(err)
			}
			shelves, err := f.Shelves(t.Context(), bench)
			if err != nil || len(shelves) != 1 {
				t.Fatalf("%s: the shelves %+v, %v", tc.name, shelves, err)
			}
			if diff := cmp.Diff(tc.want, got{way.Road, shelves[0].Hits, shelves[0].Misses}, cmp.AllowUnexported(got{})); diff != "" {
				t.Errorf("%s: %s", tc.name, diff)
			}
		}
	})
}
