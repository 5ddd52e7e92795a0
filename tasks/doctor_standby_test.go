package tasks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

const (
	kept nexus.JobID = "55555555555555555555555555555555" // made a standby that is on the shelf
	sold nexus.JobID = "66666666666666666666666666666666" // made one that signups got
)

// withStandby is the survey of a bench with a standby on its shelf.
func withStandby() tasks.Survey {
	s := well()
	now := time.Unix(1000, 0)
	s.Standbys = []nexus.Standby{{Name: nexus.StandbyName(kept), DB: kept.Database(install), Job: kept, Template: "plain-77777777"}}
	s.Shelves = []nexus.Shelf{{Bench: "main", Now: now, Standbys: []nexus.ShelfStandby{
		{Job: kept, DB: kept.Database(install), State: nexus.StandbyShelved, At: now.Add(-time.Hour)}}}}
	s.Inventory.Databases = append(s.Inventory.Databases, nexus.DatabaseInfo{Name: kept.Database(install), Job: kept, Exists: true, Users: 1, Kind: "standby"})
	return s
}

func TestDiagnoseStandbys(t *testing.T) {
	t.Parallel()
	its := func(kind tasks.Trouble, shelve bool) []tasks.Finding {
		return []tasks.Finding{{Kind: kind, Site: nexus.StandbyName(kept), Room: nexus.RoomStandby, DB: kept.Database(install), Job: kept, Safe: true, Made: true, Shelve: shelve}}
	}
	row := func(s *tasks.Survey, state nexus.StandbyState, ago time.Duration, taker nexus.JobID) {
		each := &s.Shelves[0].Standbys[0]
		each.State, each.At, each.Taker = state, s.Shelves[0].Now.Add(-ago), taker
	}
	for _, tc := range []struct {
		name string
		edit func(s *tasks.Survey)
		want []tasks.Finding
	}{
		{name: "on its shelf", edit: func(*tasks.Survey) {}},
		{name: "of no use", edit: func(s *tasks.Survey) { s.Standbys[0].Problem = "It is old." }, want: its(tasks.UnusableStandby, false)},
		{name: "unknown to the registry", edit: func(s *tasks.Survey) { s.Shelves = nil }, want: its(tasks.UnusableStandby, true)},
		{name: "unknown and of no use", edit: func(s *tasks.Survey) { s.Shelves, s.Standbys[0].Problem = nil, "It is old." }, want: its(tasks.UnusableStandby, false)},
		{name: "being made", edit: func(s *tasks.Survey) {
			s.Standbys[0].Problem = "It is not finished."
			row(s, nexus.StandbyMaking, time.Minute, "")
			s.Jobs[kept] = nexus.Job{ID: kept, Kind: nexus.KindStandby, State: nexus.Running, Owner: kept}
		}},
		{name: "made by a job that is over", edit: func(s *tasks.Survey) { row(s, nexus.StandbyMaking, time.Minute, "") }, want: its(tasks.UnusableStandby, false)},
		{name: "taken by a live job", edit: func(s *tasks.Survey) {
			s.Standbys[0].Problem = "A signup has taken it."
			row(s, nexus.StandbyPopped, time.Hour, live)
		}},
		{name: "that a live job has by its record", edit: func(s *tasks.Survey) {
			s.Standbys[0].Problem = "A signup has taken it."
			s.Shelves = nil
			s.Jobs[live] = nexus.Job{ID: live, Site: "new.example.com", State: nexus.Running, Owner: live, DB: kept.Database(install)}
		}},
		{name: "taken by a job that is over", edit: func(s *tasks.Survey) { row(s, nexus.StandbyPopped, time.Hour, dead) }, want: its(tasks.UnusableStandby, false)},
		{name: "being dropped", edit: func(s *tasks.Survey) { row(s, nexus.StandbyReaping, 59*time.Second, dead) }},
		{name: "being dropped, and gone", edit: func(s *tasks.Survey) { row(s, nexus.StandbyReaping, 59*time.Second, ""); s.Standbys = nil }},
		{name: "to be dropped long ago", edit: func(s *tasks.Survey) { row(s, nexus.StandbyReaping, time.Minute, dead) }, want: its(tasks.UnusableStandby, false)},
		{name: "gone from the bench", edit: func(s *tasks.Survey) { s.Standbys = nil }, want: its(tasks.MissingStandby, false)},
		{name: "gone from the bench with a live job", edit: func(s *tasks.Survey) { s.Standbys = nil; row(s, nexus.StandbyPopped, time.Hour, live) }},
		{name: "a database without its standby", edit: func(s *tasks.Survey) { s.Standbys, s.Shelves = nil, nil }, want: its(tasks.OrphanDatabase, false)},
		{name: "a database of a live job", edit: func(s *tasks.Survey) {
			s.Standbys, s.Shelves = nil, nil
			s.Jobs[kept] = nexus.Job{ID: kept, Kind: nexus.KindStandby, State: nexus.Running, Owner: kept}
		}},
		{name: "half taken by a job that is over", edit: func(s *tasks.Survey) {
			s.Standbys[0].Problem = "A signup has taken it."
			row(s, nexus.StandbyPopped, time.Hour, dead)
			s.Inventory.Databases[3].Job, s.Inventory.Databases[3].Kind = dead, "site"
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: kept.Database(install)})
		}, want: []tasks.Finding{{Kind: tasks.StaleIntent, Site: "dead.example.com", DB: kept.Database(install), Job: dead, Safe: true, Made: true}}},
		{name: "nobody knows whose", edit: func(s *tasks.Survey) {
			s.Standbys[0].Job, s.Standbys[0].Problem, s.Shelves = "", "Its job is not known.", nil
		}, want: []tasks.Finding{{Kind: tasks.UnusableStandby, Site: nexus.StandbyName(kept), Room: nexus.RoomStandby, DB: kept.Database(install), Made: true}}},
		{name: "of an odd job", edit: func(s *tasks.Survey) {
			s.Standbys[0].Name, s.Standbys[0].Job, s.Standbys[0].DB, s.Shelves = "standby-7", "7", nexus.JobID("7").Database(install), nil
			s.Inventory.Databases[3] = nexus.DatabaseInfo{Name: nexus.JobID("8").Database(install), Job: "8", Exists: true, Kind: "standby"}
		}, want: []tasks.Finding{{Kind: tasks.OrphanDatabase, Room: nexus.RoomStandby, DB: nexus.JobID("8").Database(install), Job: "8", Made: true},
			{Kind: tasks.UnusableStandby, Site: "standby-7", Room: nexus.RoomStandby, DB: nexus.JobID("7").Database(install), Job: "7", Made: true}}},
		{name: "of another name", edit: func(s *tasks.Survey) { s.Standbys[0].Name, s.Shelves = "standby-00000000", nil }, want: []tasks.Finding{
			{Kind: tasks.UnusableStandby, Site: "standby-00000000", Room: nexus.RoomStandby, DB: kept.Database(install), Job: kept, Made: true}}},
		{name: "with the database of another", edit: func(s *tasks.Survey) { s.Standbys[0].DB, s.Shelves = other.Database(install), nil }, want: []tasks.Finding{
			{Kind: tasks.OrphanDatabase, Site: nexus.StandbyName(kept), Room: nexus.RoomStandby, DB: kept.Database(install), Job: kept, Safe: true, Made: true},
			{Kind: tasks.UnusableStandby, Site: nexus.StandbyName(kept), Room: nexus.RoomStandby, DB: other.Database(install), Job: kept, Made: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := withStandby()
			tc.edit(&s)
			got := tasks.Diagnose(s)
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(tasks.Finding{}, "What", "Mend"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			for _, f := range got {
				if !strings.HasSuffix(f.What, ".") || strings.Contains(f.Mend, "by hand") == f.Safe {
					t.Errorf("not sentences: %q %q", f.What, f.Mend)
				}
			}
		})
	}
}

// TestDiagnoseClaimed: a site that was a standby has a database that is not derived from its
// job. It is a site like any other that Nexus made.
func TestDiagnoseClaimed(t *testing.T) {
	t.Parallel()
	db := sold.Database(install)
	claimed := func(s *tasks.Survey, job nexus.JobID, state nexus.TenantState) {
		site := marked("dead.example.com", job, state)
		site.DB = db
		s.Inventory.Sites = append(s.Inventory.Sites, site)
	}
	registered := func(s *tasks.Survey, info nexus.DatabaseInfo) {
		info.Name, info.Exists = db, true
		s.Inventory.Databases = append(s.Inventory.Databases, info)
	}
	finding := func(kind tasks.Trouble, state nexus.TenantState, safe, made bool) []tasks.Finding {
		return []tasks.Finding{{Kind: kind, Site: "dead.example.com", DB: db, Job: dead, State: state, Safe: safe, Made: made}}
	}
	for _, tc := range []struct {
		name string
		edit func(s *tasks.Survey)
		want []tasks.Finding
	}{
		{name: "a tenant", edit: func(s *tasks.Survey) {
			s.Tenants[0].DB, s.Inventory.Sites[0].DB = db, db
			s.Inventory.Databases[0] = nexus.DatabaseInfo{Name: db, Job: maker, Exists: true, Users: 1, Kind: "site"}
		}},
		{name: "a site of a job that failed", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.OrphanSite, nexus.TenantMaking, true, true)},
		{name: "a site of a job that failed, whose database is another's", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			registered(s, nexus.DatabaseInfo{Job: maker, Kind: "site"})
		}, want: finding(tasks.OrphanSite, nexus.TenantMaking, false, false)},
		{name: "a site of a job that failed, adopted by the register", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			registered(s, nexus.DatabaseInfo{Job: dead, Adopted: true})
		}, want: finding(tasks.OrphanAdoption, nexus.TenantMaking, true, false)},
		{name: "an adoption nobody knows, by the register", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			registered(s, nexus.DatabaseInfo{Job: dead, Adopted: true})
			delete(s.Jobs, dead)
		}, want: finding(tasks.OrphanAdoption, nexus.TenantMaking, true, false)},
		{name: "a site of a job that failed, adopted by its marker", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			s.Inventory.Sites[len(s.Inventory.Sites)-1].Adopted = true
		}, want: finding(tasks.OrphanAdoption, nexus.TenantMaking, true, false)},
		{name: "a row in the making of an adoption, by the marker", edit: func(s *tasks.Survey) {
			s.Tenants = append(s.Tenants, nexus.Tenant{Site: "dead.example.com", State: nexus.TenantMaking, DB: db, MadeBy: dead, Job: dead})
			claimed(s, dead, nexus.TenantMaking)
			s.Inventory.Sites[len(s.Inventory.Sites)-1].Adopted = true
		}, want: finding(tasks.StuckTenant, nexus.TenantMaking, true, false)},
		{name: "a site of a job that failed, with a name that Nexus gives no database", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantMaking)
			s.Inventory.Sites[len(s.Inventory.Sites)-1].DB = "_dead"
		}, want: []tasks.Finding{{Kind: tasks.OrphanAdoption, Site: "dead.example.com", DB: "_dead", Job: dead, State: nexus.TenantMaking, Safe: true}}},
		{name: "a site that was opened", edit: func(s *tasks.Survey) {
			claimed(s, dead, nexus.TenantActive)
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.UnrecordedSite, nexus.TenantActive, false, true)},
		{name: "the database of a job that failed", edit: func(s *tasks.Survey) { registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"}) },
			want: finding(tasks.OrphanDatabase, "", true, true)},
		{name: "the database of a tenant whose folder is lost", edit: func(s *tasks.Survey) {
			s.Jobs[dead] = nexus.Job{ID: dead, Site: "dead.example.com", State: nexus.Succeeded}
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.OrphanDatabase, "", false, true)},
		{name: "the intent of a job that failed", edit: func(s *tasks.Survey) {
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: db})
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.StaleIntent, "", true, true)},
		{name: "the intent of a job that failed before the hand-over", edit: func(s *tasks.Survey) {
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: db})
			registered(s, nexus.DatabaseInfo{Job: sold, Kind: "standby"})
		}, want: finding(tasks.StaleIntent, "", true, true)},
		{name: "the intent of a job that failed, of another's database", edit: func(s *tasks.Survey) {
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: db})
			registered(s, nexus.DatabaseInfo{Job: maker, Kind: "site"})
		}, want: finding(tasks.StaleIntent, "", false, false)},
		{name: "the intent of a job that succeeded", edit: func(s *tasks.Survey) {
			s.Jobs[dead] = nexus.Job{ID: dead, Site: "dead.example.com", State: nexus.Succeeded}
			s.Inventory.Intents = append(s.Inventory.Intents, nexus.Intent{Site: "dead.example.com", Job: dead, DB: db})
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.StaleIntent, "", false, true)},
		{name: "a row in the making", edit: func(s *tasks.Survey) {
			s.Tenants = append(s.Tenants, nexus.Tenant{Site: "dead.example.com", State: nexus.TenantMaking, DB: db, MadeBy: dead, Job: dead})
			registered(s, nexus.DatabaseInfo{Job: dead, Kind: "site"})
		}, want: finding(tasks.StuckTenant, nexus.TenantMaking, true, true)},
		{name: "a row in the making of an adoption", edit: func(s *tasks.Survey) {
			s.Tenants = append(s.Tenants, nexus.Tenant{Site: "dead.example.com", State: nexus.TenantMaking, DB: db, MadeBy: dead, Job: dead})
			registered(s, nexus.DatabaseInfo{Job: dead, Adopted: true})
		}, want: finding(tasks.StuckTenant, nexus.TenantMaking, true, false)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := well()
			tc.edit(&s)
			if diff := cmp.Diff(tc.want, tasks.Diagnose(s), cmpopts.IgnoreFields(tasks.Finding{}, "What", "Mend"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
