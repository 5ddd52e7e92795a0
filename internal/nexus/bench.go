package nexus

import (
	"context"
	"time"
)

// Bench carries out operations on the sites of one Frappe bench. Every
// operation looks at the world first, may run twice, and checks its
// post-condition, so a caller that lost an answer simply asks again.
//
// Run answers with an *Error: invalid (the bench refuses the arguments for
// good), not_found (no such app), conflict (the site or database is not ours),
// unavailable (bench, database or runner away; the outcome is unknown),
// timeout, canceled (the context ended), fenced (Error.Seen holds the highest
// gen seen), internal. When the context ends the operation is killed as well as
// can be; what is left of it is the next operation's to stop.
type Bench interface {
	Run(ctx context.Context, op Op) (Result, error)
}

// Op is one operation with its envelope. Site, DB, Owner and Gen may be empty
// only for hello and inventory.
type Op struct {
	Site  SiteName
	DB    string // database name, known before anything is made
	Owner JobID  // the job that made or makes the site
	Gen   Gen    // fencing token: a lower one than the bench has seen is refused
	// Submitted is the job's: once a job that was submitted later has changed the
	// site's state, the bench refuses with a conflict that is Outdated. Zero: not known.
	Submitted Gen
	Args      Args
	Email     string // the signup's address: the sandbox finds its faults on demand by it
	// Progress, if set, is told of the operation's progress, at most twice a
	// second; percent is 0–100, or -1 when unknown. It must not block.
	Progress func(message string, percent int)
}

// OpName is an operation's name on the wire.
type OpName string

// Args are the typed arguments of one operation. Secrets never travel inside
// the JSON of the arguments but in a map of their own, by these names.
type Args interface {
	Op() OpName
	Secrets() map[string]Secret
}

// Hello asks what the bench is and what it lacks.
type Hello struct{ noSecrets }

// Inventory lists the bench's sites, and the intents, databases and folders of
// this install, page by page.
type Inventory struct {
	noSecrets
	After string `json:"after,omitempty"` // the Next of the page before; empty: from the first
}

// NewSite makes a site with its database, frappe only: intent first, marker
// (state "making") after. On a site that is complete and ours it does nothing;
// leftovers of the same owner are dropped first.
type NewSite struct {
	AdminPassword Secret `json:"-"` // Administrator's; empty: a random one nobody keeps
}

// InstallApp installs one app. An app the bench lacks is not_found, or with
// Optional a success with Result.Skipped. Force is for an app whose earlier
// attempt is journalled: Frappe cannot retry a half-installed app plainly.
type InstallApp struct {
	noSecrets
	App      string `json:"app"`
	Optional bool   `json:"optional,omitempty"`
	Force    bool   `json:"force,omitempty"`
}

// DropSite removes what marker, intent or database comment gives to the owner:
// threads, folder, database, users at every host, Redis keys, queued jobs,
// archive, each by itself, the intent last. All absent is a success; a site
// that belongs to somebody else is left alone: a success too when nothing of
// the owner's is there, since then nothing is left to undo.
type DropSite struct{ noSecrets }

// EnsureUser makes the admin user, or brings an existing one to this password
// and these roles; no mail is sent.
type EnsureUser struct {
	Email    string   `json:"email"`
	FullName string   `json:"full_name"`
	Roles    []string `json:"roles,omitempty"` // empty: all enabled roles
	Language string   `json:"language,omitempty"`
	TimeZone string   `json:"time_zone,omitempty"`
	Password Secret   `json:"-"`
}

// ApplyPlan writes the plan's limits, the public address and the regional
// settings, and switches scheduler and request monitor on. What of the region the
// bench does not know is left out, a time zone becomes UTC, and the note says so.
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

// IssueKey sets the user's API key and secret to this pair; the same pair
// again changes nothing. On a site that is being adopted the former pair is kept
// first, for Disown.
type IssueKey struct {
	Email  string `json:"email"`
	Key    Secret `json:"-"`
	Secret Secret `json:"-"`
}

// Inspect tells what is on the bench under a site's name.
type Inspect struct{ noSecrets }

// Stop ends whatever still runs for the site's database: the holder of its
// lock with all descendants, and its MariaDB threads.
type Stop struct{ noSecrets }

// Mark sets the state in the site's marker. "active" opens the site,
// "suspended" and "deleting" close it (maintenance mode, scheduler paused).
type Mark struct {
	noSecrets
	State TenantState `json:"state"`
}

// Register enters the database of a site that was made by other means in the
// bench's register, given the database's root password once, so that a job may
// adopt it. Not_found: no such site. Invalid: the database's name, user or server
// will not do. Conflict: another install's, or shared with another site. Needs
// no Owner, DB or Gen; Result.Site says what is there.
type Register struct {
	RootUser     string `json:"root_user"` // usually root
	RootPassword Secret `json:"-"`
}

// Adopt marks a site that was made by other means as this owner's: no marker of
// any install may be on it, and its database (the operation's) must be in the
// register. On a site that is the owner's already it does nothing.
type Adopt struct {
	noSecrets
	Email string `json:"email"` // the admin's, kept with the mark
}

// Disown takes the owner's marker off an adopted site and leaves the site as it
// was: config, settings, and the former pair of a user who still has the one that
// the adoption gave. Where nothing is the owner's it does nothing; a site that was
// not adopted is a conflict.
type Disown struct{ noSecrets }

// Init prepares a bench, given the database's root password once: definer
// procedures, registers, the worker's account with EXECUTE on those and nothing
// else, and the install id. It may run twice. A bench of another install is a
// conflict.
type Init struct {
	Install      InstallID `json:"install"`
	Account      string    `json:"account"`   // the worker's database account
	RootUser     string    `json:"root_user"` // usually root
	RootPassword Secret    `json:"-"`
	Password     Secret    `json:"-"` // the account's password
}

// Verify asks the site over HTTP at the bench's internal address, as a client
// would: ping, who the key belongs to, one list. A wrong answer is internal; no
// route or a 5xx is unavailable with Wait bench. PublicURL, if set, is tried
// too; its failure is only a note.
type Verify struct {
	Email     string
	PublicURL string
	DocType   string // the list to read; empty: "User"
	Key       Secret `json:"-"`
	Secret    Secret `json:"-"`
}

// The names on the wire.
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

// noSecrets is embedded by arguments that hold none.
type noSecrets struct{}

// Secrets has no entry.
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

// Result is what an operation found or did; fields an operation does not speak
// of stay zero.
type Result struct {
	Changed bool   `json:"changed,omitempty"` // false: all was as wanted already
	Skipped bool   `json:"skipped,omitempty"` // install_app: optional and not on the bench
	Note    string `json:"note,omitempty"`    // a remark for people

	Hello     *HelloResult     `json:"hello,omitempty"`
	Inventory *InventoryResult `json:"inventory,omitempty"`
	Site      *SiteInfo        `json:"site,omitempty"` // inspect
}

// HelloResult is what the bench says of itself.
type HelloResult struct {
	Protocol int               `json:"protocol"`
	Frappe   string            `json:"frappe"`
	Apps     map[string]string `json:"apps"` // name → version, frappe included
	Install  InstallID         `json:"install,omitempty"`
	Host     string            `json:"host,omitempty"`     // host name the runner sees
	Database string            `json:"database,omitempty"` // server version
	Schema   int               `json:"schema,omitempty"`   // version of our procedures in it; 1: of before there was any
	Problems []Problem         `json:"problems,omitempty"` // empty: all is well
	Knows    *Knows            `json:"knows,omitempty"`    // nil: a single site, or a runner of a former version
}

// Problem is one thing a bench lacks, and the command or deed that mends it.
type Problem struct {
	What string `json:"what"`
	Mend string `json:"mend"`
}

// InventoryResult lists what is on the bench.
type InventoryResult struct {
	Sites     []SiteInfo     `json:"sites"`
	Intents   []Intent       `json:"intents,omitempty"`
	Databases []DatabaseInfo `json:"databases,omitempty"` // in the register of ours
	Folders   []FolderInfo   `json:"folders,omitempty"`   // sites that are none
	Next      string         `json:"next,omitempty"`      // empty on the last page
}

// Intent is the note that a job is about to make a site.
type Intent struct {
	Site SiteName `json:"site"`
	Job  JobID    `json:"job"`
	DB   string   `json:"db"`
}

// DatabaseInfo is one database of the register.
type DatabaseInfo struct {
	Name    string `json:"name"`
	Job     JobID  `json:"job,omitempty"`     // whose it is; empty: free to be adopted
	Comment string `json:"comment,omitempty"` // "nexus job=… gen=…"
	Exists  bool   `json:"exists"`
	Users   int    `json:"users,omitempty"`   // database users of this name, at any host
	Adopted bool   `json:"adopted,omitempty"` // made by other means
}

// Room is where a folder is that is no site (any more).
type Room string

// The rooms.
const (
	RoomTrash   Room = "trash"   // on its way out
	RoomStandby Room = "standby" // in reserve
	RoomArchive Room = "archive" // moved away by Frappe's own drop-site
)

// FolderInfo is one folder of ours that is no site.
type FolderInfo struct {
	Room Room     `json:"room"`
	Name string   `json:"name"`
	Site SiteName `json:"site,omitempty"` // by its marker
	DB   string   `json:"db,omitempty"`
	Job  JobID    `json:"job,omitempty"` // by its marker, else by the register
}

// SiteInfo is what is on the bench under one site's name.
type SiteInfo struct {
	Site     SiteName  `json:"site"`
	Folder   bool      `json:"folder"`
	DB       string    `json:"db,omitempty"` // from the config; empty without one
	Database bool      `json:"database"`     // that database exists
	Install  InstallID `json:"install,omitempty"`
	Job      JobID     `json:"job,omitempty"` // owner by marker, else by intent
	State    string    `json:"state,omitempty"`
	StateGen Gen       `json:"state_gen,omitempty"` // Submitted of the job of the last mark; zero: not known
	MadeAt   time.Time `json:"made_at,omitzero"`
	Apps     []string  `json:"apps,omitempty"`
	Users    int       `json:"users,omitempty"` // enabled system users, without Administrator and Guest
	Plan     PlanName  `json:"plan,omitempty"`
	Adopted  bool      `json:"adopted,omitempty"` // made by other means
	Email    string    `json:"email,omitempty"`   // of the first such user; inspect only
}
