package tasks

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Process is what a job of one kind does.
type Process struct {
	Kind  nexus.Kind
	Steps []Step
}

// Step is one step of a process. Do and Undo are idempotent: they look at what is there
// first. Undo succeeds on a step that never ran. A nil Undo means that the Undo of another
// step removes what this one made.
type Step struct {
	Name       nexus.StepName // stored, must not change; see testdata/steps.golden
	Do         func(context.Context, *Kit) error
	Undo       func(context.Context, *Kit) error
	Timeout    time.Duration // of one call of Do or Undo
	Attempts   int           // failures of Do until the job is rolled back
	Proven     bool          // the site is verified: an internal error is retried and never rolls the job back
	RecordOnly bool          // Do only writes the job's record: its start is journaled with its end

	// Seal makes the credentials that the step uses, sealed; empty: it uses none. They are
	// stored with the step's start, unless the job has some. Nil: the step uses none.
	Seal func(*Kit) (string, error)
}

// Forever as Attempts: Do is retried until the job's time is over.
const Forever = math.MaxInt

// Kit is what a step may use.
type Kit struct {
	Job      nexus.Job // a copy of the record
	Again    bool      // the step was started before
	Bench    nexus.Bench
	Records  Records
	Keys     *nexus.Keyring
	Settings Settings
	Input    string // what was entered at signup, sealed; empty: it is no longer kept
	Sealed   string // the job's credentials, sealed; empty before a step that uses them
	// Note puts a note on the step, for the people who watch the job.
	Note func(text string)
	// Progress reports how far the step is; percent -1: not known.
	Progress func(message string, percent int)
}

// Records are the writes of the job's record that a step may do, with the run's fencing
// token.
type Records interface {
	Gen() nexus.Gen
	// Reserve takes a slot on a bench, and chooses how the site is made: by standby or clone
	// if the bench has one for one of the keys (TemplateSpec.Key, best first), else by
	// new-site, with the given database unless it is a standby. Spec.Road may ask for a slower
	// one.
	Reserve(ctx context.Context, bench, db string, templates ...string) error
	// Divert chooses a longer road: clone if the bench offers a template for one of the keys,
	// else new-site, with the given database.
	Divert(ctx context.Context, db string, templates ...string) (nexus.Way, error)
	// Offer records what sites of the job's bench can be copied from, as the bench lists it.
	Offer(ctx context.Context, templates []nexus.Template) error
	// Withdraw removes a template of the job's bench from what is offered.
	Withdraw(ctx context.Context, template nexus.SiteName) error
}

// Settings are the settings of the installation that steps need.
type Settings struct {
	Bench         string // the bench's name
	Install       nexus.InstallID
	AdminPassword nexus.Secret                // of Administrator on every site; empty: a random one for each
	Templates     func() []nexus.TemplateSpec // that the bench has or gets; of several for a country the first is preferred. Nil: none
	TimeZone      string                      // of a site whose signup names none; empty: the default of Frappe or the master site
}

// Run does one operation on the job's site.
func (k *Kit) Run(ctx context.Context, args nexus.Args) (nexus.Result, error) {
	result, err := k.Bench.Run(ctx, nexus.Op{
		Site: k.Job.Site, Room: room(k.Job.Kind), DB: k.Job.DB, Owner: k.Job.Owner, Gen: k.Records.Gen(), Submitted: k.Job.Submitted, Email: k.Job.Spec.Email,
		Args: args, Progress: k.Progress,
	})
	if err == nil && result.Note != "" {
		k.Note(result.Note)
	}
	return result, err
}

// Processes lists all processes.
func Processes() []Process {
	return []Process{provision(), teardown(), suspend(), restore(), rotateKey(), adopt(), template(), standby()}
}

// Steps lists the names of a kind's steps, in order; nil for an unknown kind.
func Steps(kind nexus.Kind) []nexus.StepName {
	for _, p := range Processes() {
		if p.Kind == kind {
			names := make([]nexus.StepName, len(p.Steps))
			for i, step := range p.Steps {
				names[i] = step.Name
			}
			return names
		}
	}
	return nil
}

// Find returns the step with a stored name.
func (p Process) Find(name nexus.StepName) (Step, bool) {
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Name == name })
	if i < 0 {
		return Step{}, false
	}
	return p.Steps[i], true
}
