package bench_test

import (
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultsOnDemand holds what each address does to which operation.
func TestFaultsOnDemand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		email string
		args  nexus.Args
		times int // it fails; -1: always
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
					e, ok := err.(*nexus.Error) //nolint:errorlint // born here
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
