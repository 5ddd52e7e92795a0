package nexus

import (
	"context"
	"time"
)

// Bench carries out operations on the sites of one Frappe bench. Every operation is
// idempotent: it looks at what is there, does what is missing, and checks its
// post-condition. A caller that lost the answer simply asks again.
//
// Run fails with an *Error: invalid (the bench refuses the arguments), not_found (no such
// site, user or app), conflict (the site or database belongs to somebody else, or the job
// is Outdated), unavailable (bench, database or runner do not answer; the outcome is
// unknown), timeout, canceled (the context ended), fenced (Error.Seen is the highest gen
// seen), internal. When the context ends the operation is killed; what survives is
// stopped by the next operation on the site.
type Bench interface {
	Run(ctx context.Context, op Op) (Result, error)
}

// Op is one operation on a site. Site, DB, Owner and Gen may be empty where the
// operation's arguments say so.
type Op struct {
	Site  SiteName
	Room  Room   // RoomTemplates or RoomStandby; empty: a site that is served
	DB    string // name of the database; known before it is made
	Owner JobID  // the job that made or makes the site
	Gen   Gen    // fencing token; the bench refuses one that is lower than the highest it has seen
	// Submitted is the job's. The bench refuses with a conflict that is Outdated if a job
	// that was submitted later has changed the site's state. Zero: not checked.
	Submitted Gen
	Args      Args
	Email     string // the signup's e-mail, by which the sandbox chooses a fault on demand
	// Progress, if set, is called at most twice a second; percent is 0–100, or -1 if it is
	// not known. It must not block.
	Progress func(message string, percent int)
}

// OpName is the name of an operation in the runner's protocol.
type OpName string

// Args are the typed arguments of one operation. Secrets are not part of their JSON; they
// are sent in a map of their own, by these names.
type Args interface {
	Op() OpName
	Secrets() map[string]Secret
}

// Hello asks for the bench's versions and apps, and for what it lacks. It needs no Site,
// DB, Owner or Gen.
type Hello struct{ noSecrets }

// Inventory lists the bench's sites, and the intents, databases and folders of this
// install, page by page. It needs no Site, DB, Owner or Gen.
type Inventory struct {
	noSecrets
	After string `json:"after,omitempty"` // Next of the last page; empty: the first page
}

// NewSite makes a site with its database and the app frappe. It writes the intent first,
// and the marker (state "making") last. It does nothing if the site is complete and the
// owner's. Leftovers of the same owner are dropped first.
type NewSite struct {
	AdminPassword Secret `json:"-"` // Administrator's; empty: a random one that is not kept
}

// InstallApp installs one app. If the bench lacks it: not_found, or Result.Skipped if it
// is Optional. Force must be set if an earlier attempt may have begun: without it Frappe
// cannot install an app that is half installed.
type InstallApp struct {
	noSecrets
	App      string `json:"app"`
	Optional bool   `json:"optional,omitempty"`
	Force    bool   `json:"force,omitempty"`
}

// DropSite removes all that belongs to the owner by marker, intent or database comment:
// MariaDB threads, folder, database, database users at every host, Redis keys, queued
// jobs, archives; the intent goes last. A standby that the owner began to claim is the
// owner's. It succeeds if nothing of the owner's is there, also if the name belongs to
// somebody else now.
type DropSite struct{ noSecrets }

// EnsureUser makes the admin user, or gives an existing one this password and these
// roles. No mail is sent.
type EnsureUser struct {
	Email    string   `json:"email"`
	FullName string   `json:"full_name"`
	Roles    []string `json:"roles,omitempty"` // empty: all enabled roles
	Language string   `json:"language,omitempty"`
	TimeZone string   `json:"time_zone,omitempty"`
	Password Secret   `json:"-"`
}

// ApplyPlan writes the plan's limits, the public address and the regional settings, and
// switches the scheduler and the request monitor on. It skips regional settings that the
// bench does not know, sets UTC for an unknown time zone, and says so in the note.
type ApplyPlan struct {
	noSecrets
	Plan         PlanName `json:"plan"`
	Users        int      `json:"users"`         // 0: unlimited
	StorageBytes int64    `json:"storage_bytes"` // 0: unlimited
	HostName     string   `json:"host_name"`     // the site's public URL
	Country      string   `json:"country,omitempty"`
	Language     string   `json:"language,omitempty"`
	TimeZone     string   `json:"time_zone,omitempty"`
	Currency     string   `json:"currency,omitempty"`
}

// IssueKey sets the user's API key and secret to this pair. On a site that is being
// adopted it first keeps the former pair, for Disown.
type IssueKey struct {
	Email  string `json:"email"`
	Key    Secret `json:"-"`
	Secret Secret `json:"-"`
}

// Inspect returns what is on the bench under a site's name.
type Inspect struct{ noSecrets }

// Stop ends what still runs for the site's database: the holder of its lock with all
// descendants, and its MariaDB threads.
type Stop struct{ noSecrets }

// Mark sets the state in the site's marker. Active opens the site, any other state closes
// it (maintenance mode, scheduler paused).
type Mark struct {
	noSecrets
	State TenantState `json:"state"`
}

// Register enters the database of a site that Nexus did not make in the bench's register,
// so that a job may adopt it. It needs MariaDB's root password, and no Owner, DB or Gen.
// Not_found: no such site. Invalid: the database's name, user or server does not allow
// it. Conflict: it belongs to another install, or to two sites. Result.Site says what is
// there.
type Register struct {
	RootUser     string `json:"root_user"` // usually root
	RootPassword Secret `json:"-"`
}

// Adopt writes the owner's marker on a site that Nexus did not make. The site must have
// no marker of any install, and its database must be in the register. It does nothing if
// the site is the owner's already.
type Adopt struct {
	noSecrets
	Email string `json:"email"` // the admin's; kept in the marker
}

// Disown removes the owner's marker from an adopted site and restores its config and
// settings, and the former API key of a user who still has the key that the adoption
// gave. It does nothing if the site is not the owner's. Conflict: the site was not
// adopted.
type Disown struct{ noSecrets }

// Init prepares a bench: definer procedures, the register, the worker's database account
// with the right to execute those procedures and nothing else, and the install id. It
// needs MariaDB's root password. It may run again. Conflict: the bench belongs to another
// install.
type Init struct {
	Install      InstallID `json:"install"`
	Account      string    `json:"account"`   // the worker's database account
	RootUser     string    `json:"root_user"` // usually root
	RootPassword Secret    `json:"-"`
	Password     Secret    `json:"-"` // the account's password
}

// Verify asks the site over HTTP at the bench's internal address, as a client would: the
// user of the key, and one list. Internal: a wrong answer. Unavailable with Wait
// bench: no connection, or a 5xx. PublicURL, if set, is tried too; if it fails, a note
// says so.
type Verify struct {
	Email     string
	PublicURL string
	DocType   string // the list to read; empty: "User"
	Key       Secret `json:"-"`
	Secret    Secret `json:"-"`
}

// The names of the operations.
const (
	OpHello      OpName = "hello"
	OpInventory  OpName = "inventory"
	OpNewSite    OpName = "new_site"
	OpInstallApp OpName = "install_app"
	OpDropSite   OpName = "drop_site"
	OpEnsureUser OpName = "ensure_user"
	OpApplyPlan  OpName = "apply_plan"
	OpIssueKey   OpName = "issue_key"
	OpInspect    OpName = "inspect"
	OpStop       OpName = "stop"
	OpMark       OpName = "mark"
	OpRegister   OpName = "register"
	OpAdopt      OpName = "adopt"
	OpDisown     OpName = "disown"
	OpInit       OpName = "init"
	OpVerify     OpName = "verify"
)

// Op names the operation.
func (Hello) Op() OpName      { return OpHello }
func (Inventory) Op() OpName  { return OpInventory }
func (NewSite) Op() OpName    { return OpNewSite }
func (InstallApp) Op() OpName { return OpInstallApp }
func (DropSite) Op() OpName   { return OpDropSite }
func (EnsureUser) Op() OpName { return OpEnsureUser }
func (ApplyPlan) Op() OpName  { return OpApplyPlan }
func (IssueKey) Op() OpName   { return OpIssueKey }
func (Inspect) Op() OpName    { return OpInspect }
func (Stop) Op() OpName       { return OpStop }
func (Mark) Op() OpName       { return OpMark }
func (Register) Op() OpName   { return OpRegister }
func (Adopt) Op() OpName      { return OpAdopt }
func (Disown) Op() OpName     { return OpDisown }
func (Init) Op() OpName       { return OpInit }
func (Verify) Op() OpName     { return OpVerify }

// noSecrets is embedded by arguments that have no secrets.
type noSecrets struct{}

// Secrets returns nil.
func (noSecrets) Secrets() map[string]Secret { return nil }

// Secrets has the Administrator's password under admin_password.
func (a NewSite) Secrets() map[string]Secret {
	return map[string]Secret{"admin_password": a.AdminPassword}
}

// Secrets has the user's password under password.
func (a EnsureUser) Secrets() map[string]Secret { return map[string]Secret{"password": a.Password} }

// Secrets has the pair under api_key and api_secret.
func (a IssueKey) Secrets() map[string]Secret {
	return map[string]Secret{"api_key": a.Key, "api_secret": a.Secret}
}

// Secrets has root's password under root_password.
func (a Register) Secrets() map[string]Secret {
	return map[string]Secret{"root_password": a.RootPassword}
}

// Secrets has root's password under root_password and the account's under
// account_password.
func (a Init) Secrets() map[string]Secret {
	return map[string]Secret{"root_password": a.RootPassword, "account_password": a.Password}
}

// Secrets has the pair under api_key and api_secret.
func (a Verify) Secrets() map[string]Secret {
	return map[string]Secret{"api_key": a.Key, "api_secret": a.Secret}
}

// Result is the result of an operation; fields that do not belong to it are zero.
type Result struct {
	Changed bool   `json:"changed,omitempty"` // false: everything was as wanted already
	Skipped bool   `json:"skipped,omitempty"` // install_app: optional and not on the bench
	Note    string `json:"note,omitempty"`    // a remark for people

	Hello     *HelloResult     `json:"hello,omitempty"`
	Inventory *InventoryResult `json:"inventory,omitempty"`
	Site      *SiteInfo        `json:"site,omitempty"` // inspect
	Templates []Template       `json:"templates,omitempty"`
	Standbys  []Standby        `json:"standbys,omitempty"`
}

// HelloResult is the result of Hello.
type HelloResult struct {
	Protocol int               `json:"protocol"`
	Frappe   string            `json:"frappe"`
	Apps     map[string]string `json:"apps"` // name → version, frappe included
	Install  InstallID         `json:"install,omitempty"`
	Host     string            `json:"host,omitempty"`     // host name the runner sees
	Database string            `json:"database,omitempty"` // server version
	Schema   int               `json:"schema,omitempty"`   // version of the procedures in it; 1: they have none yet
	Problems []Problem         `json:"problems,omitempty"` // nil: none
	Knows    *Knows            `json:"knows,omitempty"`    // nil: a single site, or an older runner
}

// Problem is one thing that a bench lacks, and what to do about it.
type Problem struct {
	What string `json:"what"`
	Mend string `json:"mend"`
}

// InventoryResult is one page of an Inventory.
type InventoryResult struct {
	Sites     []SiteInfo     `json:"sites"`
	Intents   []Intent       `json:"intents,omitempty"`
	Databases []DatabaseInfo `json:"databases,omitempty"` // in the bench's register
	Folders   []FolderInfo   `json:"folders,omitempty"`   // folders of sites that are not served
	Next      string         `json:"next,omitempty"`      // empty on the last page
}

// Intent is written before a job makes a site, and names the job and its database.
type Intent struct {
	Site SiteName `json:"site"`
	Job  JobID    `json:"job"`
	DB   string   `json:"db"`
}

// DatabaseInfo is one database of the register.
type DatabaseInfo struct {
	Name    string `json:"name"`
	Job     JobID  `json:"job,omitempty"`     // the owner; empty: free to be adopted
	Comment string `json:"comment,omitempty"` // "nexus job=… gen=…"
	Exists  bool   `json:"exists"`
	Users   int    `json:"users,omitempty"`   // database users of this name, at any host
	Adopted bool   `json:"adopted,omitempty"` // Nexus did not make it
	Kind    string `json:"kind,omitempty"`    // what it is: site, template or standby; empty: site
}

// Room is the place of a folder that is no site that is served; see also RoomTemplates and
// RoomStandby.
type Room string

// The rooms.
const (
	RoomTrash   Room = "trash"   // being removed
	RoomArchive Room = "archive" // moved by Frappe's own drop-site
)

// FolderInfo is one folder of this install that is no site.
type FolderInfo struct {
	Room Room     `json:"room"`
	Name string   `json:"name"`
	Site SiteName `json:"site,omitempty"` // by its marker
	DB   string   `json:"db,omitempty"`
	Job  JobID    `json:"job,omitempty"` // the owner by its marker, else by the register
}

// SiteInfo is what is on the bench under one site's name.
type SiteInfo struct {
	Site     SiteName  `json:"site"`
	Folder   bool      `json:"folder"`
	DB       string    `json:"db,omitempty"` // from the config; empty without one
	Database bool      `json:"database"`     // whether that database exists
	Install  InstallID `json:"install,omitempty"`
	Job      JobID     `json:"job,omitempty"` // owner by marker, else by intent
	State    string    `json:"state,omitempty"`
	StateGen Gen       `json:"state_gen,omitempty"` // Submitted of the job that last set State; zero: not known
	MadeAt   time.Time `json:"made_at,omitzero"`
	Apps     []string  `json:"apps,omitempty"`
	Users    int       `json:"users,omitempty"` // enabled system users, without Administrator and Guest
	Plan     PlanName  `json:"plan,omitempty"`
	Adopted  bool      `json:"adopted,omitempty"` // Nexus did not make it
	Email    string    `json:"email,omitempty"`   // of the first such user; Inspect only
}
