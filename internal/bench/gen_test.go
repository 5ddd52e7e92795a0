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

// TestSandboxForgetsAbsurdTokens: what stands in a fence and was minted by nobody keeps
// nobody out.
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

// TestMasterForgetsAbsurdTokens: a user can write whatever he likes into his own Social
// Logins; a token there that nobody minted shuts no job out.
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

// TestMasterOutdated has a job run that was submitted before the job that last changed
// the user's state: it changes nothing, though its token is the newest.
func TestMasterOutdated(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	run := func(submitted, gen nexus.Gen, args nexus.Args) error {
		op := masterOp(args, gen)
		op.Submitted = submitted
		_, err := m.Run(t.Context(), op)
		return err
	}
	key := nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"}
	for _, step := range []struct {
		submitted, gen nexus.Gen
		args           nexus.Args
	}{{10, 11, jane}, {10, 11, nexus.Mark{State: nexus.TenantActive}}, {20, 21, nexus.Mark{State: nexus.TenantSuspended}},
		{30, 31, nexus.Mark{State: nexus.TenantActive}}, {40, 41, key}} {
		if err := run(step.submitted, step.gen, step.args); err != nil {
			t.Fatalf("%s: %v", step.args.Op(), err)
		}
	}
	before := fmt.Sprint(f.users)
	for _, args := range []nexus.Args{jane, key, nexus.Mark{State: nexus.TenantSuspended}, nexus.DropSite{}} {
		if err := run(20, 50, args); !nexus.IsOutdated(err) || nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	if after := fmt.Sprint(f.users); after != before {
		t.Errorf("touched: %s\n%s", before, after)
	}
	look, err := m.Run(t.Context(), masterOp(nexus.Inspect{}, 50))
	if err != nil || look.Site.StateGen != 30 {
		t.Errorf("%+v, %v", look.Site, err)
	}
}
