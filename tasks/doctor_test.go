package tasks_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// A bench without findings: an active tenant, one that is being made, a site that Nexus
// did not make, one of another install, the master site, and a standby.
const (
	live  nexus.JobID = "11111111111111111111111111111111"
	dead  nexus.JobID = "dddddddddddddddddddddddddddddddd"
	lost  nexus.JobID = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" // no record
	other nexus.JobID = "ffffffffffffffffffffffffffffffff"
)

func well() tasks.Survey {
	return tasks.Survey{
		Install: install, Master: "erp.example.com",
		Tenants: []nexus.Tenant{
			{Site: "acme.example.com", State: nexus.TenantActive, DB: maker.Database(install), MadeBy: maker},
			{Site: "new.example.com", State: nexus.TenantMaking, DB: live.Database(install), MadeBy: live, Job: live},
		},
		Jobs: map[nexus.JobID]nexus.Job{
			maker: {ID: maker, Kind: nexus.KindProvision, Site: "acme.example.com", State: nexus.Succeeded, Owner: maker, DB: maker.Database(install)},
			live:  {ID: live, Kind: nexus.KindProvision, Site: "new.example.com", State: nexus.Running, Owner: live, DB: live.Database(install)},
			dead:  {ID: dead, Kind: nexus.KindProvision, Site: "dead.example.com", State: nexus.Failed, Owner: dead, DB: dead.Database(install)},
		},
		Inventory: nexus.InventoryResult{
			Sites: []nexus.SiteInfo{
				marked("acme.example.com", maker, nexus.TenantActive),
				{Site: "theirs.example.com", Folder: true, DB: "_theirs"},
				{Site: "elsewhere.example.com", Folder: true, DB: "nx0000abcdef", Install: "0000", Job: other, State: "active"},
				{Site: "erp.example.com", Folder: true, DB: "_erp"},
			},
			Intents: []nexus.Intent{{Site: "new.example.com", Job: live, DB: live.Database(install)}},
			Databases: []nexus.DatabaseInfo{
				{Name: maker.Database(install), Job: maker, Exists: true, Users: 1},
				{Name: live.Database(install), Job: live, Exists: true, Users: 1},
				{Name: "_theirs", Exists: true, Users: 1, Adopted: true}, // registered, to be adopted
			},
			Folders: []nexus.FolderInfo{{Room: nexus.RoomStandby, Name: "s1", DB: "nx9f3cstandby"},
				{Room: nexus.RoomTrash, Name: "x", DB: live.Database(install), Job: live}},
		},
	}
}

func marked(site nexus.SiteName, job nexus.JobID, state nexus.TenantState) nexus.SiteInfo {
	return nexus.SiteInfo{Site: site, Folder: true, DB: job.Database(install), Database: true, Install: install, Job: job, State: string(state)}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	acme := func(kind tasks.Trouble, safe bool) []tasks.Finding {
		return []tasks.Finding{{Kind: kind, Site: "acme.example.com", DB: maker.Database(install), Job: maker, Safe: safe, State: nexus.TenantActive}}
	}
	one := func(kind tasks.Trouble, site nexus.SiteName, job nexus.JobID, safe bool) []tasks.Finding {
		return []tasks.Finding{{Kind: kind, Site: site, DB: job.Database(install), Job: job, Safe: safe}}
	}
	addSite := func(s *tasks.Survey, site nexus.SiteInfo) { s.Inventory.Sites = append(s.Inventory.Sites, site) }
	for _, tc := range []struct {
		name string
		edit func(s *tasks.Survey)
		want []tasks.Finding
	}{
		{name: "all is well", edit: func(*tasks.Survey) {}},
		{name: "a tenant's folder is gone", edit: func(s *tasks.Survey) { s.Inventory.Sites = s.Inventory.Sites[1:] }, want: acme(tasks.MissingSite, false)},
		{name: "a tenant's database is gone", edit: func(s *tasks.Survey) { s.Inventory.Sites[0].Database = false }, want: acme(tasks.MissingDatabase, false)},
		{name: "a tenant's folder is another job's", edit: func(s *tasks.Survey) { s.Inventory.Sites[0].Job = other }, want: acme(tasks.OtherOwner, false)},
		{name: "a tenant's folder has no marker", edit: func(s *tasks.Survey) { s.Inventory.Sites[0].Install = "" }, want: acme(tasks.OtherOwner, false)},
		{name: "a tenant is closed on the bench", edit: func(s *tasks.Survey) { s.Inventory.Sites[0].State = "suspended" }, want: acme(tasks.OtherState, false)},
		{name: "a live job changes the tenant", edit: func(s *tasks.Survey) {
			s.Inventory.Sites[0].State, s.Tenants[0].Job = "suspended", other
			s.Jobs[other] = nexus.Job{ID: other, Kind: nexus.KindSuspend, Site: "acme.example.com", State: nexus.Waiting, Owner: maker, DB: maker.Database(install)}
		}},
		{name: "a parked job", edit: func(s *tasks.Survey) {
			s.Jobs[live] = nexus.Job{ID: live, Kind: nexus.KindProvision, Site: "new.example.com", State: nexus.RollbackFailed, Owner: live, DB: live.Database(install)}
		}, want: one(tasks.ParkedJob, "new.example.com", live, false)},
		{name: "a job that no timer has", edit: func(s *tasks.Survey) { s.Unseen = []nexus.JobID{live} }, want: one(tasks.UnseenJob, "new.example.com", live, true)},
		{name: "a row in the making whose job failed", edit: func(s *tasks.Survey) {
			s.Jobs[live] = nexus.Job{ID: live, Site: "new.example.com", State: nexus.Failed}
			s.Inventory.Intents = nil
			s.Inventory.Folders = nil
		}, want: []tasks.Finding{{Kind: tasks.StuckTenant, Site: "new.example.com", DB: live.Database(install), Job: live, Safe: true, State: nexus.TenantMaking}}},
		{name: "a row in the making whose job is unknown, and its site opened", edit: func(s *tasks.Survey) {
			delete(s.Jobs, live)
			s.Inventory.Intents, s.Inventory.Folders = nil, nil
			addSite(s, marked("new.example.com", live, nexus.TenantActive))
		}, want: []tasks.Finding{{Kind: tasks.StuckTenant, Site: "new.example.com", DB: live.Database(install), Job: live, State: nexus.TenantMaking}}},
		{name: "a row on its way out without a job", edit: func(s *tasks.Survey) {
			s.Tenants[0].State, s.Tenants[0].Job, s.Inventory.Sites[0].State = nexus.TenantDeleting, lost, "deleting"
		}, want: []tasks.Finding{{Kind: tasks.StuckTenant, Site: "acme.example.com", DB: maker.Database(install), Job: maker, Safe: true, State: nexus.TenantDeleting}}},
		{name: "a site of a job that failed", edit: func(s *tasks.Survey) { addSite(s, marked("dead.example.com", dead, nexus.TenantMaking)) },
			want: withState(one(tasks.OrphanSite, "dead.example.com", dead, true), nexus.TenantMaking)},
		{name: "a site of a job that failed, once opened", edit: func(s *tasks.Survey) { addSite(s, marked("dead.example.com", dead, nexus.TenantActive)) },
			want: withState(one(tasks.UnrecordedSite, "dead.example.com", dead, false), nexus.TenantActive)},
		{name: "the intent of a tenant in another state", edit: func(s *tasks.Survey) {
			s.Inventory.Sites[0].State = "suspended"
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "acme.example.com", Job: maker, DB: maker.Database(install)})
		}, want: append(acme(tasks.OtherState, false), acme(tasks.StaleIntent, false)...)},
		{name: "an adoption that failed", edit: func(s *tasks.Survey) {
			site := marked("dead.example.com", dead, nexus.TenantMaking)
			site.DB, site.Adopted = "_dead", true
			addSite(s, site)
		}, want: []tasks.Finding{{Kind: tasks.OrphanAdoption, Site: "dead.example.com", DB: "_dead", Job: dead, Safe: true, State: nexus.TenantMaking}}},
		{name: "an adoption that failed, once opened", edit: func(s *tasks.Survey) {
			site := marked("dead.example.com", dead, nexus.TenantActive)
			site.DB, site.Adopted = "_dead", true
			addSite(s, site)
		}, want: []tasks.Finding{{Kind: tasks.UnrecordedSite, Site: "dead.example.com", DB: "_dead", Job: dead, State: nexus.TenantActive}}},
		{name: "a lost registry", edit: func(s *tasks.Survey) { s.Tenants, s.Jobs = nil, nil; s.Inventory.Folders = nil },
			want: append(withState(one(tasks.UnrecordedSite, "acme.example.com", maker, false), nexus.TenantActive), one(tasks.StaleIntent, "new.example.com", live, true)...)},
		{name: "a site nobody knows, never finished", edit: func(s *tasks.Survey) { addSite(s, marked("lost.example.com", lost, nexus.TenantMaking)) },
			want: withState(one(tasks.HalfMadeSite, "lost.example.com", lost, false), nexus.TenantMaking)},
		{name: "the intent of a job that failed", edit: func(s *tasks.Survey) {
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: dead.Database(install)})
		}, want: one(tasks.StaleIntent, "dead.example.com", dead, true)},
		{name: "the intent of an active tenant", edit: func(s *tasks.Survey) {
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "acme.example.com", Job: maker, DB: maker.Database(install)})
		}, want: acme(tasks.StaleIntent, true)},
		{name: "the intent of a removed tenant, with a database", edit: func(s *tasks.Survey) {
			s.Tenants, s.Inventory.Sites = s.Tenants[1:], s.Inventory.Sites[1:]
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "acme.example.com", Job: maker, DB: maker.Database(install)})
		}, want: one(tasks.StaleIntent, "acme.example.com", maker, false)},
		{name: "the database of a job that failed", edit: func(s *tasks.Survey) {
			s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: dead.Database(install), Job: dead, Exists: true})
		}, want: one(tasks.OrphanDatabase, "dead.example.com", dead, true)},
		{name: "the database of a job nobody knows", edit: func(s *tasks.Survey) {
			s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: lost.Database(install), Job: lost, Users: 1})
		}, want: one(tasks.OrphanDatabase, "", lost, false)},
		{name: "an adopted database without its site", edit: func(s *tasks.Survey) {
			s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: "_dead", Job: dead, Exists: true, Adopted: true})
		}, want: []tasks.Finding{{Kind: tasks.OrphanDatabase, Site: "dead.example.com", DB: "_dead", Job: dead}}},
		{name: "trash", edit: func(s *tasks.Survey) {
			s.Inventory.Folders = append(s.Inventory.Folders, nexus.FolderInfo{Room: nexus.RoomTrash, Name: "y", Site: "lost.example.com", DB: lost.Database(install), Job: lost})
		}, want: one(tasks.StaleTrash, "lost.example.com", lost, true)},
		{name: "trash of a tenant that is there", edit: func(s *tasks.Survey) {
			s.Inventory.Folders = append(s.Inventory.Folders, nexus.FolderInfo{Room: nexus.RoomTrash, Name: "y", Site: "acme.example.com", DB: maker.Database(install), Job: maker})
		}, want: one(tasks.StaleTrash, "acme.example.com", maker, false)},
		{name: "an archive", edit: func(s *tasks.Survey) {
			s.Inventory.Folders = append(s.Inventory.Folders, nexus.FolderInfo{Room: nexus.RoomArchive, Name: "y", Site: "lost.example.com", DB: lost.Database(install), Job: lost})
		}, want: one(tasks.OldArchive, "lost.example.com", lost, false)},
		{name: "the master site, whatever it says", edit: func(s *tasks.Survey) {
			s.Inventory.Sites[3] = marked("erp.example.com", dead, nexus.TenantMaking)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := well()
			tc.edit(&s)
			got := tasks.Diagnose(s)
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(tasks.Finding{}, "What", "Mend", "Made", "Shelve"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for _, f := range got {
				if !strings.HasSuffix(strings.TrimRight(f.What, " "), ".") || len(f.Mend) < 10 {
					t.Errorf("not sentences: %q %q", f.What, f.Mend)
				}
			}
		})
	}
	if n := well().Foreign(); n != 3 {
		t.Errorf("%d sites are foreign", n)
	}
}

func withState(f []tasks.Finding, state nexus.TenantState) []tasks.Finding {
	f[0].State = state
	return f
}
