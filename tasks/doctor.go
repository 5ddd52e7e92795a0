package tasks

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Trouble is a kind of finding; the text is printed, and a label of a metric.
type Trouble string

// The kinds there are.
const (
	MissingSite     Trouble = "missing_site"     // a tenant without its folder
	MissingDatabase Trouble = "missing_database" // a tenant without its database
	OtherOwner      Trouble = "other_owner"      // the folder under a tenant's name is not the tenant's
	OtherState      Trouble = "other_state"      // closed on the bench and open in the registry, or the other way
	StuckTenant     Trouble = "stuck_tenant"     // a row that waits for a job that is over
	ParkedJob       Trouble = "parked_job"       // a rollback that failed
	UnseenJob       Trouble = "unseen_job"       // under way, and in no timer
	OrphanSite      Trouble = "orphan_site"      // left by a job that failed
	OrphanAdoption  Trouble = "orphan_adoption"  // marked by an adoption that failed
	UnrecordedSite  Trouble = "unrecorded_site"  // a tenant's site that the registry does not know
	HalfMadeSite    Trouble = "half_made_site"   // never handed out, and nobody knows its job
	StaleIntent     Trouble = "stale_intent"     // of a job that is over
	OrphanDatabase  Trouble = "orphan_database"  // registered, and no site has it
	StaleTrash      Trouble = "stale_trash"      // a removal that never came to its end
	OldArchive      Trouble = "old_archive"      // moved away by Frappe's own drop-site
	BenchProblem    Trouble = "bench_problem"    // what the bench says it lacks
)

// Troubles lists all kinds.
func Troubles() []Trouble {
	return []Trouble{MissingSite, MissingDatabase, OtherOwner, OtherState, StuckTenant, ParkedJob, UnseenJob, OrphanSite,
		OrphanAdoption, UnrecordedSite, HalfMadeSite, StaleIntent, OrphanDatabase, StaleTrash, OldArchive, BenchProblem}
}

// Finding is one difference between registry and bench, or a problem of the bench.
type Finding struct {
	Kind Trouble        `json:"kind"`
	Site nexus.SiteName `json:"site,omitempty"`
	DB   string         `json:"db,omitempty"`
	Job  nexus.JobID    `json:"job,omitempty"`
	What string         `json:"what"` // a sentence
	Mend string         `json:"mend"` // a sentence
	Safe bool           `json:"safe"` // ours for certain, and nobody's data: may be mended unasked

	State   nexus.TenantState `json:"-"` // of the tenant's row
	PurgeAt time.Time         `json:"-"` // the row's
	Want    nexus.TenantState `json:"-"` // other_state that is safe: what the tenant becomes on both sides
}

// Survey is all that Diagnose looks at.
type Survey struct {
	Tenants   []nexus.Tenant
	Jobs      map[nexus.JobID]nexus.Job // all that rows and bench name and the registry still has, and all parked ones
	Unseen    []nexus.JobID             // those under way that the due index does not have
	Inventory nexus.InventoryResult
	Install   nexus.InstallID
	Master    nexus.SiteName // never a finding; empty: none
}

// Diagnose finds where registry and bench differ, ordered by site. What a live
// job works on is no finding; what bears no marker of this install is not ours,
// and none either.
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
	for _, job := range s.Jobs {
		if job.State == nexus.RollbackFailed {
			d.add(Finding{Kind: ParkedJob, Site: job.Site, DB: job.DB, Job: job.ID, Mend: fmt.Sprintf("Mend the cause, then: nexus jobs resume %s", job.ID),
				What: fmt.Sprintf("The %s of %s is parked: its way back failed.", job.Kind, job.Site)})
		}
	}
	for _, id := range s.Unseen {
		job := s.Jobs[id]
		d.add(Finding{Kind: UnseenJob, Site: job.Site, DB: job.DB, Job: id, Safe: true, Mend: "nexus doctor --fix has it looked at.",
			What: fmt.Sprintf("The %s of %s is %s, and nobody looks at it: the registry was tampered with, or restored in part.", job.Kind, job.Site, job.State)})
	}
	slices.SortFunc(d.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Job, b.Job))
	})
	return d.found
}

// Foreign counts the sites on the bench that are not this install's.
func (s Survey) Foreign() (n int) {
	for _, site := range s.Inventory.Sites {
		if site.Install != s.Install {
			n++
		}
	}
	return n
}

// diagnosis is a survey with what is looked up in it.
type diagnosis struct {
	Survey
	rows  map[nexus.SiteName]nexus.Tenant
	sites map[nexus.SiteName]nexus.SiteInfo
	busy  map[any]bool                       // site names, database names and owners that a live job works on
	used  map[string]any                     // databases that a row, a site or a folder speaks of
	names map[string]map[nexus.SiteName]bool // of rows and sites, by database
	found []Finding
}

func newDiagnosis(s Survey) *diagnosis {
	d := &diagnosis{Survey: s, rows: map[nexus.SiteName]nexus.Tenant{}, sites: map[nexus.SiteName]nexus.SiteInfo{},
		busy: map[any]bool{}, used: map[string]any{}, names: map[string]map[nexus.SiteName]bool{}}
	for _, job := range s.Jobs {
		if !job.State.Terminal() {
			d.busy[job.Site], d.busy[job.DB], d.busy[job.Owner] = true, true, true
		}
	}
	delete(d.busy, "")
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

// add notes a finding; the master site has none.
func (d *diagnosis) add(f Finding) {
	if f.Site != d.Master || f.Site == "" {
		// The bench wants all three before it touches anything.
		f.Safe = f.Safe && f.Site != "" && (f.Kind == StuckTenant || f.Kind == UnseenJob || f.DB != "" && f.Job.Valid())
		d.found = append(d.found, f)
	}
}

// failed tells whether a job is known to be over without a success.
func (d *diagnosis) failed(id nexus.JobID) bool {
	state := d.Jobs[id].State
	return state == nexus.Failed || state == nexus.Canceled
}

// derived tells whether a database has the name that its job would give it: what
// was adopted has another.
func (d *diagnosis) derived(job nexus.JobID, db string) bool { return db == job.Database(d.Install) }

// tenant holds a row against the bench.
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
	gone := fmt.Sprintf("Bring the site back from a backup, or give it up: nexus cleanup %s", t.Site)
	switch {
	case !there:
		add(MissingSite, false, gone, "%s is %s in the registry, and there is no such site on the bench.", t.Site, t.State)
		return
	case site.Install != d.Install || site.Job != t.MadeBy || site.DB != t.DB:
		add(OtherOwner, false, "Find out which of the two is right; Nexus touches neither.",
			"The site %s on the bench is not the one that the registry knows.", t.Site)
		return
	case !site.Database:
		add(MissingDatabase, false, gone, "%s is %s in the registry, and its database %s is not there.", t.Site, t.State, t.DB)
	}
	d.states(t, site)
}

// stuck is a row that waits for a job that is over, or whose record is lost.
func (d *diagnosis) stuck(t nexus.Tenant, site nexus.SiteInfo, there bool) {
	f := Finding{Kind: StuckTenant, Site: t.Site, DB: t.DB, Job: t.MadeBy, State: t.State, Safe: true,
		What: fmt.Sprintf("The registry's row of %s waits for a job that is over (%s).", t.Site, t.State),
		Mend: "nexus doctor --fix lets it go."}
	switch t.State {
	case nexus.TenantDeleting:
		f.Mend = "nexus doctor --fix makes it suspended, so that it can be removed again."
	case nexus.TenantMaking:
		// A site that was marked active may have been handed out.
		_, known := d.Jobs[t.MadeBy]
		f.Safe = d.failed(t.MadeBy) || !known && !there
		f.Mend = "nexus doctor --fix removes row and leftovers."
		switch {
		case !f.Safe && site.State == string(nexus.TenantActive):
			f.Mend = "It was opened on the bench and may be in use: an operator has to decide."
		case !f.Safe:
			f.Mend = fmt.Sprintf("If nobody waits for it: nexus cleanup %s", t.Site)
		}
	default:
	}
	d.add(f)
}

// site holds a folder with our marker against the registry.
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
		f.What = fmt.Sprintf("%s names the database %s of another site: it is a copy of that one's folder, or a new name of it.", site.Site, site.DB)
		f.Mend = "Remove the copy's folder by hand, or give it back its old name; Nexus touches neither."
	case d.failed(site.Job) && !opened && (site.Adopted || !d.derived(site.Job, site.DB)):
		f.Kind, f.Safe = OrphanAdoption, true
		f.What = fmt.Sprintf("%s is still marked by an adoption that failed.", site.Site)
		f.Mend = "nexus doctor --fix takes the mark off and leaves the site."
	case d.failed(site.Job) && !opened: // an opened site may have been handed out: an outdated job fails and leaves it
		f.Kind, f.Safe = OrphanSite, true
		f.What = fmt.Sprintf("%s was left behind by a job that failed.", site.Site)
		f.Mend = "nexus doctor --fix removes it."
	case !known && site.State == string(nexus.TenantMaking) && site.Adopted:
		f.Kind, f.Safe = OrphanAdoption, true
		f.What = fmt.Sprintf("The adoption of %s was never finished, and the registry does not know its job.", site.Site)
		f.Mend = "nexus doctor --fix takes the mark off and leaves the site."
	case !known && site.State == string(nexus.TenantMaking):
		f.Kind = HalfMadeSite
		f.What = fmt.Sprintf("%s was never finished, and the registry does not know its job.", site.Site)
		f.Mend = fmt.Sprintf("If nobody waits for it: nexus cleanup %s", site.Site)
	default:
		f.What = fmt.Sprintf("%s has our marker (%s), and the registry does not know it.", site.Site, site.State)
		f.Mend = "nexus doctor --rebuild makes its row from the marker."
	}
	d.add(f)
}

// shared tells whether another row or another folder is on the site's database.
func (d *diagnosis) shared(site nexus.SiteInfo) bool {
	return site.DB != "" && len(d.names[site.DB]) > 1
}

func (d *diagnosis) name(db string, site nexus.SiteName) {
	if d.names[db] == nil {
		d.names[db] = map[nexus.SiteName]bool{}
	}
	d.names[db][site] = true
}

// intent is a note that a job is about to make a site; it goes when the site has
// its marker.
func (d *diagnosis) intent(intent nexus.Intent) {
	if d.busy[intent.Job] || d.busy[intent.Site] {
		return
	}
	row, site := d.rows[intent.Site], d.sites[intent.Site]
	f := Finding{Kind: StaleIntent, Site: intent.Site, DB: intent.DB, Job: intent.Job, Mend: "nexus doctor --fix removes it and what the job had made.",
		What: fmt.Sprintf("A job that is over left the note that it is about to make %s.", intent.Site)}
	switch {
	case row.MadeBy == intent.Job && row.State != nexus.TenantMaking && row.State != "":
		// The note goes with a mark of the site's state, which must change nothing else.
		f.State, f.Safe, f.Mend = row.State, site.State == string(row.State), "nexus doctor --fix removes the note; the site stays."
		if !f.Safe {
			f.Mend = "First agree on the site's state (see its other finding); then nexus doctor --fix removes the note."
		}
	case row.MadeBy == intent.Job && row.State != "" || site.Job == intent.Job && site.Install == d.Install && site.State != "":
		return // told of with the row, or with the site
	default:
		i := slices.IndexFunc(d.Inventory.Databases, func(db nexus.DatabaseInfo) bool { return db.Name == intent.DB && db.Exists })
		f.Safe = d.derived(intent.Job, intent.DB) && (i < 0 || d.Jobs[intent.Job].State != nexus.Succeeded)
		if !f.Safe {
			f.Mend = fmt.Sprintf("Its database %s may hold data; look at it, then: nexus cleanup %s", intent.DB, intent.Site)
		}
	}
	d.add(f)
}

// database is one of the register that nothing else speaks of.
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
		f.What = fmt.Sprintf("The register knows %s, and there is no such database.", db.Name)
	}
	f.Safe = d.failed(db.Job) && !db.Adopted && d.derived(db.Job, db.Name)
	if !f.Safe {
		f.Mend = "It may hold the data of a tenant whose folder is lost: bring the folder back from a backup, or drop it by hand."
	}
	d.add(f)
}

// folder is one that is no site any more; standbys are as they should be.
func (d *diagnosis) folder(folder nexus.FolderInfo) {
	if folder.Room == nexus.RoomStandby || d.busy[folder.DB] || d.busy[folder.Job] {
		return
	}
	f := Finding{Kind: StaleTrash, Site: folder.Site, DB: folder.DB, Job: folder.Job, Mend: "nexus doctor --fix ends the removal.",
		What: fmt.Sprintf("The removal of %s never came to its end: sites/.nexus/trash/%s.", cmp.Or(folder.Site, "a site"), folder.Name)}
	_, row := d.used[folder.DB].(nexus.Tenant)
	_, free := d.used[folder.DB].(nexus.FolderInfo) // nothing else speaks of its database
	switch {
	case folder.Room == nexus.RoomArchive:
		f.Kind, f.Mend = OldArchive, "Keep what you need of it elsewhere, then remove the folder by hand."
		f.What = fmt.Sprintf("Frappe's drop-site left %s in its archive, passwords included.", folder.Name)
	case row:
		f.Mend = "The registry still has the tenant: move the folder back, or remove the tenant."
	case !free:
		f.Mend = fmt.Sprintf("Something else is on its database %s, perhaps the site itself, moved back: look, then remove the folder by hand.", folder.DB)
	default:
		f.Safe = true
		f.Site = cmp.Or(f.Site, d.Jobs[f.Job].Site)
	}
	d.add(f)
}
