package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

const (
	install              = nexus.InstallID("9f3c")
	dead     nexus.JobID = "dddddddddddddddddddddddddddddddd"
	lost     nexus.JobID = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	live     nexus.JobID = "11111111111111111111111111111111"
	parked   nexus.JobID = "22222222222222222222222222222222"
	keepName             = "keep-%02d.example.com"
)

// many has thirty tenants that are kept, a few test sites, leftovers, and sites of others.
func many() tasks.Survey {
	s := tasks.Survey{Install: install, Master: "test-master.example.com", Jobs: map[nexus.JobID]nexus.Job{
		dead:   {ID: dead, Site: "test-dead.example.com", State: nexus.Failed, Owner: dead, DB: dead.Database(install)},
		live:   {ID: live, Site: "test-new.example.com", State: nexus.Running, Owner: live, DB: live.Database(install)},
		parked: {ID: parked, Kind: nexus.KindTeardown, Site: "test-parked.example.com", State: nexus.RollbackFailed, Owner: parked},
	}}
	tenant := func(site nexus.SiteName, job nexus.JobID) {
		s.Tenants = append(s.Tenants, nexus.Tenant{Site: site, State: nexus.TenantActive, DB: job.Database(install), MadeBy: job})
		s.Inventory.Sites = append(s.Inventory.Sites, nexus.SiteInfo{Site: site, Folder: true, Database: true, DB: job.Database(install),
			Install: install, Job: job, State: "active"})
	}
	for i := range 30 {
		tenant(nexus.SiteName(fmt.Sprintf(keepName, i)), nexus.JobID(fmt.Sprintf("%032x", i)))
	}
	tenant("test-1.example.com", nexus.JobID(strings.Repeat("a1", 16)))
	tenant("test-2.example.com", nexus.JobID(strings.Repeat("a2", 16)))
	s.Tenants = append(s.Tenants,
		nexus.Tenant{Site: "test-new.example.com", State: nexus.TenantMaking, MadeBy: live, Job: live},
		nexus.Tenant{Site: "test-parked.example.com", State: nexus.TenantDeleting, MadeBy: parked, Job: parked})
	s.Inventory.Sites = append(s.Inventory.Sites,
		nexus.SiteInfo{Site: "test-theirs.example.com", Folder: true, DB: "_theirs"},
		nexus.SiteInfo{Site: "test-elsewhere.example.com", Folder: true, Install: "0000", State: "active"},
		nexus.SiteInfo{Site: "test-master.example.com", Folder: true, DB: "_master"},
		nexus.SiteInfo{Site: "test-lost.example.com", Folder: true, Install: install, Job: lost, DB: lost.Database(install), State: "active"},
		nexus.SiteInfo{Site: "test-dead.example.com", Folder: true, Install: install, Job: dead, DB: dead.Database(install), State: "making"})
	return s
}

func TestPlanCleanup(t *testing.T) {
	t.Parallel()
	tests := []string{"test-1.example.com: tenant, active", "test-2.example.com: tenant, active",
		"test-dead.example.com: orphan site", "test-new.example.com: tenant, making, at work"}
	spared := []string{"test-elsewhere", "test-lost", "test-master", "test-parked", "test-theirs"}
	for _, tc := range []struct {
		name   string
		o      app.CleanupOptions
		edit   func(*tasks.Survey)
		want   []string
		spared []string
		code   nexus.Code
	}{
		{name: "nothing matches", o: app.CleanupOptions{Globs: []string{"demo-*"}}},
		{name: "by the subdomain", o: app.CleanupOptions{Globs: []string{"test-*"}}, want: tests, spared: spared},
		{name: "by the full name, in capitals", o: app.CleanupOptions{Globs: []string{"TEST-1.example.com"}}, want: tests[:1]},
		{name: "two patterns", o: app.CleanupOptions{Globs: []string{"test-1", "*-2.example.com"}}, want: tests[:2]},
		{name: "a class", o: app.CleanupOptions{Globs: []string{"test-[12]"}}, want: tests[:2]},
		{name: "too large a part", o: app.CleanupOptions{Globs: []string{"keep-*"}}, code: nexus.Forbidden},
		{name: "too large a part, and said so", o: app.CleanupOptions{Globs: []string{"keep-0*"}, Max: 10}, want: keeps(10)},
		{name: "more than was said", o: app.CleanupOptions{Globs: []string{"test-*"}, Max: 3}, code: nexus.Forbidden},
		{name: "three may always go", o: app.CleanupOptions{Globs: []string{"test-?"}}, edit: func(s *tasks.Survey) { s.Tenants = s.Tenants[30:] },
			want: tests[:2]},
		{name: "a parked row of another's folder", o: app.CleanupOptions{Globs: []string{"test-1"}},
			edit: func(s *tasks.Survey) { s.Inventory.Sites[30].Job = lost }, spared: []string{"test-1"}},
		{name: "a row whose job is over", o: app.CleanupOptions{Globs: []string{"test-new"}},
			edit: func(s *tasks.Survey) { s.Jobs[live] = nexus.Job{ID: live, State: nexus.Failed} }, want: []string{"test-new.example.com: a tenant whose job is over"}},
		{name: "templates are no sites", o: app.CleanupOptions{Globs: []string{"plain-*", "test-1"}}, edit: func(s *tasks.Survey) {
			s.Templates = []nexus.Template{{Name: "plain-dddddddd", DB: dead.Database(install), Job: dead, Problem: "It is old."}}
			s.Inventory.Databases = []nexus.DatabaseInfo{{Name: lost.Database(install), Job: lost, Exists: true, Kind: "template"}}
			s.Inventory.Sites = slices.DeleteFunc(s.Inventory.Sites, func(site nexus.SiteInfo) bool { return site.Job == lost || site.Job == dead })
		}, want: tests[:1]},
		{name: "what was a standby goes", o: app.CleanupOptions{Globs: []string{"test-1", "test-dead"}}, edit: func(s *tasks.Survey) {
			for i, site := range s.Inventory.Sites {
				if site.Job == dead || site.Site == "test-1.example.com" {
					s.Inventory.Sites[i].DB = ("standby of " + site.Job).Database(install)
					s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: s.Inventory.Sites[i].DB, Job: site.Job, Exists: true})
				}
			}
			s.Tenants[30].DB = s.Inventory.Sites[30].DB
		}, want: []string{tests[0], tests[2]}},
		{name: "what was adopted by the register stays", o: app.CleanupOptions{Globs: []string{"test-dead"}}, edit: func(s *tasks.Survey) {
			s.Inventory.Databases = []nexus.DatabaseInfo{{Name: dead.Database(install), Job: dead, Exists: true, Adopted: true}}
		}, spared: []string{"test-dead"}},
		{name: "what is another job's by the register is left", o: app.CleanupOptions{Globs: []string{"test-dead"}}, edit: func(s *tasks.Survey) {
			s.Inventory.Databases = []nexus.DatabaseInfo{{Name: dead.Database(install), Job: lost, Exists: true}}
		}},
		{name: "standbys are no sites", o: app.CleanupOptions{Globs: []string{"standby-*", "test-1"}}, edit: func(s *tasks.Survey) {
			s.Standbys = []nexus.Standby{{Name: nexus.StandbyName(lost), DB: lost.Database(install), Job: lost, Problem: "It is old."}}
			s.Inventory.Databases = []nexus.DatabaseInfo{{Name: parked.Database(install), Job: parked, Exists: true, Kind: "standby"}}
		}, want: tests[:1]},
		{name: "an adopted tenant goes, an adoption that failed stays", o: app.CleanupOptions{Globs: []string{"test-1", "test-dead"}},
			edit: func(s *tasks.Survey) {
				s.Inventory.Sites[len(s.Inventory.Sites)-1].DB, s.Inventory.Sites[len(s.Inventory.Sites)-1].Adopted = "_dead", true
			}, want: tests[:1], spared: []string{"test-dead"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := many()
			if tc.edit != nil {
				tc.edit(&s)
			}
			plan, err := app.PlanCleanup(s, tc.o, "example.com")
			if code := nexus.CodeOf(err); code != tc.code {
				t.Fatalf("%v, want %q", err, tc.code)
			}
			if tc.code != "" {
				return
			}
			var got, stays []string
			for _, item := range plan.Items {
				text := fmt.Sprintf("%s: %s", item.Name, item.What)
				if item.Live != "" {
					text += ", at work"
				}
				got = append(got, text)
			}
			for _, text := range plan.Spared {
				name, _, _ := strings.Cut(text, ".")
				stays = append(stays, name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("goes:\n%s", diff)
			}
			if diff := cmp.Diff(tc.spared, stays, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("stays:\n%s", diff)
			}
		})
	}
}

func keeps(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(keepName+": tenant, active", i))
	}
	return out
}

func TestCleanupPatterns(t *testing.T) {
	t.Parallel()
	for _, glob := range []string{"*", "**", "*.*", "?*", "", "test-["} {
		err := app.Cleanup(t.Context(), nil, app.CleanupOptions{Globs: []string{"test-*", glob}}, nil)
		if nexus.CodeOf(err) != nexus.Invalid {
			t.Errorf("%q: %v", glob, err)
		}
	}
	if err := app.Cleanup(t.Context(), nil, app.CleanupOptions{}, nil); nexus.CodeOf(err) != nexus.Invalid {
		t.Errorf("no pattern: %v", err)
	}
}
