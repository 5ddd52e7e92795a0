package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultsOnDemand checks which fault each e-mail address causes in which operation.
func TestFaultsOnDemand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		email string
		args  nexus.Args
		times int // how often it fails; -1: always
		code  nexus.Code
		wait  nexus.Wait
	}{
		{"fail-site@example.com", nexus.NewSite{}, -1, nexus.Invalid, ""},
		{"fail-site+again@example.com", nexus.NewSite{}, -1, nexus.Invalid, ""},
		{"fail-apps@example.com", nexus.InstallApp{App: "erpnext"}, -1, nexus.NotFound, ""},
		{"fail-user@example.com", nexus.EnsureUser{}, -1, nexus.Invalid, ""},
		{"fail-plan@example.com", nexus.ApplyPlan{}, -1, nexus.Invalid, ""},
		{"fail-key@example.com", nexus.IssueKey{}, -1, nexus.Invalid, ""},
		{"fail-verify@example.com", nexus.Verify{}, -1, nexus.Invalid, ""},
		{"down-verify@example.com", nexus.Verify{}, -1, nexus.Unavailable, nexus.WaitBench},
		{"flaky-site@example.com", nexus.NewSite{}, 2, nexus.Unavailable, ""},
		{"full-bench@example.com", nexus.NewSite{}, 2, nexus.Limit, nexus.WaitCapacity},
		{"fail-site@example.com", nexus.Clone{}, -1, nexus.Invalid, ""},
		{"flaky-site@example.com", nexus.Clone{Template: "none"}, 2, nexus.Unavailable, ""},
		{"full-bench@example.com", nexus.Clone{Template: "none"}, 2, nexus.Limit, nexus.WaitCapacity},
		{"fail-site@example.com", nexus.Claim{}, -1, nexus.Invalid, ""},
		{"flaky-site@example.com", nexus.Claim{Standby: "none"}, 2, nexus.Unavailable, ""},
		{"full-bench@example.com", nexus.Claim{Standby: "none"}, 2, nexus.Limit, nexus.WaitCapacity},
		{"stuck-undo@example.com", nexus.DropSite{}, 8, nexus.Unavailable, ""},
		{"flaky-apps@example.com", nexus.NewSite{}, 0, "", ""},
		{"jane@example.com", nexus.NewSite{}, 0, "", ""},
	} {
		t.Run(tc.email+" "+string(tc.args.Op()), func(t *testing.T) {
			t.Parallel()
			sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: t.TempDir(), Install: "5a4d"})
			if err != nil {
				t.Fatal(err)
			}
			defer sandbox.Close() //nolint:errcheck // nothing to lose
			owner := nexus.NewJobID()
			op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Email: tc.email, Args: tc.args}
			for i := range 10 {
				_, err := sandbox.Run(t.Context(), op)
				if i < tc.times || tc.times < 0 {
					e, ok := err.(*nexus.Error) //nolint:errorlint // returned by the sandbox itself
					if !ok || e.Code != tc.code || e.Wait != tc.wait {
						t.Fatalf("try %d: %v", i+1, err)
					}
				} else if nexus.CodeOf(err) == tc.code && tc.code != "" {
					t.Fatalf("try %d still fails: %v", i+1, err)
				}
			}
		})
	}
}

// TestDropAfterAKill: a process that was killed while it wrote a file leaves a temporary file,
// which is removed with the site.
func TestDropAfterAKill(t *testing.T) {
	t.Parallel()
	for _, made := range []bool{true, false} {
		dir := t.TempDir()
		sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d"})
		if err != nil {
			t.Fatal(err)
		}
		defer sandbox.Close() //nolint:errcheck // nothing to lose
		owner := nexus.NewJobID()
		op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Args: nexus.NewSite{}}
		if made {
			if _, err := sandbox.Run(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		for _, room := range []string{"sites", "intent"} {
			if err := os.WriteFile(filepath.Join(dir, room, "acme.localhost.new"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		op.Args = nexus.DropSite{}
		if result, err := sandbox.Run(t.Context(), op); err != nil || result.Changed != made {
			t.Fatalf("%+v, %v", result, err)
		}
		for _, room := range []string{"sites", "intent"} {
			if left, err := os.ReadDir(filepath.Join(dir, room)); err != nil || len(left) > 0 {
				t.Errorf("left in %s: %v, %v", room, left, err)
			}
		}
	}
}

// TestNewSiteAfterAKill: a process that was killed after the site was complete, and before it
// removed the intent, leaves the intent to the next attempt.
func TestNewSiteAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d"})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	owner := nexus.NewJobID()
	op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Args: nexus.NewSite{}}
	for _, made := range []bool{true, false} {
		result, err := sandbox.Run(t.Context(), op)
		if err != nil || result.Changed != made {
			t.Fatalf("%+v, %v", result, err)
		}
		note := filepath.Join(dir, "intent", "acme.localhost")
		if _, err := os.Stat(note); err == nil {
			t.Fatal("a note is left")
		}
		if err := os.WriteFile(note, []byte(`{"site":"acme.localhost","job":"`+string(owner)+`","db":"`+op.DB+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFaultsOfAllRoads: a fault that happens twice happens twice to a job, not to each of the
// databases that it tries.
func TestFaultsOfAllRoads(t *testing.T) {
	t.Parallel()
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: t.TempDir(), Install: "5a4d"})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	owner, maker := nexus.NewJobID(), nexus.NewJobID()
	for i, args := range []nexus.Args{nexus.Claim{Standby: "none", Maker: maker}, nexus.Clone{Template: "none"}, nexus.NewSite{}} {
		op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Email: "flaky-site@example.com", Args: args}
		if i == 0 {
			op.DB = maker.Database("5a4d")
		}
		if _, err := sandbox.Run(t.Context(), op); (nexus.CodeOf(err) == nexus.Unavailable) != (i < 2) {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
}
