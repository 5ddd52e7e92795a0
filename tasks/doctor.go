package tasks

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Trouble is a kind of finding. The text is printed, and the label of a metric.
type Trouble string

// The kinds of findings.
const (
	MissingSite     Trouble = "missing_site"     // a tenant without its folder
	MissingDatabase Trouble = "missing_database" // a tenant without its database
	OtherOwner      Trouble = "other_owner"      // the folder under a tenant's name is not the tenant's
	OtherState      Trouble = "other_state"      // open in the registry and closed on the bench, or the reverse
	StuckTenant     Trouble = "stuck_tenant"     // a row whose job is over
	ParkedJob       Trouble = "parked_job"       // a job whose rollback failed
	UnseenJob       Trouble = "unseen_job"       // a job that is not over and not in the due index
	OrphanSite      Trouble = "orphan_site"      // a site that a failed job left
	OrphanAdoption  Trouble = "orphan_adoption"  // a site with the marker of an adoption that failed
	UnrecordedSite  Trouble = "unrecorded_site"  // a tenant's site without a row
	HalfMadeSite    Trouble = "half_made_site"   // a site that was never finished, without a row or a job
	StaleIntent     Trouble = "stale_intent"     // an intent whose job is over
	OrphanDatabase  Trouble = "orphan_database"  // a registered database without a site
	StaleTrash      Trouble = "stale_trash"      // a folder of a removal that was not finished
	OldArchive      Trouble = "old_archive"      // a folder that Frappe's own drop-site moved
	BenchProblem    Trouble = "bench_problem"    // a Problem of the bench's Hello

	UnusableTemplate Trouble = "unusable_template" // a template that no site is copied from
	UnusableStandby  Trouble = "unusable_standby"  // a standby that no signup gets
	MissingStandby   Trouble = "missing_standby"   // a standby in the registry that is not on the bench
)

// Troubles lists all kinds.
func Troubles() []Trouble {
	return []Trouble{MissingSite, MissingDatabase, OtherOwner, OtherState, StuckTenant, ParkedJob, UnseenJob, OrphanSite,
		OrphanAdoption, UnrecordedSite, HalfMadeSite, StaleIntent, OrphanDatabase, StaleTrash, OldArchive, BenchProblem, UnusableTemplate,
		UnusableStandby, MissingStandby}
}

// Finding is one difference between the registry and the bench, or a problem of the bench.
type Finding struct {
	Kind Trouble        `json:"kind"`
	Site nexus.SiteName `json:"site,omitempty"`
	Room nexus.Room     `json:"room,omitempty"` // of a template or a standby: its place, and Site is its name
	DB   string         `json:"db,omitempty"`
	Job  nexus.JobID    `json:"job,omitempty"`
	What string         `json:"what"` // a sentence
	Mend string         `json:"mend"` // a sentence
	Safe bool           `json:"safe"` // --fix mends it: it is this install's for certain, and nobody's data

	State   nexus.TenantState `json:"-"` // of the tenant's row; without one, of the site
	PurgeAt time.Time         `json:"-"` // of the tenant's row
	Want    nexus.TenantState `json:"-"` // of a safe other_state: the state to set on both sides
	Made    bool              `json:"-"` // by name and register, Nexus made DB for Job; false: it may have been adopted
	Shelve  bool              `json:"-"` // of a standby: it can be put on its shelf
}

// Survey is the input of Diagnose.
type Survey struct {
	Tenants   []nexus.Tenant
	Jobs      map[nexus.JobID]nexus.Job // the jobs that rows and bench name, and all parked ones, if the registry has them
	Unseen    []nexus.JobID             // the jobs among them that are not over and not in the due index
	Inventory nexus.InventoryResult
	Templates []nexus.Template // of the bench
	Standbys  []nexus.Standby  // of the bench
	Shelves   []nexus.Shelf    // of the bench, in the registry
	Install   nexus.InstallID
	Master    nexus.SiteName // the master site, which is ignored; empty: none
}

// Diagnose returns the differences between registry and bench, ordered by site. It ignores
// what a live job works on, and what has no marker of this install.
func Diagnose(s Survey) []Finding {
	d := newDiagnosis(s)
	for _, t := range s.Tenants {
		d.tenant(t)
	}
	for _, site := range s.Inventory.Sites {
		d.site(site)
	}
	for _, intent := range s.Inventory.Intents {
		d.intent(intent)
	}
	for _, db := range s.Inventory.Databases {
		d.database(db)
	}
	for _, folder := range s.Inventory.Folders {
		d.folder(folder)
	}
	for _, template := range s.Templates {
		d.template(template)
	}
	d.standbys()
	for _, job := range s.Jobs {
		if job.State == nexus.RollbackFailed {
			d.add(Finding{Kind: ParkedJob, Site: job.Site, DB: job.DB, Job: job.ID, Mend: fmt.Sprintf("Mend the cause, then: nexus jobs resume %s", job.ID),
				What: fmt.Sprintf("The %s is parked: its rollback failed.", jobWords(job))})
		}
	}
	for _, id := range s.Unseen {
		job := s.Jobs[id]
		d.add(Finding{Kind: UnseenJob, Site: job.Site, DB: job.DB, Job: id, Safe: true, Mend: "nexus doctor --fix puts it back.",
			What: fmt.Sprintf("The %s is %s, but missing in the due index, so no worker continues it: somebody changed Redis, or restored only a part of it.", jobWords(job), job.State)})
	}
	slices.SortFunc(d.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Job, b.Job))
	})
	return d.found
}

// jobWords names a job by what it does.
func jobWords(job nexus.Job) string {
	switch job.Kind {
	case nexus.KindTemplate:
		return fmt.Sprintf("build of the template %s", job.Site)
	case nexus.KindStandby:
		return fmt.Sprintf("making of the standby %s", job.Site)
	default:
	}
	return fmt.Sprintf("%s of %s", job.Kind, job.Site)
}

// Foreign counts the sites on the bench that do not belong to this install.
func (s Survey) Foreign() (n int) {
	for _, site := range s.Inventory.Sites {
		if site.Install != s.Install {
			n++
		}
	}
	return n
}

// diagnosis is a survey with indexes.
type diagnosis struct {
	Survey
	rows     map[nexus.SiteName]nexus.Tenant
	sites    map[nexus.SiteName]nexus.SiteInfo
	busy     map[any]bool                       // site names, database names and owners of live jobs
	used     map[string]any                     // the row, site, intent, folder, template or standby that names a database
	names    map[string]map[nexus.SiteName]bool // of rows and sites, by database
	shelf    map[nexus.JobID]shelved
	register map[string]nexus.DatabaseInfo
	found    []Finding
}

func newDiagnosis(s Survey) *diagnosis {
	d := &diagnosis{Survey: s, rows: map[nexus.SiteName]nexus.Tenant{}, sites: map[nexus.SiteName]nexus.SiteInfo{},
		busy: map[any]bool{}, used: map[string]any{}, names: map[string]map[nexus.SiteName]bool{}, shelf: map[nexus.JobID]shelved{},
		register: map[string]nexus.DatabaseInfo{}}
	for _, job := range s.Jobs {
		if !job.State.Terminal() {
			d.busy[job.Site], d.busy[job.DB], d.busy[job.Owner] = true, true, true
		}
	}
	delete(d.busy, "")
	for _, db := range s.Inventory.Databases {
		d.register[db.Name] = db
	}
	for _, template := range s.Templates {
		d.used[template.DB] = template
	}
	for _, standby := range s.Standbys {
		d.used[standby.DB] = standby
	}
	for _, shelf := range s.Shelves {
		for _, each := range shelf.Standbys {
			d.used[each.DB], d.shelf[each.Job] = each, shelved{each, shelf.Now.Sub(each.At)}
		}
	}
	for _, folder := range s.Inventory.Folders {
		d.used[folder.DB] = folder
	}
	for _, intent := range s.Inventory.Intents {
		d.used[intent.DB] = intent
	}
	for _, site := range s.Inventory.Sites {
		d.sites[site.Site], d.used[site.DB] = site, site
		d.name(site.DB, site.Site)
	}
	for _, t := range s.Tenants {
		d.rows[t.Site], d.used[t.DB] = t, t
		d.name(t.DB, t.Site)
	}
	return d
}

// add appends a finding, unless it is about the master site.
func (d *diagnosis) add(f Finding) {
	if f.Site != d.Master || f.Site == "" {
		// An operation on the bench needs all three.
		f.Made = d.made(f.DB, f.Job)
		f.Safe = f.Safe && f.Site != "" && (f.Kind == StuckTenant || f.Kind == UnseenJob || f.DB != "" && f.Job.Valid())
		d.found = append(d.found, f)
	}
}

// failed reports whether a job is known to have failed or been canceled.
func (d *diagnosis) failed(id nexus.JobID) bool {
	state := d.Jobs[id].State
	return state == nexus.Failed || state == nexus.Canceled
}

// derived reports whether a database has the name that is derived from its job, as templates
// and standbys have.
func (d *diagnosis) derived(job nexus.JobID, db string) bool { return db == job.Database(d.Install) }

// tenant compares a row with the bench.
func (d *diagnosis) tenant(t nexus.Tenant) {
	if d.busy[t.Site] || t.Job != "" && d.busy[t.Job] {
		return
	}
	site, there := d.sites[t.Site]
	add := func(kind Trouble, safe bool, mend, what string, args ...any) {
		d.add(Finding{Kind: kind, Site: t.Site, DB: t.DB, Job: t.MadeBy, State: t.State, Safe: safe, Mend: mend, What: fmt.Sprintf(what, args...)})
	}
	if t.State == nexus.TenantMaking || t.State == nexus.TenantDeleting || t.Job != "" {
		d.stuck(t, site, there)
		if t.State == nexus.TenantMaking || t.State == nexus.TenantDeleting {
			return
		}
	}
	gone := fmt.Sprintf("Restore the site from a backup, or remove the tenant: nexus cleanup %s", t.Site)
	switch {
	case !there:
		add(MissingSite, false, gone, "%s is %s in the registry, and there is no such site on the bench.", t.Site, t.State)
		return
	case site.Install != d.Install || site.Job != t.MadeBy || site.DB != t.DB:
		add(OtherOwner, false, "Find out which of the two is right; Nexus changes neither.",
			"The site %s on the bench is not the one in the registry.", t.Site)
		return
	case !site.Database:
		add(MissingDatabase, false, gone, "%s is %s in the registry, and its database %s is missing.", t.Site, t.State, t.DB)
	}
	d.states(t, site)
}

// stuck adds a row whose job is over, or has no record.
func (d *diagnosis) stuck(t nexus.Tenant, site nexus.SiteInfo, there bool) {
	f := Finding{Kind: StuckTenant, Site: t.Site, DB: t.DB, Job: t.MadeBy, State: t.State, Safe: true,
		What: fmt.Sprintf("The row of %s in the registry (%s) waits for a job that is over.", t.Site, t.State),
		Mend: "nexus doctor --fix frees it."}
	switch t.State {
	case nexus.TenantDeleting:
		f.Mend = "nexus doctor --fix makes it suspended, so that it can be removed again."
	case nexus.TenantMaking:
		// A site whose state is active may have been handed out.
		_, known := d.Jobs[t.MadeBy]
		f.Safe = d.failed(t.MadeBy) || !known && !there
		f.Mend = "nexus doctor --fix removes row and leftovers."
		switch {
		case !f.Safe && site.State == string(nexus.TenantActive):
			f.Mend = "It was opened on the bench and may be in use: look who uses it before you remove it."
		case !f.Safe:
			f.Mend = fmt.Sprintf("If nobody waits for it: nexus cleanup %s", t.Site)
		}
	default:
	}
	d.add(f)
}

// site compares a site that has a marker of this install with the registry.
func (d *diagnosis) site(site nexus.SiteInfo) {
	if _, known := d.rows[site.Site]; known || site.Install != d.Install || d.busy[site.Site] || d.busy[site.Job] {
		return
	}
	f := Finding{Kind: UnrecordedSite, Site: site.Site, DB: site.DB, Job: site.Job, State: nexus.TenantState(site.State)}
	_, known := d.Jobs[site.Job]
	opened := site.State == string(nexus.TenantActive) || site.State == string(nexus.TenantSuspended)
	switch {
	case d.shared(site):
		f.Kind = OtherOwner
		f.What = fmt.Sprintf("%s and another site have the same database %s: one folder is a copy of the other, or was renamed.", site.Site, site.DB)
		f.Mend = "Remove the copy by hand, or rename the folder back; Nexus changes neither."
	case d.failed(site.Job) && !opened && d.adopted(site):
		f.Kind, f.Safe = OrphanAdoption, true
		f.What = fmt.Sprintf("%s still has the marker of an adoption that failed.", site.Site)
		f.Mend = "nexus doctor --fix removes the marker and leaves the site."
	case d.failed(site.Job) && !opened: // an outdated job fails and leaves an open site
		f.Kind, f.Safe = OrphanSite, d.made(site.DB, site.Job)
		f.What = fmt.Sprintf("%s was left behind by a job that failed.", site.Site)
		if f.Mend = "nexus doctor --fix removes it."; !f.Safe {
			f.Mend = fmt.Sprintf("By the register its database %s is another job's: find out whose it is; Nexus changes neither.", site.DB)
		}
	case !known && site.State == string(nexus.TenantMaking) && d.adopted(site):
		f.Kind, f.Safe = OrphanAdoption, true
		f.What = fmt.Sprintf("The adoption of %s was never finished, and the registry does not know its job.", site.Site)
		f.Mend = "nexus doctor --fix removes the marker and leaves the site."
	case !known && site.State == string(nexus.TenantMaking):
		f.Kind = HalfMadeSite
		f.What = fmt.Sprintf("%s was never finished, and the registry does not know its job.", site.Site)
		f.Mend = fmt.Sprintf("If nobody waits for it: nexus cleanup %s", site.Site)
	default:
		f.What = fmt.Sprintf("%s has a marker of this install (%s), and the registry does not know it.", site.Site, site.State)
		f.Mend = "nexus doctor --rebuild makes its row from the marker."
	}
	d.add(f)
}

// shared reports whether another row or another folder has the site's database.
func (d *diagnosis) shared(site nexus.SiteInfo) bool {
	return site.DB != "" && len(d.names[site.DB]) > 1
}

func (d *diagnosis) name(db string, site nexus.SiteName) {
	if d.names[db] == nil {
		d.names[db] = map[nexus.SiteName]bool{}
	}
	d.names[db][site] = true
}

// intent adds an intent whose job is over. An intent is removed once the site has its
// marker.
func (d *diagnosis) intent(intent nexus.Intent) {
	if d.busy[intent.Job] || d.busy[intent.Site] {
		return
	}
	row, site := d.rows[intent.Site], d.sites[intent.Site]
	f := Finding{Kind: StaleIntent, Site: intent.Site, DB: intent.DB, Job: intent.Job, Mend: "nexus doctor --fix removes it and what the job had made.",
		What: fmt.Sprintf("A job that is over left its intent to make %s.", intent.Site)}
	switch {
	case row.MadeBy == intent.Job && row.State != nexus.TenantMaking && row.State != "":
		// A Mark removes the intent; it must not change the site's state.
		f.State, f.Safe, f.Mend = row.State, site.State == string(row.State), "nexus doctor --fix removes the intent and leaves the site."
		if !f.Safe {
			f.Mend = "First mend the site's state (see its other finding); then nexus doctor --fix removes the intent."
		}
	case row.MadeBy == intent.Job && row.State != "" || site.Job == intent.Job && site.Install == d.Install && site.State != "":
		return // there is a finding for the row or the site
	default:
		i := slices.IndexFunc(d.Inventory.Databases, func(db nexus.DatabaseInfo) bool { return db.Name == intent.DB && db.Exists })
		f.Safe = d.made(intent.DB, intent.Job) && (i < 0 || d.Jobs[intent.Job].State != nexus.Succeeded)
		if !f.Safe {
			f.Mend = fmt.Sprintf("Its database %s may contain data; look at it, then: nexus cleanup %s", intent.DB, intent.Site)
		}
	}
	d.add(f)
}

// database adds a registered database that nothing else names.
func (d *diagnosis) database(db nexus.DatabaseInfo) {
	if db.Job == "" || d.busy[db.Job] || d.busy[db.Name] || d.used[db.Name] != nil {
		return
	}
	job := d.Jobs[db.Job]
	f := Finding{Kind: OrphanDatabase, Site: job.Site, DB: db.Name, Job: db.Job, Mend: "nexus doctor --fix removes it.",
		What: fmt.Sprintf("The database %s belongs to no site.", db.Name)}
	switch {
	case !db.Exists && db.Users > 0:
		f.What = fmt.Sprintf("The database user %s has no database.", db.Name)
	case !db.Exists:
		f.What = fmt.Sprintf("The register has %s, and there is no such database.", db.Name)
	}
	f.Safe = d.failed(db.Job) && d.made(db.Name, db.Job)
	switch db.Kind {
	case kindTemplate:
		d.ofTemplate(&f, db)
	case kindStandby:
		d.ofStandby(&f, db)
	}
	if !f.Safe {
		f.Mend = "It may contain the data of a tenant whose folder is lost: restore the folder from a backup, or drop the database by hand."
	}
	d.add(f)
}

// folder adds a folder that is no longer a site, unless it is a standby.
func (d *diagnosis) folder(folder nexus.FolderInfo) {
	if folder.Room == nexus.RoomStandby || d.busy[folder.DB] || d.busy[folder.Job] {
		return
	}
	f := Finding{Kind: StaleTrash, Site: folder.Site, DB: folder.DB, Job: folder.Job, Mend: "nexus doctor --fix finishes the removal.",
		What: fmt.Sprintf("The removal of %s was not finished: sites/.nexus/trash/%s.", cmp.Or(folder.Site, "a site"), folder.Name)}
	_, row := d.used[folder.DB].(nexus.Tenant)
	_, free := d.used[folder.DB].(nexus.FolderInfo) // nothing else names its database
	switch {
	case folder.Room == nexus.RoomArchive:
		f.Kind, f.Mend = OldArchive, "Copy what you need of it, then remove the folder by hand."
		f.What = fmt.Sprintf("Frappe's drop-site left %s in its archive, with its passwords.", folder.Name)
	case row:
		f.Mend = "The registry still has the tenant: move the folder back, or remove the tenant."
	case !free:
		f.Mend = fmt.Sprintf("Another folder has its database %s, perhaps the site itself, moved back: look, then remove this folder by hand.", folder.DB)
	default:
		f.Safe = true
		f.Site = cmp.Or(f.Site, d.Jobs[f.Job].Site)
	}
	d.add(f)
}
