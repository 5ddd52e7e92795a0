package tasks_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestUpkeep checks the decisions on random benches: what sites are copied from stays, what
// newer versions made stays, and once the decisions are carried out there are no more.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		apps := rapid.SampledFrom([][]string{{"erpnext"}, {"erpnext", "hrms?"}, nil})
		var have []nexus.Template
		live := map[nexus.JobID]bool{}
		for i := range rapid.IntRange(0, 6).Draw(t, "templates") {
			each := nexus.Template{Name: nexus.SiteName(fmt.Sprintf("plain-%08d", i)), Job: nexus.NewJobID(), Spec: nexus.TemplatePlain, Apps: apps.Draw(t, "apps"),
				MadeAt: time.Unix(rapid.Int64Range(1, 3).Draw(t, "made"), 0), Version: rapid.IntRange(0, nexus.TemplateVersion+1).Draw(t, "version"),
				Renew: rapid.Bool().Draw(t, "renew"), Problem: rapid.SampledFrom([]string{"", "", "It is old."}).Draw(t, "problem")}
			if each.Version != nexus.TemplateVersion {
				each.Problem = "It is not finished, or of another version."
			}
			live[each.Job] = rapid.Bool().Draw(t, "live")
			have = append(have, each)
		}
		wanted := rapid.SampledFrom([][]nexus.TemplateSpec{nil, {nexus.TemplatePlain}}).Draw(t, "wanted")
		ours := apps.Draw(t, "ours")
		decide := func() tasks.Upkeep {
			return tasks.UpkeepOf(wanted, ours, have, func(id nexus.JobID) bool { return live[id] })
		}
		work, newest := decide(), nexus.NewestTemplates(have)
		for _, old := range work.Drop {
			if newest[old.Spec.Key(old.Apps)].Name == old.Name || live[old.Job] || old.Version > nexus.TemplateVersion || old.Version == 0 {
				t.Fatalf("dropped: %+v", old)
			}
		}
		current, there := newest[nexus.TemplatePlain.Key(ours)]
		if builds := len(wanted) > 0 && (!there || current.Renew); builds != (len(work.Build) > 0) {
			t.Fatalf("builds %v, there is one: %t", work.Build, there)
		}
		have = slices.DeleteFunc(have, func(each nexus.Template) bool {
			return slices.ContainsFunc(work.Drop, func(old nexus.Template) bool { return old.Name == each.Name })
		})
		for _, each := range have {
			if each.Problem != "" && !live[each.Job] && each.Version == nexus.TemplateVersion {
				t.Fatalf("kept: %+v", each)
			}
		}
		if len(work.Build) > 0 {
			have = append(have, nexus.Template{Name: "plain-new", Job: nexus.NewJobID(), Spec: nexus.TemplatePlain, Apps: ours, MadeAt: time.Unix(4, 0), Version: nexus.TemplateVersion})
		}
		next := decide()
		for _, old := range next.Drop { // only what the new one replaces
			if len(next.Build) > 0 || !current.Renew || old.Name != current.Name {
				t.Fatalf("and then: %+v", next)
			}
		}
		if replaced := len(work.Build) > 0 && current.Renew && !live[current.Job]; replaced != (len(next.Drop) > 0) || len(next.Build) > 0 {
			t.Fatalf("and then: %+v", next)
		}
	})
}
