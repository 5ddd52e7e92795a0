package store_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestFinishedRecord: the record of a job that is over has the fields that are read of it, and
// no others; its personal data stays only if the job made nothing. Without an owner it is the
// job's own.
func TestFinishedRecord(t *testing.T) {
	t.Parallel()
	const always = "actor bench createdAt db events gen giveUpAt id keyID kind rev road site state steps updatedAt"
	onBoth(t, func(t *testing.T, f *fixture) {
		end := func(sub store.Submission, state nexus.State, keys ...string) nexus.JobID {
			t.Helper()
			sub.TraceParent = "request"
			lease, job := f.take(t, f.submit(t, sub).ID)
			if _, err := lease.Reserve(t.Context(), "main", "nx1", keys...); err != nil {
				t.Fatal(err)
			}
			if job.State = state; state != nexus.Succeeded {
				job.Error = &nexus.Failure{Code: nexus.Invalid, Message: "No."}
			}
			if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
				t.Fatal(err)
			}
			return job.ID
		}
		has := func(name string, id nexus.JobID, owner nexus.JobID, more string) {
			t.Helper()
			fields := f.rdb.HGetAll(t.Context(), "{nexus}:job:"+string(id)).Val()
			maps.DeleteFunc(fields, func(_, v string) bool { return v == "" })
			if f.rdb.Exists(t.Context(), "{nexus}:events:"+string(id)).Val() == 1 {
				fields["events"] = "there"
			}
			want := slices.Sorted(slices.Values(strings.Fields(always + " " + more)))
			if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
				t.Errorf("%s has the fields\n%q, want\n%q", name, got, want)
			}
			if got := f.job(t, id); got.Owner != owner || got.ID != id {
				t.Errorf("%s is read as %+v", name, got)
			}
		}
		f.offer(t, "main", madeTemplate("erp", erp, 1, ""))
		f.made(t, erp, nexus.Succeeded, 1, 0, time.Second, time.Second)
		named := func(site nexus.SiteName) store.Submission {
			sub := submission(site)
			sub.Steps = []nexus.StepName{"one", "company"}
			return sub
		}
		claimed := end(named("a.localhost"), nexus.Succeeded, erpKey)
		has("a claimed site", claimed, claimed, "template")
		cloned := end(named("b.localhost"), nexus.Succeeded, erpKey)
		has("a copy", cloned, cloned, "template")
		long := end(named("c.localhost"), nexus.Succeeded, bareKey)
		has("a site by new-site", long, long, "")
		failed := end(named("d.localhost"), nexus.Failed, bareKey)
		has("a failed signup", failed, failed, "error spec")
		if job := f.job(t, failed); job.Spec.Email != "jane@example.com" {
			t.Errorf("the failed signup was for %+v", job.Spec)
		}
		sub := submission("a.localhost")
		sub.Kind, sub.Input = nexus.KindSuspend, ""
		has("a suspension", end(sub, nexus.Succeeded, bareKey), claimed, "owner")
	})
}
