//go:build service

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultOutOfTime has jobs that cannot go on until their time is over: sites that do
// not answer, on a bench that is then paused, and one that never gets a slot. Each job
// ends, says why, and leaves nothing.
func TestFaultOutOfTime(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_PROVISION_TIMEOUT=1m", "NEXUS_APPS=erpnext", "NEXUS_BENCH_SLOTS=2", "NEXUS_SANDBOX_DELAY=100ms")
	began := time.Now()
	var late []gen.Accepted
	for _, name := range []string{"down-a", "down-b", "down-c"} { // each waits for its site, without a slot
		late = append(late, s.signup(name, "down-verify+"+name+"@example.com"))
	}
	for _, a := range late {
		s.until(a.JobId, nexus.Waiting, "")
	}
	if a := s.call(http.MethodPost, "/benches/sandbox/pause", "", "Authorization", "Bearer "+operator); a.status != http.StatusOK {
		t.Fatalf("pause: %d %s", a.status, a.body)
	}
	late = append(late, s.signup("late", "late@example.com"))
	for _, a := range late {
		job := s.end(a.JobId, 3*time.Minute)
		if job.State != gen.StateFailed || job.Error == nil || job.Error.Code != string(nexus.Timeout) || !strings.Contains(job.Error.Message, "in time") {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		s.freed(a.Site)
	}
	t.Logf("all were given up after %s of 1m", time.Since(began))
	if a := s.call(http.MethodPost, "/benches/sandbox/resume", "", "Authorization", "Bearer "+operator); a.status != http.StatusOK {
		t.Fatalf("resume: %d %s", a.status, a.body)
	}
	if job := s.end(s.signup("late", "late@example.com").JobId, time.Minute); job.State != gen.StateFailed {
		t.Errorf("the same request again finds its job: %s", job.State)
	}
	s.sound()
}
