package bench_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestSandboxForgetsAbsurdTokens: a token in a fence that was never issued locks nobody
// out.
func TestSandboxForgetsAbsurdTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d"})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	owner := nexus.NewJobID()
	op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: nexus.Gen(time.Now().UnixMicro()), Args: nexus.NewSite{}}
	if _, err := sandbox.Run(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fence", op.DB), []byte("9223372036854775807"), 0o600); err != nil {
		t.Fatal(err)
	}
	op.Args = nexus.Mark{State: nexus.TenantSuspended}
	if _, err := sandbox.Run(t.Context(), op); err != nil {
		t.Errorf("kept out by it: %v", err)
	}
	op.Gen--
	if _, err := sandbox.Run(t.Context(), op); nexus.CodeOf(err) != nexus.Fenced {
		t.Errorf("the fence is open: %v", err)
	}
}

// TestMasterForgetsAbsurdTokens: users can write anything into their own Social Logins; a
// token there that was never issued locks no job out.
func TestMasterForgetsAbsurdTokens(t *testing.T) {
	t.Parallel()
	for _, username := range []string{"active 9223372036854775807", "active 9007199254740993"} {
		f, m := newFrappe(t)
		f.users["jane@example.com"] = marked("9f3c-job1", username)
		if _, err := m.Run(t.Context(), masterOp(nexus.Mark{State: nexus.TenantSuspended}, 100)); err != nil {
			t.Errorf("%s: %v", username, err)
		}
		if _, err := m.Run(t.Context(), masterOp(nexus.Mark{State: nexus.TenantActive}, 99)); nexus.CodeOf(err) != nexus.Fenced {
			t.Errorf("%s: the fence is open: %v", username, err)
		}
		op := masterOp(nexus.Mark{State: nexus.TenantSuspended}, math.MaxInt64)
		if _, err := m.Run(t.Context(), op); nexus.CodeOf(err) != nexus.Unavailable {
			t.Errorf("an operation with an absurd token: %v", err)
		}
	}
}

// TestMasterBelievesNoUser: on a master site users can write the mark of their own account,
// so a mark of a later job does not prevent suspension and removal.
func TestMasterBelievesNoUser(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	run := func(gen nexus.Gen, args nexus.Args) nexus.Result {
		t.Helper()
		op := masterOp(args, gen)
		op.Submitted = gen
		result, err := m.Run(t.Context(), op)
		if err != nil {
			t.Fatalf("%s: %v", args.Op(), err)
		}
		return result
	}
	run(10, jane)
	run(10, nexus.Mark{State: nexus.TenantActive})
	run(20, nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"})
	if gen := run(20, nexus.Inspect{}).Site.StateGen; gen != 10 {
		t.Errorf("the state is as of %d", gen)
	}
	forged := marked("9f3c-job1", fmt.Sprintf("active 20 %d", time.Now().Add(time.Hour).UnixMicro()))
	f.users["jane@example.com"]["social_logins"] = forged["social_logins"]
	run(30, nexus.Mark{State: nexus.TenantSuspended})
	run(40, nexus.DropSite{})
}
