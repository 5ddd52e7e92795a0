package tasks

import (
	"cmp"
	"fmt"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// kindTemplate is what the register says of a database that was made for a template.
const kindTemplate = "template"

// template adds a template that no site is copied from, unless a job is still building it.
func (d *diagnosis) template(t nexus.Template) {
	if t.Problem == "" || d.busy[t.Job] {
		return
	}
	f := Finding{Kind: UnusableTemplate, Site: t.Name, Room: nexus.RoomTemplates, DB: t.DB, Job: t.Job, Safe: d.derived(t.Job, t.DB),
		What: fmt.Sprintf("No site is copied from the template %s. %s", t.Name, t.Problem), Mend: "nexus doctor --fix removes it."}
	if !f.Safe || t.Name == "" || !t.Job.Valid() {
		f.Mend = fmt.Sprintf("Find out whose it is, then remove the folder sites/.nexus/templates/%s and its database by hand.", t.Name)
	}
	d.add(f)
}

// ofTemplate completes the finding of a database that was made for a template and that no
// template has. It never contained a tenant's data.
func (d *diagnosis) ofTemplate(f *Finding, db nexus.DatabaseInfo) {
	if f.Room = nexus.RoomTemplates; db.Job.Valid() {
		f.Site = cmp.Or(f.Site, nexus.TemplateName(nexus.TemplatePlain, db.Job)) // the job's record may have expired
	}
	f.Safe = db.Job.Valid() && !db.Adopted && d.derived(db.Job, db.Name)
	f.What = fmt.Sprintf("The database %s was made for a template that is gone.", db.Name)
}
