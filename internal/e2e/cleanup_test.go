//go:build service

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestCleanup removes by pattern on a bench where many sites with such names belong to
// others, or are not in the registry.
func TestCleanup(t *testing.T) {
	s := newDockerStack(t, 2, 300*time.Millisecond)
	same := s.strangers("test-")
	accepted := s.tenants("keep-1", "test-1", "test-2", "test-lost")
	s.rdb.Del(t.Context(), "{nexus}:tenant:test-lost.localhost")
	s.rdb.ZRem(t.Context(), "{nexus}:tenants", "test-lost.localhost")
	dead, half, noted, userOnly := s.failed("test-theirs", 1), nexus.NewJobID(), nexus.NewJobID(), s.failed("test-theirs", 2)
	s.config("sites/test-dead.localhost", "test-dead.localhost", s.install(), s.database(dead, false), "making", dead)
	s.config("sites/test-half.localhost", "test-half.localhost", s.install(), s.database(half, false), "making", half)
	s.note("test-noted.localhost", noted)
	s.database(userOnly, true)
	gone := map[string]nexus.JobID{"test-1.localhost": nexus.JobID(accepted["test-1"].JobId), "test-2.localhost": nexus.JobID(accepted["test-2"].JobId),
		"test-dead.localhost": dead, "test-half.localhost": half, "test-noted.localhost": noted}
	clean := func(want int, args ...string) (said string) {
		t.Helper()
		out, errs, code := s.nexus("", append([]string{"cleanup"}, args...)...)
		if code != want {
			t.Fatalf("cleanup %v: exit %d\n%s%s", args, code, out, errs)
		}
		return out + errs
	}

	if said := clean(1, "test-*", "--yes"); !strings.Contains(said, "--max 6") {
		t.Errorf("most of all tenants: %s", said)
	}
	clean(1, "*", "--yes")
	said := clean(0, "test-*", "--max", "6", "--dry-run")
	for _, name := range []string{"remove   test-1.localhost", "remove   test-noted.localhost", "keep     test-theirs.localhost", "keep     test-elsewhere.localhost",
		"keep     test-lost.localhost"} {
		if !strings.Contains(said, name) {
			t.Errorf("not said: %s\n%s", name, said)
		}
	}
	for _, name := range []string{"test-1.localhost", "test-lost.localhost"} {
		if status := s.ping(name); status != http.StatusOK {
			t.Errorf("%s after all that was only asked: %d", name, status)
		}
	}

	if said := clean(0, "test-*", "--max", "6", "--yes"); !strings.Contains(said, "6 removed, 0 failed") {
		t.Error(said)
	}
	for site, job := range gone {
		s.gone(site, string(job))
	}
	if left := s.box.Left(t, "no-such-site", s.db(string(userOnly))); len(left) > 0 {
		t.Errorf("a database user is left: %v", left)
	}
	for _, name := range []string{"keep-1.localhost", "test-lost.localhost"} {
		if status := s.ping(name); status != http.StatusOK {
			t.Errorf("%s: %d", name, status)
		}
	}
	s.finds([]string{"unrecorded_site test-lost.localhost"})
	s.finds(nil, "--rebuild")

	// Without an API the command uses the registry.
	clean(0, "test-lost", "--yes", "--server", "http://127.0.0.1:1")
	s.gone("test-lost.localhost", accepted["test-lost"].JobId)
	s.finds(nil)
	same()
}
