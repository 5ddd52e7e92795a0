package tasks_test

import (
	"errors"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestTeardown checks the whole process. The owner of its operations is the job that made
// the site.
func TestTeardown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nexus.KindTeardown)
	for _, name := range tasks.Steps(nexus.KindTeardown) {
		if err := f.do(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	f.wantArgs(nexus.Mark{State: nexus.TenantDeleting}, nexus.DropSite{}, nexus.Inspect{})
	for _, op := range f.ops {
		if op.Site != "acme.example.com" || op.Owner != maker || op.DB != maker.Database(install) || op.Gen != gen {
			t.Errorf("%s in the envelope %+v", op.Args.Op(), op)
		}
	}
}

func TestTeardownAnswers(t *testing.T) {
	t.Parallel()
	site := func(s nexus.SiteInfo) nexus.Result { return nexus.Result{Site: &s} }
	refused := func(code nexus.Code) error { return &nexus.Error{Code: code, Op: "bench", Msg: "No."} }
	for _, tc := range []struct {
		name   string
		step   nexus.StepName
		answer nexus.Result
		err    error
		want   nexus.Code
	}{
		{name: "closed", step: "suspend"},
		{name: "dropped by an earlier try", step: "suspend", err: refused(nexus.NotFound)},
		{name: "somebody else's", step: "suspend", err: refused(nexus.Conflict), want: nexus.Conflict},
		{name: "away", step: "suspend", err: refused(nexus.Unavailable), want: nexus.Unavailable},
		{name: "dropped", step: "drop"},
		{name: "half dropped", step: "drop", err: refused(nexus.Unavailable), want: nexus.Unavailable},
		{name: "nothing said of a site", step: "forget"},
		{name: "nothing there", step: "forget", answer: site(nexus.SiteInfo{})},
		{name: "the intent alone", step: "forget", answer: site(nexus.SiteInfo{Job: maker})},
		{name: "the folder left", step: "forget", answer: site(nexus.SiteInfo{Job: maker, Folder: true}), want: nexus.Unavailable},
		{name: "the database left", step: "forget", answer: site(nexus.SiteInfo{Job: maker, Database: true}), want: nexus.Unavailable},
		{name: "somebody else's under the name", step: "forget", answer: site(nexus.SiteInfo{Job: job, Folder: true, Database: true})},
		{name: "cannot look", step: "forget", err: refused(nexus.Timeout), want: nexus.Timeout},
		{name: "nobody's error", step: "forget", err: errors.New("x"), want: nexus.Internal},
	} {
		t.Run(string(tc.step)+" "+tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindTeardown)
			f.answer = func(nexus.Op) (nexus.Result, error) { return tc.answer, tc.err }
			if err := f.do(tc.step); nexus.CodeOf(err) != tc.want {
				t.Errorf("answered %v, want %q", err, tc.want)
			}
			if len(f.ops) != 1 {
				t.Errorf("asked %d times", len(f.ops))
			}
		})
	}
	t.Run("drop without a database", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, nexus.KindTeardown)
		f.kit.Job.DB = ""
		if err := f.do("drop"); err != nil {
			t.Error(err)
		}
		f.wantArgs()
	})
}
