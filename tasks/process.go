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

// Step is one row of a process. Do and Undo look at the world first and may run
// twice; Undo succeeds on a step that never ran. A nil Undo means that another
// step's Undo removes what this one made.
type Step struct {
	Name       nexus.StepName // a stored contract, see testdata/steps.golden
	Do         func(context.Context, *Kit) error
	Undo       func(context.Context, *Kit) error
	Timeout    time.Duration // of one attempt, of Do and of Undo alike
	Attempts   int           // answers of Do; after the last failure the saga turns back
	Proven     bool          // the steps before have verified the site: an internal error is waited out, not undone
	RecordOnly bool          // Do only writes the job's record: its start is journaled with its end
}

// Forever as Attempts: outages are waited out until the job's time is over.
const Forever = math.MaxInt

// Kit is all that a step may touch.
type Kit struct {
	Job      nexus.Job // as journalled; a copy
	Again    bool      // a former start of this step is journalled
	Bench    nexus.Bench
	Records  Records
	Keys     *nexus.Keyring
	Settings Settings
	// Note leaves a remark on the step for the people who watch.
	Note func(text string)
	// Progress tells how far the step is; percent -1: unknown.
	Progress func(message string, percent int)
}

// Records is what a step may do to the job's records; every call carries the
// run's fencing token.
type Records interface {
	Gen() nexus.Gen
	Reserve(ctx context.Context, bench, db string) error
	Input(ctx context.Context) (string, error)
	Seal(ctx context.Context, sealed string) (string, error)
}

// Settings are the operator's choices that steps need.
type Settings struct {
	Bench         string // the bench's name
	Install       nexus.InstallID
	AdminPassword nexus.Secret // Administrator of every site; empty: random
	TimeZone      string       // of a site whose signup names none; empty: as Frappe or the master site has it
}

// Run does one operation on the job's site.
func (k *Kit) Run(ctx context.Context, args nexus.Args) (nexus.Result, error) {
	result, err := k.Bench.Run(ctx, nexus.Op{
		Site: k.Job.Site, DB: k.Job.DB, Owner: k.Job.Owner, Gen: k.Records.Gen(), Submitted: k.Job.Submitted, Email: k.Job.Spec.Email,
		Args: args, Progress: k.Progress,
	})
	if err == nil && result.Note != "" {
		k.Note(result.Note)
	}
	return result, err
}

// Processes lists all processes there are.
func Processes() []Process {
	return []Process{provision(), teardown(), suspend(), restore(), rotateKey(), adopt()}
}

// Steps names the steps of a kind, in order; nil for an unknown kind.
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

// Find looks a step up by its stored name.
func (p Process) Find(name nexus.StepName) (Step, bool) {
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Name == name })
	if i < 0 {
		return Step{}, false
	}
	return p.Steps[i], true
}
