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

// JobID names one job: 32 lower-case hex digits, 128 random bits. Who knows it
// may watch the job, so it is never guessable and never reused.
type JobID string

// NewJobID draws a fresh id from the system's random source.
func NewJobID() JobID {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails (Go 1.24)
	return JobID(hex.EncodeToString(b[:]))
}

// Valid tells whether the text has the shape of a job id.
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

// Database derives the name of the job's database: nx, the install's four hex
// digits, 20 hex digits of SHA-256(job). It holds no underscore (a wildcard in
// GRANT) and can be derived again by whoever has to clean up.
func (id JobID) Database(install InstallID) string {
	sum := sha256.Sum256([]byte(id))
	return "nx" + string(install) + hex.EncodeToString(sum[:10])
}

// InstallID tells one control plane from another on a shared bench: four
// lower-case hex digits, made once, kept in Redis and in sites/.nexus/install.
type InstallID string

// NewInstallID draws a fresh install id.
func NewInstallID() InstallID {
	var b [2]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return InstallID(hex.EncodeToString(b[:]))
}

// Kind is what a job does; the text is stored.
type Kind string

// The kinds there are.
const (
	KindProvision Kind = "provision"
	KindTeardown  Kind = "teardown"
	KindSuspend   Kind = "suspend"
	KindRestore   Kind = "restore"
	KindRotateKey Kind = "rotate_key"
	KindAdopt     Kind = "adopt"
)

// Kinds lists all kinds.
func Kinds() []Kind {
	return []Kind{KindProvision, KindTeardown, KindSuspend, KindRestore, KindRotateKey, KindAdopt}
}

// OneWay kinds have no way back: what cannot be finished is parked for an
// operator and resumed forward, and what has begun cannot be canceled. A deletion
// cannot be taken back, and of an old key nobody knows the secret. What the bench
// refuses before anything was changed has failed, and is not parked.
func (k Kind) OneWay() bool { return k == KindTeardown || k == KindRotateKey }

// StepName identifies a step of a job in the journal. Names are a stored
// contract: append-only, never reused for something else.
type StepName string

// Gen is a fencing token: Redis time in µs or one more than the last, minted at
// every lease take. Of two owners of a site the one with the higher gen wins.
// Zero means "never taken".
type Gen int64

// GenAhead is how far ahead of the time a fencing token may be: a failover to a Redis
// with another clock explains hours. What is beyond is not of our minting. Redis'
// scripts and the runner have the same bound.
const GenAhead = 7 * 24 * time.Hour

// Plausible tells whether a token that comes from outside can be one of ours.
func (g Gen) Plausible(now time.Time) bool {
	return g >= 0 && g <= Gen(now.Add(GenAhead).UnixMicro())
}

// CorruptGen is the conflict that an implausible token is: it is never minted above,
// and never used.
func CorruptGen(op string, g Gen) *Error {
	return &Error{Code: Conflict, Op: op, Err: fmt.Errorf("gen %d is more than %s ahead of the time", g, GenAhead),
		Msg: "The bench holds a fencing token for this site that is far in the future, so it is not one of ours; an operator has to find out who wrote it, and remove it."}
}

// Job is the record of one job, as stored. It holds no secret.
type Job struct {
	ID    JobID
	Kind  Kind
	Site  SiteName
	Actor string // name of the token that asked, or "signup"
	State State
	Spec  Spec
	Steps []Step // in the order of the process, as of Submit

	Bench string // empty until reserved
	DB    string // database name, empty until reserved
	Owner JobID  // the job that made the site: itself for provision

	WaitingFor Wait   // set while State is waiting, or a retry of an undo is due
	WaitNote   string // a sentence for people
	NextAt     time.Time
	Error      *Failure // why it rolls or rolled back; nil while all is well

	CancelAsked bool
	GiveUpAt    time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time

	Dispatch   int64 // names the current asynq task, from 1
	Taken      int64 // the last dispatch whose worker took the lease
	Submitted  Gen   // minted when the job was recorded: below the tokens of its runs, and of all later jobs
	Gen        Gen
	LeaseUntil time.Time // zero when nobody holds it
	Rescues    int       // leases that ran out during the current step
	Rev        int64     // counts every change; the ETag and the event id

	KeyID       string // the sealing key of its secrets
	TraceParent string // the id of the request that recorded it, for the log; empty: none did
}

// Spec is what a provision job shall make; empty for teardown. Not secret, but
// personal: it is never logged.
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
	Apps         []string `json:"apps,omitempty"`   // a trailing ? marks one that may be missing
	Roles        []string `json:"roles,omitempty"`  // empty: all enabled roles
	NewKey       bool     `json:"newKey,omitempty"` // adopt: give the admin a fresh key
}

// StepState is how far a step has come.
type StepState string

// The states of a step. A step that is started or failed may have left
// something behind, so compensation undoes it like one that is done.
const (
	StepPending StepState = "pending"
	StepStarted StepState = "started"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
	StepUndone  StepState = "undone"
)

// Step is the journal entry of one step.
type Step struct {
	Name      StepName   `json:"name"`
	State     StepState  `json:"state"`
	Attempts  int        `json:"attempts"`            // answers of Do that were failures or the success, not starts
	Internals int        `json:"internals,omitempty"` // how many of the attempts failed in a way nobody foresaw
	Starts    int        `json:"starts,omitempty"`
	StartedAt *time.Time `json:"startedAt,omitempty"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Undos     int        `json:"undos,omitempty"` // answers of Undo since the rollback began or was resumed
	Note      string     `json:"note,omitempty"`
	Percent   int        `json:"percent,omitempty"`
}

// Failure is why a job did not succeed, in words for people.
type Failure struct {
	Code      Code     `json:"code"`
	Step      StepName `json:"step,omitempty"`
	Message   string   `json:"message"`
	Action    string   `json:"action,omitempty"`
	RequestID string   `json:"requestId,omitempty"`
	First     *Failure `json:"first,omitempty"` // of a parked job: why it was being undone
}

// WhyCanceled is the reason of a job that was canceled in a step; empty: before
// it began, so that nothing had to be undone.
func WhyCanceled(at StepName) *Failure {
	f := &Failure{Code: CodeCanceled, Step: at, Message: "The job was canceled.", Action: "You can sign up again whenever you like."}
	if at == "" {
		f.Message = "The job was canceled before it began."
		f.Settle()
	}
	return f
}

// Settle adds to the reason what is true once all is undone: that nothing is
// left. Nil is left alone.
func (f *Failure) Settle() {
	const done = "Nothing was left behind. "
	if f != nil && !strings.HasPrefix(f.Action, done) {
		f.Action = done + f.Action
	}
}

// To moves the job to another state; a move the table does not have is an
// internal error and changes nothing.
func (j *Job) To(next State) error {
	if !slices.Contains(j.State.Next(), next) {
		return &Error{Code: Internal, Op: "job.To", Msg: "This job cannot change that way.",
			Err: fmt.Errorf("job %s: no way from %q to %q", j.ID, j.State, next)}
	}
	j.State = next
	return nil
}

// Step finds a journal entry by name; nil if the job has no such step.
func (j *Job) Step(name StepName) *Step {
	for i := range j.Steps {
		if j.Steps[i].Name == name {
			return &j.Steps[i]
		}
	}
	return nil
}

// Current names the step a job is at: the last one started, else the first.
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
