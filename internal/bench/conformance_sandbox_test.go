package bench_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConformanceSandbox runs the conformance table on the sandbox.
func TestConformanceSandbox(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := &http.Server{ReadHeaderTimeout: time.Minute}
	addr := serve(t, server)
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d", VerifyAddr: addr, Delay: 8 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sandbox.Close() })
	handler.Store(server, sandbox.Handler())
	conformance(t, &target{bench: sandbox, install: "5a4d", addr: addr, app: "erpnext",
		plant: func(t *testing.T, site nexus.SiteName) func() string {
			path := filepath.Join(dir, "sites", string(site))
			if err := os.WriteFile(path, []byte(`{"Site":"`+string(site)+`","DB":"_old","Job":"","Made":true}`), 0o600); err != nil {
				t.Fatal(err)
			}
			return func() string {
				text, _ := os.ReadFile(path)
				return string(text)
			}
		},
		complete: func(t *testing.T, site nexus.SiteName) (string, func() string) { return complete(t, dir, site) },
		admin: func(t *testing.T, n *tenant, key nexus.IssueKey) {
			if err := sandbox.SetAdmin(n.site, n.email, key); err != nil {
				t.Fatal(err)
			}
		},
		left: func(_ *testing.T, site nexus.SiteName, _ string) (left []string) {
			for _, room := range []string{"sites", "intent", "templates/sites", "templates/intent", "standby/sites", "standby/intent"} {
				if _, err := os.Stat(filepath.Join(dir, room, string(site))); err == nil {
					left = append(left, room)
				}
			}
			return left
		},
	})
}

// complete puts a site without an owner into the folder: one that the sandbox made, with
// owner and marker removed.
func complete(t *testing.T, dir string, site nexus.SiteName) (db string, look func() string) {
	t.Helper()
	scratch := t.TempDir()
	maker, err := bench.NewSandbox(bench.SandboxOptions{Dir: scratch, Install: "0000"})
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Close() //nolint:errcheck // it holds nothing
	owner := nexus.NewJobID()
	if _, err := maker.Run(t.Context(), nexus.Op{Site: site, DB: "_1bd3e0294da19198", Owner: owner, Gen: 1, Args: nexus.NewSite{}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(scratch, "sites", string(site)))
	if err != nil {
		t.Fatal(err)
	}
	state := strings.NewReplacer(string(owner), "", `"0000"`, `""`, `"making"`, `""`).Replace(string(text))
	path := filepath.Join(dir, "sites", string(site))
	if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	return "_1bd3e0294da19198", func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
}
