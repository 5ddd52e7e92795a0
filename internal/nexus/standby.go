package nexus

import "time"

// Standby is a copy of a template that is kept in reserve. A signup takes it: its site is
// the standby under another name. Its database is made by a job of KindStandby and is that
// job's until a claim hands it over. Like a template it has no site_config.json, so no
// request reaches it.
type Standby struct {
	Name     SiteName     `json:"name"` // StandbyName of its job
	DB       string       `json:"db"`
	Job      JobID        `json:"job"`      // that made it
	Template SiteName     `json:"template"` // what it was copied from
	Spec     TemplateSpec `json:"spec,omitempty"`
	Apps     []string     `json:"apps,omitempty"` // as in Template.Apps
	MadeAt   time.Time    `json:"made_at,omitzero"`
	Problem  string       `json:"problem,omitempty"` // why no signup gets it, as a sentence; empty: one may
	Warm     bool         `json:"warm,omitempty"`    // the caches have what Warm has put there
}

// RoomStandby is the place of standbys; see Op.Room.
const RoomStandby Room = "standby"

// StandbyName is the name of the standby that a job makes: its folder below
// sites/.nexus/standby, and the job's Site. It has no dot, so no tenant has such a name.
func StandbyName(job JobID) SiteName { return SiteName("standby-" + string(job[:min(8, len(job))])) }

// Way is how a job's site is made.
type Way struct {
	Road     Road
	Template SiteName // by clone and standby: what the site is or was copied from
	Standby  JobID    // by standby: the job that made it
	DB       string   // the site's database; by standby that of the standby
}

// Take sets the fields of a job that say how its site is made.
func (j *Job) Take(w Way) { j.Road, j.Template, j.Standby, j.DB = w.Road, w.Template, w.Standby, w.DB }

// Shelve ends the making of a standby: the owner's complete site in RoomStandby, made by
// Clone. It fills the caches that the first requests of its tenant read, and puts the config
// away. It does nothing if that is done. Conflict: the bench's apps have changed since the
// template was made.
type Shelve struct{ noSecrets }

// Warm fills the caches of the owner's shelved standby with what the first page of the desk
// reads, which takes Frappe seconds. It ends no operation, and any other ends it, so it needs
// no Gen. It does nothing if the caches have that. Conflict: the standby is not on the shelf,
// or another operation works on it.
type Warm struct{ noSecrets }

// Claim makes the site from a standby: the standby's database becomes the owner's, and its
// folder gets the site's name. Op.DB is the standby's database. It does nothing if the site
// is complete and the owner's. Result.Skipped: the standby cannot be used, and Result.Note
// says why; the owner has got nothing then. After any other error DropSite removes what the
// owner has got. Conflict: the name belongs to somebody else.
type Claim struct {
	noSecrets
	Standby SiteName  `json:"standby"` // its name
	Maker   JobID     `json:"maker"`   // the job that made it
	Plan    ApplyPlan `json:"plan"`    // for the site's config, which is written once, before the site has its name
}

// Standbys lists the bench's standbys, and sites in RoomStandby that are not shelved. Each of
// those has a Problem. It needs no Site, DB, Owner or Gen.
type Standbys struct{ noSecrets }

// Company gives the company of a site its name and abbreviation, in the place of those of the
// template that the site was copied from (SetUp). A site whose set-up wizard has not been done
// keeps both, so that the wizard suggests them. It does nothing on a site that has a company
// of its own. Result.Skipped: the bench's sites have no wizard. Result.Note: what was
// shortened.
type Company struct {
	noSecrets
	Name string `json:"name"`
	Abbr string `json:"abbr,omitempty"` // letters and digits, ten at most; empty: the name's initials
}

// The names of the operations on standbys, and of Company.
const (
	OpShelve   OpName = "shelve"
	OpWarm     OpName = "warm"
	OpClaim    OpName = "claim"
	OpStandbys OpName = "standbys"
	OpCompany  OpName = "company"
)

// Op names the operation.
func (Shelve) Op() OpName   { return OpShelve }
func (Warm) Op() OpName     { return OpWarm }
func (Claim) Op() OpName    { return OpClaim }
func (Standbys) Op() OpName { return OpStandbys }
func (Company) Op() OpName  { return OpCompany }
