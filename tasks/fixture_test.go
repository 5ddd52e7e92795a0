package tasks_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// fixture is a job with a bench and records that a test controls.
type fixture struct {
	t    *testing.T
	kind nexus.Kind
	kit  tasks.Kit

	ops    []nexus.Op
	limits []bool                               // whether each operation has a deadline of its own
	answer func(nexus.Op) (nexus.Result, error) // nil: every operation succeeds

	reserved    [2]string // bench and database
	keys        []string  // of templates, asked for by reserve
	diverted    nexus.Way // what Divert answers, but for the first calls
	ways        []nexus.Way
	log         []string   // operations with their database, and writes of the road, in order
	diversions  [][]string // what it was asked for: the database, and keys
	offered     []nexus.Template
	withdrawn   nexus.SiteName
	recordsFail error
	notes       []string
}

const (
	job     nexus.JobID = "0123456789abcdef0123456789abcdef"
	maker   nexus.JobID = "fedcba9876543210fedcba9876543210"
	install             = nexus.InstallID("9f3c")
	gen                 = nexus.Gen(1_795_451_262_824_428)
)

func newFixture(t *testing.T, kind nexus.Kind) *fixture {
	t.Helper()
	keys, _ := nexus.NewKeyring()
	f := &fixture{t: t, kind: kind}
	f.kit = tasks.Kit{
		Job:  nexus.Job{ID: job, Kind: kind, Site: "acme.example.com", Owner: job},
		Keys: keys, Bench: f, Records: records{f},
		Settings: tasks.Settings{Bench: "main", Install: install, AdminPassword: "Admin-Pass-1"},
		Note:     func(text string) { f.notes = append(f.notes, text) },
		Progress: func(string, int) {},
	}
	if kind != nexus.KindProvision && kind != nexus.KindAdopt && !kind.Machine() {
		f.kit.Job.Owner, f.kit.Job.DB = maker, maker.Database(install)
	}
	if kind == nexus.KindTeardown {
		return f
	}
	f.kit.Job.Spec = nexus.Spec{Email: "jane@example.com", FullName: "Jane Doe", Organization: "Acme", Abbreviation: "ACM", Plan: "starter", Country: "Germany",
		Language: "de", TimeZone: "Europe/Berlin", Currency: "EUR", URL: "https://acme.example.com",
		Apps: []string{"erpnext", "nexus_core?"}, Roles: []string{"System Manager"}}
	f.kit.Input = f.seal(nexus.PurposeInput, tasks.Input{Password: "Secret-Horse-7"})
	return f
}

func (f *fixture) seal(purpose nexus.Purpose, v any) string {
	f.t.Helper()
	plain, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	sealed, err := f.kit.Keys.Seal(job, purpose, plain)
	if err != nil {
		f.t.Fatal(err)
	}
	return sealed
}

// step returns a step of the fixture's process.
func (f *fixture) step(name nexus.StepName) tasks.Step {
	f.t.Helper()
	for _, p := range tasks.Processes() {
		if step, ok := p.Find(name); ok && p.Kind == f.kind {
			return step
		}
	}
	f.t.Fatalf("%s has no step %s", f.kind, name)
	return tasks.Step{}
}

// do calls a step's Do once, with a new Kit, as the engine does.
func (f *fixture) do(name nexus.StepName) error {
	f.t.Helper()
	step := f.step(name)
	if step.Seal != nil && f.kit.Sealed == "" {
		var err error
		if f.kit.Sealed, err = step.Seal(&f.kit); err != nil {
			f.t.Fatal(err)
		}
	}
	kit := f.kit
	err := step.Do(f.t.Context(), &kit)
	if f.reserved[1] != "" {
		f.kit.Job.Bench, f.kit.Job.DB = f.reserved[0], f.reserved[1]
	}
	return err
}

// pair returns the job's credentials, as sealed in the records.
func (f *fixture) pair() tasks.Credentials {
	f.t.Helper()
	var pair tasks.Credentials
	plain, err := f.kit.Keys.Open(job, nexus.PurposeCredentials, f.kit.Sealed)
	if err == nil {
		err = json.Unmarshal(plain, &pair)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return pair
}

// wantArgs compares the arguments of all operations with the expected ones.
func (f *fixture) wantArgs(want ...nexus.Args) {
	f.t.Helper()
	var got []nexus.Args
	for _, op := range f.ops {
		got = append(got, op.Args)
	}
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		f.t.Errorf("asked of the bench:\n%s", diff)
	}
}

// Run implements nexus.Bench.
func (f *fixture) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	_, limited := ctx.Deadline()
	f.ops, f.limits, f.log = append(f.ops, op), append(f.limits, limited), append(f.log, string(op.Args.Op())+" "+op.DB)
	if f.answer == nil {
		return nexus.Result{Changed: true}, nil
	}
	return f.answer(op)
}

// records implements tasks.Records.
type records struct{ f *fixture }

func (r records) Gen() nexus.Gen { return gen }

func (r records) Divert(_ context.Context, db string, templates ...string) (nexus.Way, error) {
	r.f.diversions = append(r.f.diversions, append([]string{db}, templates...))
	r.f.log = append(r.f.log, strings.Join(append([]string{"divert", db}, templates...), " "))
	if len(r.f.ways) > 0 {
		way := r.f.ways[0]
		r.f.ways = r.f.ways[1:]
		return way, r.f.recordsFail
	}
	return r.f.diverted, r.f.recordsFail
}

func (r records) Offer(_ context.Context, templates []nexus.Template) error {
	r.f.offered = templates
	return r.f.recordsFail
}

func (r records) Withdraw(_ context.Context, template nexus.SiteName) error {
	r.f.withdrawn = template
	r.f.log = append(r.f.log, "withdraw "+string(template))
	return r.f.recordsFail
}

func (r records) Reserve(_ context.Context, bench, db string, templates ...string) error {
	r.f.keys = templates
	if r.f.recordsFail == nil {
		r.f.reserved = [2]string{bench, db}
	}
	return r.f.recordsFail
}
