//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// skewedWorkers builds the worker twice, with a clock an hour ahead and an hour behind.
// The wall clock of a single process cannot be set, so the compiler gets another
// time.Now: that of this toolchain, with an hour added. The monotonic clock, which
// timers use, stays right, as on a real machine.
func skewedWorkers(t *testing.T) (ahead, behind string) {
	t.Helper()
	const as = `
func Now() Time {
	sec, nsec, mono := runtimeNow()
`
	const skewed = `
var skewOfTests string // set by the linker
` + as + `	switch skewOfTests {
	case "ahead":
		sec += 3600
	case "behind":
		sec -= 3600
	}
`
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), as); n != 1 {
		t.Fatalf("%s has %d times the beginning of Now that this test knows; look how Now begins today:\n%s", file, n, as)
	}
	other, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{file: other}})
	if err == nil {
		err = os.WriteFile(other, []byte(strings.Replace(string(text), as, skewed, 1)), 0o600)
	}
	if err == nil {
		err = os.WriteFile(overlay, list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, off := range []string{"ahead", "behind"} {
		build := exec.Command("go", "build", "-overlay", overlay, "-ldflags", "-X time.skewOfTests="+off, "-o", filepath.Join(dir, off), "../../cmd/worker")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%v", out, err)
		}
	}
	t.Logf("workers of another clock were built in %s", time.Since(began))
	return filepath.Join(dir, "ahead"), filepath.Join(dir, "behind")
}

// TestFaultClock runs workers whose clocks are an hour ahead and an hour behind. Alone
// they take no job, and /readyz says so. Beside workers with a right clock they delay
// nothing: jobs that wait for a retry or a slot go on in their order, and the jobs of a
// killed worker are taken over in time. The jobs may take half an hour here, so a worker
// that used a wrong clock would decide wrongly.
func TestFaultClock(t *testing.T) {
	t.Parallel()
	ahead, behind := skewedWorkers(t)
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=100ms", "NEXUS_APPS=erpnext", "NEXUS_BENCH_SLOTS=1", "NEXUS_PROVISION_TIMEOUT=30m")
	wrong := []*process{s.workerOf(ahead), s.workerOf(behind)}

	jobs := s.onlyWrongClocks(wrong)
	right := s.worker()
	came := time.Now()
	for _, a := range jobs {
		if job := s.end(a.JobId, 3*time.Minute); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	if first := s.record(jobs[0].JobId).step("reserve").StartedAt; first.Sub(came) > 4*time.Second {
		t.Errorf("the first job began only %s after a worker of a right clock came", first.Sub(came))
	}
	if tries := s.record(jobs[0].JobId).step("site").Attempts; tries != 3 {
		t.Errorf("%s waited for another try, and had %d", jobs[0].Site, tries)
	}

	held := []*staged{{Accepted: s.signup("held-site", "slow-site@example.com"), step: "site"}}
	s.hold(held)
	var line []*staged // jobs that wait for the only slot
	for i := range 4 {
		name := fmt.Sprintf("line-%d", i)
		line = append(line, &staged{Accepted: s.signup(name, name+"@example.com"), step: "reserve"})
		eventually(t, 10*time.Second, "one more stands in line", func() bool {
			return s.rdb.ZCard(t.Context(), "{nexus}:waiters:sandbox").Val() == int64(len(line))
		})
	}
	s.worker()
	killed := right.send(syscall.SIGKILL)
	<-right.done
	s.letGo(held)
	t.Logf("killed beside two wrong clocks: gone on after %s", s.takenOver(held, killed, takeover))
	s.made(append(held, line...))
	s.inTurn(line)
	if n := s.log.count("lease expired, job rescued"); n != 1 {
		t.Errorf("%d jobs were rescued, and one had lost its worker", n)
	}
	s.clocksAreNamed(wrong)
	for _, j := range append(held, line...) {
		jobs = append(jobs, j.Accepted)
	}
	for _, w := range wrong {
		for _, a := range jobs {
			if n := w.log.count(a.JobId) - w.log.count(a.JobId, "lease expired, job rescued"); n > 0 {
				t.Errorf("a worker of a wrong clock had %s in hand", a.Site)
			}
		}
	}
	s.sound()
}

// onlyWrongClocks records jobs, of which the first one needs three attempts, while only
// workers with wrong clocks run: no job is taken, not even from the queue.
func (s *stack) onlyWrongClocks(wrong []*process) (jobs []gen.Accepted) {
	s.t.Helper()
	for i, email := range []string{"flaky-site@example.com", "b@example.com", "c@example.com", "d@example.com"} {
		jobs = append(jobs, s.signup(fmt.Sprintf("early-%d", i), email))
	}
	eventually(s.t, 30*time.Second, "every job was looked at twice, or touched", func() bool {
		return !slices.ContainsFunc(jobs, func(a gen.Accepted) bool {
			r := s.record(a.JobId)
			return r.State == nexus.Queued && r.Fields["dispatch"] == "1" && r.Fields["looks"] < "2"
		})
	})
	for _, a := range jobs {
		if r := s.record(a.JobId); r.State != nexus.Queued || r.Fields["taken"] != "0" || r.Fields["dispatch"] != "1" {
			s.t.Errorf("%s was not left in the queue: %v", a.Site, r.Fields)
		}
	}
	if live, kept := s.tasks(); live != len(jobs) || kept != 0 {
		s.t.Errorf("%d jobs have %d tasks, and %d are kept", len(jobs), live, kept)
	}
	s.clocksAreNamed(wrong, "No worker takes jobs")
	return jobs
}

// clocksAreNamed checks that /readyz fails and names the workers with wrong clocks, the
// first ahead and the second behind, and that each of them logs it once.
func (s *stack) clocksAreNamed(wrong []*process, more ...string) {
	s.t.Helper()
	said := s.call(http.MethodGet, "/readyz", "")
	for i, off := range []string{"1h0m0s", "-1h0m0s"} {
		more = append(more, fmt.Sprintf("-%d is off by %s; set it", wrong[i].cmd.Process.Pid, off))
		if n := wrong[i].log.count(`"level":"ERROR"`, "clock compared with the registry's", `"off":true`); n != 1 {
			s.t.Errorf("the worker off by %s says so %d times", off, n)
		}
	}
	for _, text := range more {
		if said.status != http.StatusServiceUnavailable || !strings.Contains(string(said.body), text) {
			s.t.Errorf("/readyz does not say %q: %d\n%s", text, said.status, said.body)
		}
	}
	if n := strings.Count(string(said.body), "The clock of worker/"); n != len(wrong) {
		s.t.Errorf("/readyz names %d clocks, and %d are wrong: %s", n, len(wrong), said.body)
	}
}

// inTurn checks that jobs that waited for a slot got it in their order.
func (s *stack) inTurn(line []*staged) {
	s.t.Helper()
	for i := 1; i < len(line); i++ {
		before, after := s.record(line[i-1].JobId).step("site").StartedAt, s.record(line[i].JobId).step("site").StartedAt
		if !after.After(*before) {
			s.t.Errorf("%s went before %s", line[i].Site, line[i-1].Site)
		}
	}
}
