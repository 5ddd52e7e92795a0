package tasks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestLife checks the processes after provision: the operations on the bench, their order,
// and that their owner is the job that made the site.
func TestLife(t *testing.T) {
	t.Parallel()
	const db = "nx0000theirs"
	found := func(op nexus.Op) (nexus.Result, error) {
		if _, ok := op.Args.(nexus.Inspect); ok {
			return nexus.Result{Site: &nexus.SiteInfo{Folder: true, Database: true, DB: db}}, nil
		}
		return nexus.Result{Changed: true}, nil
	}
	plan := nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "https://acme.example.com", Country: "Germany",
		Language: "de", TimeZone: "Europe/Berlin"}
	for _, tc := range []struct {
		name   nexus.Kind
		newKey bool
		want   func(key, secret nexus.Secret) []nexus.Args
		notes  []string
	}{
		{name: nexus.KindSuspend, want: func(_, _ nexus.Secret) []nexus.Args { return []nexus.Args{nexus.Mark{State: nexus.TenantSuspended}} }},
		{name: nexus.KindRestore, want: func(_, _ nexus.Secret) []nexus.Args { return []nexus.Args{nexus.Mark{State: nexus.TenantActive}} }},
		{name: nexus.KindRotateKey, newKey: true, want: func(key, secret nexus.Secret) []nexus.Args {
			return []nexus.Args{nexus.IssueKey{Email: "jane@example.com", Key: key, Secret: secret},
				nexus.Verify{Email: "jane@example.com", PublicURL: "https://acme.example.com", DocType: "ToDo", Key: key, Secret: secret}}
		}},
		{name: nexus.KindAdopt, notes: []string{"The site's keys stay as they are."}, want: func(_, _ nexus.Secret) []nexus.Args {
			return []nexus.Args{nexus.Inspect{}, nexus.Adopt{Email: "jane@example.com"}, plan, nexus.Mark{State: nexus.TenantActive}}
		}},
		{name: nexus.KindAdopt, newKey: true, want: func(key, secret nexus.Secret) []nexus.Args {
			return []nexus.Args{nexus.Inspect{}, nexus.Adopt{Email: "jane@example.com"}, plan, nexus.IssueKey{Email: "jane@example.com", Key: key, Secret: secret},
				nexus.Verify{Email: "jane@example.com", PublicURL: "https://acme.example.com", DocType: "ToDo", Key: key, Secret: secret},
				nexus.Mark{State: nexus.TenantActive}}
		}},
	} {
		name := string(tc.name)
		if tc.newKey {
			name += " with a new key"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tc.name)
			f.kit.Job.Spec.NewKey, f.answer = tc.newKey, found
			for _, step := range tasks.Steps(tc.name) {
				if err := f.do(step); err != nil {
					t.Fatalf("%s: %v", step, err)
				}
			}
			var pair tasks.Credentials
			if tc.newKey {
				pair = f.pair()
			}
			f.wantArgs(tc.want(nexus.Secret(pair.APIKey), nexus.Secret(pair.APISecret))...)
			for _, op := range f.ops[min(1, len(f.ops)-1):] { // the first operation of an adoption has no database yet
				if op.Owner != f.kit.Job.Owner || op.DB != f.kit.Job.DB || op.Gen != gen {
					t.Errorf("%s in the envelope %+v", op.Args.Op(), op)
				}
			}
			if tc.name == nexus.KindAdopt && f.reserved != [2]string{"main", db} {
				t.Errorf("reserved %q", f.reserved)
			}
			if diff := cmp.Diff(tc.notes, f.notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLifeUndo: an undo succeeds if there is nothing to undo. Else the job would be parked.
func TestLifeUndo(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		kind nexus.Kind
		step nexus.StepName
		want nexus.Args
	}{
		{nexus.KindSuspend, "close", nexus.Mark{State: nexus.TenantActive}},
		{nexus.KindRestore, "open", nexus.Mark{State: nexus.TenantSuspended}},
		{nexus.KindAdopt, "adopt", nexus.Disown{}},
	} {
		for _, tc := range []struct {
			name string
			code nexus.Code // of the bench's error; empty: it succeeds
			want nexus.Code
		}{
			{"done", "", ""},
			{"the site is gone", nexus.NotFound, ""},
			{"the site is not ours", nexus.Conflict, ""},
			{"the bench is away", nexus.Unavailable, nexus.Unavailable},
			{"fenced", nexus.Fenced, nexus.Fenced},
		} {
			t.Run(string(way.kind)+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, way.kind)
				f.kit.Job.DB = "nx9f3c"
				f.answer = func(nexus.Op) (nexus.Result, error) {
					if tc.code == "" {
						return nexus.Result{Changed: true}, nil
					}
					return nexus.Result{}, &nexus.Error{Code: tc.code, Op: "bench", Msg: "No."}
				}
				if err := f.step(way.step).Undo(t.Context(), &f.kit); nexus.CodeOf(err) != tc.want {
					t.Errorf("answered %v, want %q", err, tc.want)
				}
				f.wantArgs(way.want)
			})
		}
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	site := func(s nexus.SiteInfo) nexus.Result { return nexus.Result{Site: &s} }
	for _, tc := range []struct {
		name  string
		found nexus.Result
		err   error // of Inspect
		want  nexus.Code
		ops   []nexus.Args
	}{
		{name: "cannot look", err: &nexus.Error{Code: nexus.Unavailable}, want: nexus.Unavailable, ops: []nexus.Args{nexus.Inspect{}}},
		{name: "nothing said of a site", want: nexus.NotFound, ops: []nexus.Args{nexus.Inspect{}}},
		{name: "no folder", found: site(nexus.SiteInfo{DB: "x"}), want: nexus.NotFound, ops: []nexus.Args{nexus.Inspect{}}},
		{name: "no config", found: site(nexus.SiteInfo{Folder: true}), want: nexus.NotFound, ops: []nexus.Args{nexus.Inspect{}}},
		{name: "a site", found: site(nexus.SiteInfo{Folder: true, DB: "x"}), ops: []nexus.Args{nexus.Inspect{}, nexus.Adopt{Email: "jane@example.com"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindAdopt)
			f.answer = func(op nexus.Op) (nexus.Result, error) {
				if op.Args.Op() == nexus.OpInspect {
					return tc.found, tc.err
				}
				return nexus.Result{}, nil
			}
			if err := f.do("adopt"); nexus.CodeOf(err) != tc.want {
				t.Errorf("answered %v, want %q", err, tc.want)
			}
			f.wantArgs(tc.ops...)
			if tc.want != "" && f.reserved[1] != "" {
				t.Errorf("reserved %q", f.reserved)
			}
			f.ops = nil
			if err := f.do("adopt"); tc.want == "" { // the second attempt has the database
				if err != nil {
					t.Error(err)
				}
				f.wantArgs(nexus.Adopt{Email: "jane@example.com"})
			}
		})
	}
	t.Run("the way back of one never looked at", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, nexus.KindAdopt)
		if err := f.step("adopt").Undo(t.Context(), &f.kit); err != nil {
			t.Error(err)
		}
		f.wantArgs()
	})
}

// TestUndoSparesAnOpenedSite: a site that is open although the journal has not reached
// activate may be in use, since Redis was restored from a backup. It is not removed.
func TestUndoSparesAnOpenedSite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		starts int // of activate, in the journal
		found  nexus.SiteInfo
		want   nexus.Code
		undone bool
	}{
		{"opened unknown to us", 0, nexus.SiteInfo{Job: job, State: "active"}, nexus.Internal, false},
		{"suspended since", 0, nexus.SiteInfo{Job: job, State: "suspended"}, nexus.Internal, false},
		{"being made", 0, nexus.SiteInfo{Job: job, State: "making"}, "", true},
		{"half made", 0, nexus.SiteInfo{Job: job}, "", true},
		{"somebody else's", 0, nexus.SiteInfo{Job: maker, State: "active"}, "", true},
		{"opened by this journal", 1, nexus.SiteInfo{Job: job, State: "active"}, "", true},
	} {
		for kind, step := range map[nexus.Kind]nexus.StepName{nexus.KindProvision: "site", nexus.KindAdopt: "adopt"} {
			t.Run(string(kind)+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, kind)
				f.kit.Job.DB = job.Database(install)
				f.kit.Job.Steps = []nexus.Step{{Name: "activate", Starts: tc.starts}}
				undone := false
				f.answer = func(op nexus.Op) (nexus.Result, error) {
					undone = undone || op.Args.Op() == nexus.OpDropSite || op.Args.Op() == nexus.OpDisown
					return nexus.Result{Site: &tc.found}, nil
				}
				if err := f.step(step).Undo(t.Context(), &f.kit); nexus.CodeOf(err) != tc.want || undone != tc.undone {
					t.Errorf("%v, undone %t", err, undone)
				}
			})
		}
	}
}
