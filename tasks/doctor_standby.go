package tasks

import (
	"fmt"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// kindStandby is what the register says of a database that was made for a standby, until a
// signup gets it.
const kindStandby = "standby"

// dropTime is how long a standby may be on its way out.
const dropTime = time.Minute

// shelved is a standby in the registry, as it was when the shelf was read.
type shelved struct {
	nexus.ShelfStandby
	age time.Duration // since its last change of state
}

// made reports whether Nexus made a database for a job, by its name, by the register, and by
// the markers of sites that have it. The name does not tell the job: the database of a standby
// is derived from the job that made it. One that is a standby's still contains nobody's data,
// whichever job was to get it. A database that is not in the register cannot be dropped.
func (d *diagnosis) made(db string, job nexus.JobID) bool {
	row, found := d.register[db]
	if !d.Install.Named(db) || slices.ContainsFunc(d.Inventory.Sites, func(s nexus.SiteInfo) bool { return s.DB == db && s.Adopted }) {
		return false
	}
	return !found || !row.Adopted && (row.Job == job || row.Kind == kindStandby)
}

// adopted reports whether a site was not made by Nexus, by its marker and by the register.
func (d *diagnosis) adopted(site nexus.SiteInfo) bool {
	return site.Adopted || d.register[site.DB].Adopted || !d.Install.Named(site.DB)
}

// standbys compares the bench's standbys with the shelves.
func (d *diagnosis) standbys() {
	there := map[nexus.JobID]bool{}
	for _, standby := range d.Standbys {
		there[standby.Job] = true
		d.standby(standby)
	}
	for id, row := range d.shelf {
		if there[id] || d.atWork(id, row) {
			continue
		}
		d.add(Finding{Kind: MissingStandby, Site: nexus.StandbyName(id), Room: nexus.RoomStandby, DB: row.DB, Job: id, Safe: true,
			What: fmt.Sprintf("The registry has the standby %s (%s), and it is not on the bench.", nexus.StandbyName(id), row.State),
			Mend: "nexus doctor --fix forgets it."})
	}
}

// standby adds one that no signup gets, unless a job has it, or it is the finding of an
// intent or a site that has its database.
func (d *diagnosis) standby(standby nexus.Standby) {
	row, known := d.shelf[standby.Job]
	if d.atWork(standby.Job, row) || d.busy[standby.DB] {
		return
	}
	switch d.used[standby.DB].(type) {
	case nexus.Intent, nexus.SiteInfo, nexus.Tenant:
		return
	}
	f := Finding{Kind: UnusableStandby, Site: standby.Name, Room: nexus.RoomStandby, DB: standby.DB, Job: standby.Job,
		Safe: standby.Job.Valid() && standby.Name == nexus.StandbyName(standby.Job) && d.derived(standby.Job, standby.DB), Mend: "nexus doctor --fix removes it."}
	switch {
	case standby.Problem != "":
		f.What = fmt.Sprintf("No signup gets the standby %s. %s", standby.Name, standby.Problem)
	case !known:
		f.Shelve = f.Safe
		f.What = fmt.Sprintf("The registry does not know the standby %s, so no signup gets it.", standby.Name)
		f.Mend = "nexus doctor --fix puts it on its shelf."
	case row.State != nexus.StandbyShelved:
		f.What = fmt.Sprintf("No signup gets the standby %s: it is %s, and no job has it.", standby.Name, row.State)
	default:
		return
	}
	if !f.Safe {
		f.Mend = fmt.Sprintf("Find out whose it is, then remove the folder sites/.nexus/standby/%s and its database by hand.", standby.Name)
	}
	d.add(f)
}

// atWork reports whether a job has a standby, or a worker is dropping it.
func (d *diagnosis) atWork(id nexus.JobID, row shelved) bool {
	return d.busy[id] || row.Taker != "" && d.busy[row.Taker] || row.State == nexus.StandbyReaping && row.age < dropTime
}

// ofStandby completes the finding of a database that was made for a standby and that no
// standby has. It contains nobody's data: a signup that gets it has its kind changed.
func (d *diagnosis) ofStandby(f *Finding, db nexus.DatabaseInfo) {
	if f.Room = nexus.RoomStandby; db.Job.Valid() {
		f.Site = nexus.StandbyName(db.Job)
	}
	f.Safe = db.Job.Valid() && !db.Adopted && d.derived(db.Job, db.Name)
	f.What = fmt.Sprintf("The database %s was made for a standby that is gone.", db.Name)
}
