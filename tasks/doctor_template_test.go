package tasks_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

const built nexus.JobID = "77777777777777777777777777777777" // its record has expired

// withTemplates is the survey of a bench with a template and its database.
func withTemplates() tasks.Survey {
	s := well()
	s.Templates = []nexus.Template{{Name: "plain-77777777", DB: built.Database(install), Job: built, Spec: nexus.TemplatePlain}}
	s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: built.Database(install), Job: built, Exists: true, Users: 1, Kind: "template"})
	return s
}

func TestDiagnoseTemplates(t *testing.T) {
	t.Parallel()
	building := func(s *tasks.Survey, state nexus.State) {
		s.Jobs[built] = nexus.Job{ID: built, Kind: nexus.KindTemplate, Site: "plain-77777777", State: state, Owner: built, DB: built.Database(install)}
	}
	one := func(kind tasks.Trouble, safe bool) []tasks.Finding {
		return []tasks.Finding{{Kind: kind, Site: "plain-77777777", Room: nexus.RoomTemplates, DB: built.Database(install), Job: built, Safe: safe}}
	}
	edit := func(s *tasks.Survey, do func(*nexus.Template, *nexus.DatabaseInfo)) {
		do(&s.Templates[0], &s.Inventory.Databases[len(s.Inventory.Databases)-1])
	}
	for _, tc := range []struct {
		name string
		edit func(s *tasks.Survey)
		want []tasks.Finding
		mend string // part of what to do; empty: --fix
	}{
		{name: "one whose job's record has expired", edit: func(*tasks.Survey) {}},
		{name: "one whose job succeeded", edit: func(s *tasks.Survey) { building(s, nexus.Succeeded) }},
		{name: "an unusable one", edit: func(s *tasks.Survey) {
			edit(s, func(t *nexus.Template, _ *nexus.DatabaseInfo) { t.Problem = "Its apps have changed." })
		}, want: one(tasks.UnusableTemplate, true)},
		{name: "an unusable one whose job succeeded", edit: func(s *tasks.Survey) {
			building(s, nexus.Succeeded)
			edit(s, func(t *nexus.Template, _ *nexus.DatabaseInfo) { t.Problem = "Its apps have changed." })
		}, want: one(tasks.UnusableTemplate, true)},
		{name: "one that is built", edit: func(s *tasks.Survey) {
			building(s, nexus.Waiting)
			edit(s, func(t *nexus.Template, _ *nexus.DatabaseInfo) { t.Problem = "It is not finished." })
		}},
		{name: "one whose rollback failed", edit: func(s *tasks.Survey) {
			building(s, nexus.RollbackFailed)
			edit(s, func(t *nexus.Template, _ *nexus.DatabaseInfo) { t.Problem = "It is not finished." })
		}, want: []tasks.Finding{{Kind: tasks.ParkedJob, Site: "plain-77777777", DB: built.Database(install), Job: built}}, mend: "nexus jobs resume " + string(built)},
		{name: "one with another database", edit: func(s *tasks.Survey) {
			edit(s, func(t *nexus.Template, db *nexus.DatabaseInfo) {
				t.Problem, t.DB, db.Name, db.Job = "It is damaged.", "_other", "_other", ""
			})
		}, want: []tasks.Finding{{Kind: tasks.UnusableTemplate, Site: "plain-77777777", Room: nexus.RoomTemplates, DB: "_other", Job: built}}, mend: "by hand"},
		{name: "one of nobody", edit: func(s *tasks.Survey) {
			edit(s, func(t *nexus.Template, db *nexus.DatabaseInfo) {
				t.Problem, t.DB, t.Job, db.Job = "It is damaged.", "", "", ""
			})
		}, want: []tasks.Finding{{Kind: tasks.UnusableTemplate, Site: "plain-77777777", Room: nexus.RoomTemplates}}, mend: "by hand"},
		{name: "a database without its template", edit: func(s *tasks.Survey) { s.Templates = nil }, want: one(tasks.OrphanDatabase, true)},
		{name: "a database user without its template", edit: func(s *tasks.Survey) {
			edit(s, func(_ *nexus.Template, db *nexus.DatabaseInfo) { db.Exists = false })
			s.Templates = nil
		}, want: one(tasks.OrphanDatabase, true)},
		{name: "a database of a template that is built", edit: func(s *tasks.Survey) {
			building(s, nexus.Running)
			s.Templates = nil
		}},
		{name: "a database with another name, without its template", edit: func(s *tasks.Survey) {
			edit(s, func(_ *nexus.Template, db *nexus.DatabaseInfo) { db.Name = "nx9f3cother" })
			s.Templates = nil
		}, want: []tasks.Finding{{Kind: tasks.OrphanDatabase, Site: "plain-77777777", Room: nexus.RoomTemplates, DB: "nx9f3cother", Job: built}}, mend: "by hand"},
		{name: "a database of an odd job, without its template", edit: func(s *tasks.Survey) {
			edit(s, func(_ *nexus.Template, db *nexus.DatabaseInfo) { db.Job = "7" })
			s.Templates = nil
		}, want: []tasks.Finding{{Kind: tasks.OrphanDatabase, Room: nexus.RoomTemplates, DB: built.Database(install), Job: "7"}}, mend: "by hand"},
		{name: "a site's database, without its site", edit: func(s *tasks.Survey) {
			edit(s, func(_ *nexus.Template, db *nexus.DatabaseInfo) { db.Kind = "site" })
			s.Templates = nil
		}, want: []tasks.Finding{{Kind: tasks.OrphanDatabase, DB: built.Database(install), Job: built}}, mend: "by hand"},
		{name: "the build is missing in the due index", edit: func(s *tasks.Survey) {
			building(s, nexus.Running)
			s.Unseen = []nexus.JobID{built}
		}, want: []tasks.Finding{{Kind: tasks.UnseenJob, Site: "plain-77777777", DB: built.Database(install), Job: built, Safe: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := withTemplates()
			tc.edit(&s)
			got := tasks.Diagnose(s)
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(tasks.Finding{}, "What", "Mend", "Made", "Shelve"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for _, f := range got {
				if want := map[bool]string{true: "nexus doctor --fix", false: tc.mend}[tc.mend == ""]; !strings.HasSuffix(f.What, ".") || !strings.Contains(f.Mend, want) {
					t.Errorf("%q %q, want %q", f.What, f.Mend, want)
				}
				if strings.Contains(f.What, "template of plain") {
					t.Errorf("not a sentence: %q", f.What)
				}
			}
		})
	}
}
