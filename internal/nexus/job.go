package nexus

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// JobID is the id of a job: 32 lower-case hex digits, 128 random bits. Whoever has it may
// watch the job, so it must be random.
type JobID string

// NewJobID returns a new random id.
func NewJobID() JobID {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails (Go 1.24)
	return JobID(hex.EncodeToString(b[:]))
}

// Valid reports whether the text has the form of a job id.
func (id JobID) Valid() bool {
	if len(id) != 32 {
		return false
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Database derives the name of the job's database: nx, the install's four hex digits, 20
// hex digits of SHA-256(job). It has no underscore, which is a wildcard in GRANT. Since
// it is derived, a cleanup can find the database by the job.
func (id JobID) Database(install InstallID) string {
	sum := sha256.Sum256([]byte(id))
	return "nx" + string(install) + hex.EncodeToString(sum[:10])
}

// Named reports whether a database has such a name: Nexus made it in this install, for some
// job, unless a site with it was adopted again.
func (i InstallID) Named(db string) bool {
	digits, ours := strings.CutPrefix(db, "nx"+string(i))
	return ours && len(digits) == 20 && strings.Trim(digits, "0123456789abcdef") == ""
}

// InstallID distinguishes the control planes that share a bench: four lower-case hex
// digits, made once, stored in Redis and in sites/.nexus/install.
type InstallID string

// NewInstallID returns a new random install id.
func NewInstallID() InstallID {
	var b [2]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return InstallID(hex.EncodeToString(b[:]))
}

// Kind is the kind of a job. The text is stored.
type Kind string

// The kinds.
const (
	KindProvision Kind = "provision"
	KindTeardown  Kind = "teardown"
	KindSuspend   Kind = "suspend"
	KindRestore   Kind = "restore"
	KindRotateKey Kind = "rotate_key"
	KindAdopt     Kind = "adopt"
	KindTemplate  Kind = "template" // makes a template; Site is its name, and no tenant has it
	KindStandby   Kind = "standby"  // makes a standby; Site is its name, and no tenant has it
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{KindProvision, KindTeardown, KindSuspend, KindRestore, KindRotateKey, KindAdopt, KindTemplate, KindStandby}
}

// Machine reports whether jobs of a kind are the product's own work, such as templates. They
// give way to all others: they have slots, a queue and a place in each worker of their own,
// and begin on an open bench only. Redis' scripts have the same list.
func (k Kind) Machine() bool { return k == KindTemplate || k == KindStandby }

// OneWay reports whether jobs of a kind cannot be rolled back: a removed site is gone,
// and nobody knows the secret of a replaced key. Once begun, such a job cannot be
// canceled. If it cannot be finished it is parked, and resumed forward. It fails only if
// the bench refuses it before anything was changed.
func (k Kind) OneWay() bool { return k == KindTeardown || k == KindRotateKey }

// StepName identifies a step in the journal. A name is stored, so it must never be
// changed or reused.
type StepName string

// Gen is a fencing token, minted at each lease take: Redis' time in µs, or one more than
// the last token. Of two owners of a site the one with the higher token wins. Zero: the
// job was never taken.
type Gen int64

// GenAhead is how far ahead of the time a fencing token may be. Clocks of two Redis
// servers may differ by hours; a token beyond this bound was not minted by Nexus. Redis'
// scripts and the runner have the same bound.
const GenAhead = 7 * 24 * time.Hour

// Plausible reports whether Nexus can have minted a token that a bench holds.
func (g Gen) Plausible(now time.Time) bool {
	return g >= 0 && g <= Gen(now.Add(GenAhead).UnixMicro())
}

// CorruptGen is the error for a token that is not plausible. No token is minted above it.
func CorruptGen(op string, g Gen) *Error {
	return &Error{Code: Conflict, Op: op, Err: fmt.Errorf("gen %d is more than %s ahead of the time", g, GenAhead),
		Msg: "The bench holds a fencing token for this site that is far in the future, so Nexus did not write it; an operator has to find out who did, and remove it."}
}

// Job is the record of one job, as stored. It contains no secret.
type Job struct {
	ID    JobID
	Kind  Kind
	Site  SiteName
	Actor string // the name of the API token that asked for it, or "signup" or "purge"
	State State
	Spec  Spec
	Steps []Step // in the order of the process at Submit

	Bench string // empty until reserved
	DB    string // database name, empty until reserved; by standby that of the standby
	Owner JobID  // the job that made the site: itself for provision

	Road     Road     // how its site is or was made; empty: new-site, or not reserved yet
	Template SiteName // by clone and standby: what its site is or was copied from
	Standby  JobID    // by standby: the job that made it

	WaitingFor Wait   // set while State is waiting, or while an undo waits for a retry
	WaitNote   string // a sentence for people
	NextAt     time.Time
	Error      *Failure // why it is or was rolled back; nil: it is not

	CancelAsked bool
	GiveUpAt    time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time

	Dispatch   int64 // names the current asynq task, from 1
	Taken      int64 // the last dispatch whose worker took the lease
	Submitted  Gen   // the token minted at Submit: lower than those of its runs and of later jobs
	Gen        Gen
	LeaseUntil time.Time // zero: nobody holds the lease
	Rescues    int       // leases that expired during the current step
	Rev        int64     // grows with each change; the id of the last event, and a part of the ETag

	KeyID       string // the id of the key that seals its secrets
	TraceParent string // the id of the request that recorded it, for the log; empty: none
}

// Spec says what a provision, adopt, template or standby job makes; other kinds have none.
// It contains personal data and must not be logged.
type Spec struct {
	Email        string   `json:"email,omitempty"`
	FullName     string   `json:"fullName,omitempty"`
	Organization string   `json:"organization,omitempty"`
	Plan         PlanName `json:"plan,omitempty"`
	Country      string   `json:"country,omitempty"`
	Language     string   `json:"language,omitempty"`
	TimeZone     string   `json:"timezone,omitempty"`
	Currency     string   `json:"currency,omitempty"`
	URL          string   `json:"url,omitempty"`
	Apps         []string `json:"apps,omitempty"`   // with a trailing ?: skipped if the bench lacks it
	Roles        []string `json:"roles,omitempty"`  // empty: all enabled roles
	NewKey       bool     `json:"newKey,omitempty"` // adopt: give the admin a new API key

	// Of a template or standby job what it is for; of a provision the country whose templates
	// fit the signup, as a spec without a chart. Empty: only TemplatePlain does.
	Template     TemplateSpec `json:"template,omitempty"`
	Abbreviation string       `json:"abbreviation,omitempty"` // of the company; empty: the initials of Organization

	// Of a provision the road that an operator asked for; empty: the fastest. If it cannot be
	// taken the next slower one is. A worker of a former version takes the fastest.
	Road Road `json:"road,omitempty"`
}

// StepState is the state of a step.
type StepState string

// The states of a step. A rollback undoes steps that are started, failed or done: each
// may have made something.
const (
	StepPending StepState = "pending"
	StepStarted StepState = "started"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
	StepUndone  StepState = "undone"
)

// Step is the journal entry of one step.
type Step struct {
	Name      StepName
	State     StepState
	Attempts  int // calls of Do that returned and were charged
	Internals int // attempts that failed with an internal error
	Starts    int
	StartedAt *time.Time
	EndedAt   *time.Time
	Undos     int // calls of Undo that failed since the rollback began or was resumed
	Note      string
	Percent   int
}

// Failure says why a job did not succeed, for people.
type Failure struct {
	Code      Code     `json:"code"`
	Step      StepName `json:"step,omitempty"`
	Message   string   `json:"message"`
	Action    string   `json:"action,omitempty"`
	RequestID string   `json:"requestId,omitempty"`
	First     *Failure `json:"first,omitempty"` // of a parked job: why it was rolled back
}

// WhyCanceled is the failure of a job that was canceled in a step; an empty step: before
// it began.
func WhyCanceled(kind Kind, at StepName) *Failure {
	f := &Failure{Code: CodeCanceled, Step: at, Message: "The job was canceled.", Action: "You can ask for it again whenever you like."}
	if kind == KindProvision {
		f.Action = "You can sign up again whenever you like."
	}
	if at == "" {
		f.Message = "The job was canceled before it began."
		f.SayNothingLeft()
	}
	return f
}

// SayNothingLeft adds to Action, once a job is rolled back, that nothing was left behind.
// It does nothing for nil.
func (f *Failure) SayNothingLeft() {
	const done = "Nothing was left behind. "
	if f != nil && !strings.HasPrefix(f.Action, done) {
		f.Action = done + f.Action
	}
}

// To sets the job's state. Internal, and no change: the transition table does not have
// this transition.
func (j *Job) To(next State) error {
	if !slices.Contains(j.State.Next(), next) {
		return &Error{Code: Internal, Op: "job.To", Msg: "This job cannot change that way.",
			Err: fmt.Errorf("job %s: no transition from %q to %q", j.ID, j.State, next)}
	}
	j.State = next
	return nil
}

// Step returns the journal entry of a step; nil: the job has no such step.
func (j *Job) Step(name StepName) *Step {
	for i := range j.Steps {
		if j.Steps[i].Name == name {
			return &j.Steps[i]
		}
	}
	return nil
}

// Current is the step that was started last; if none was, the first one.
func (j *Job) Current() StepName {
	for i := len(j.Steps) - 1; i >= 0; i-- {
		if j.Steps[i].State != StepPending {
			return j.Steps[i].Name
		}
	}
	if len(j.Steps) == 0 {
		return ""
	}
	return j.Steps[0].Name
}
