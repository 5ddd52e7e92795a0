//go:build service

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// fencedLine is the log line of a run that was fenced by a newer owner.
const fencedLine = `"fenced by a newer run"`

// TestFaultStopped stops workers with SIGSTOP in the middle of steps, and resumes them
// after others have taken over: one while its successor works, and one half a minute
// later, when the jobs are over. The resumed worker is fenced in Redis and on the bench,
// and changes nothing.
func TestFaultStopped(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=1s", "NEXUS_CONCURRENCY=64", "NEXUS_APPS=erpnext")
	addr := freeAddr(t)
	sleeper := s.worker("NEXUS_METRICS_ADDR=" + addr)
	old := []gen.Accepted{s.signup("old-1", "old1@example.com"), s.signup("old-2", "old2@example.com")}
	for _, a := range old {
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	made := s.provisions("long", "activate", "api_key", "plan", "user", "apps", "site")
	undone := s.failing("long", "fail-verify")
	down := []*staged{s.removal(old[0].Site, "suspend"), s.removal(old[1].Site, "drop")}
	jobs := slices.Concat(made, []*staged{undone}, down)
	s.allTaken(jobs)
	s.hold(jobs)
	napper := s.worker()
	stopped := sleeper.stop()
	s.letGo(jobs)
	t.Logf("stopped: %d jobs went on, the last after %s", len(jobs), s.takenOver(jobs, stopped, takeover))
	s.made(made)
	s.freed(undone.Site)
	for _, j := range down {
		s.onceOnly(j)
		s.freed(j.Site)
	}

	s.nap(t, napper)

	after := time.NewTimer(time.Until(stopped.Add(30 * time.Second)))
	<-after.C
	before := s.world(jobs)
	sleeper.send(syscall.SIGCONT)
	eventually(t, 20*time.Second, "all runs of the one that slept are fenced", func() bool {
		return sleeper.log.count(fencedLine) == len(jobs)
	})
	if n := s.metric(addr, "nexus_runs_fenced_total"); n != float64(len(jobs)) {
		t.Errorf("%v runs were counted as fenced, want %d", n, len(jobs))
	}
	if changed := differences(before, s.world(jobs)); len(changed) > 0 {
		t.Errorf("the one that slept changed: %s", strings.Join(changed, "\n"))
	}
	late := s.signup("late", "late@example.com") // the resumed worker takes jobs again
	if job := s.end(late.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	s.keysOpenTheirOwn([]gen.Accepted{made[0].Accepted, late})
	s.sound()
}

// nap stops a worker just long enough to lose its leases, and resumes it while its
// successor is in the same steps.
func (s *stack) nap(t *testing.T, napper *process) {
	t.Helper()
	jobs := s.provisions("short", "activate", "user", "apps", "site")
	s.allTaken(jobs)
	s.hold(jobs)
	successor := s.worker("NEXUS_SANDBOX_DELAY=7s")
	stopped := napper.stop()
	s.letGo(jobs)
	s.takenOver(jobs, stopped, takeover)
	eventually(t, 10*time.Second, "the bench has seen the successor", func() bool {
		return !slices.ContainsFunc(jobs, func(j *staged) bool {
			r := s.record(j.JobId)
			seen, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "fence", r.Fields["db"]))
			return err != nil || string(seen) != r.Gen
		})
	})
	gens := map[string]string{}
	for _, j := range jobs {
		gens[j.JobId] = s.record(j.JobId).Gen
	}
	before := s.files()
	napper.send(syscall.SIGCONT)
	eventually(t, 3*time.Second, "all runs of the one that napped are fenced", func() bool {
		return napper.log.count(fencedLine) == len(jobs)
	})
	for _, j := range jobs {
		if now := s.record(j.JobId); now.Gen != gens[j.JobId] || now.step(j.step).State != nexus.StepStarted {
			t.Errorf("%s in %s: gen %s, then %s; the step is %s", j.Site, j.step, gens[j.JobId], now.Gen, now.step(j.step).State)
		}
	}
	if changed := differences(before, s.files()); len(changed) > 0 {
		t.Errorf("the one that napped changed: %s", strings.Join(changed, "\n"))
	}
	successor.send(syscall.SIGTERM) // the one that napped goes on, and is faster
	s.made(jobs)
}

// TestFaultDrainBoundary sends a worker SIGTERM in the middle of every step: it finishes
// and journals each, and the next worker begins with the following step.
func TestFaultDrainBoundary(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=1s", "NEXUS_CONCURRENCY=64", "NEXUS_APPS=erpnext")
	leaving := s.worker()
	old := []gen.Accepted{s.signup("old-1", "old1@example.com"), s.signup("old-2", "old2@example.com")}
	for _, a := range old {
		s.end(a.JobId, time.Minute)
	}
	made := s.provisions("drain", "activate", "api_key", "plan", "user", "apps", "site")
	undone := s.failing("drain", "fail-verify")
	down := []*staged{s.removal(old[0].Site, "suspend"), s.removal(old[1].Site, "drop")}
	jobs := slices.Concat(made, []*staged{undone}, down)
	s.allTaken(jobs)
	s.hold(jobs)
	s.worker()
	leaving.send(syscall.SIGTERM)
	eventually(t, 10*time.Second, "the worker drains", func() bool { return leaving.log.count(`"draining"`) == 1 })
	s.letGo(jobs)
	t.Logf("%d jobs went on, the last after %s", len(jobs), s.takenOver(jobs, time.Now(), takeover))
	<-leaving.done
	if code := leaving.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the worker left with %d", code)
	}
	for _, j := range slices.Concat(made, down) {
		j.step = "nothing at all"
	}
	s.made(made)
	for _, j := range down {
		s.onceOnly(j)
	}
	if job := s.end(undone.JobId, time.Minute); job.State != gen.StateFailed {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	for _, j := range []*staged{undone, down[0], down[1]} {
		s.freed(j.Site)
	}
	if n := s.log.count("lease expired"); n > 0 {
		t.Errorf("%d jobs were taken for crashed", n)
	}
	s.sound()
}

// TestFaultDrainLimit sends workers SIGTERM while every operation takes longer than the
// limit of a drain. At the limit the jobs are left to the next worker: none is rolled
// back, none counts as a crash, and no attempt is charged.
func TestFaultDrainLimit(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=100ms", "NEXUS_CONCURRENCY=64", "NEXUS_APPS=erpnext")
	quick := s.worker()
	old := s.signup("old", "old@example.com")
	if job := s.end(old.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	quick.end(syscall.SIGTERM)

	slow := s.worker("NEXUS_SANDBOX_DELAY=5m")
	jobs := []*staged{s.failing("slow", "fail-site"), s.removal(old.Site, "suspend")}
	for i := range 10 {
		name := fmt.Sprintf("slow-%d", i)
		jobs = append(jobs, &staged{Accepted: s.signup(name, name+"@example.com"), step: "site"})
	}
	s.hold(jobs)
	s.letGo(jobs)
	s.worker()
	told := slow.send(syscall.SIGTERM)
	longest := s.takenOver(jobs, told, 25*time.Second+takeover)
	<-slow.done
	left := time.Since(told)
	if code := slow.cmd.ProcessState.ExitCode(); code != 0 || left > 35*time.Second {
		t.Errorf("the worker left with %d after %s", code, left)
	}
	t.Logf("%d jobs were taken over within %s, and the worker was gone after %s", len(jobs), longest, left)
	s.made(jobs[2:])
	s.onceOnly(jobs[1])
	if job := s.end(jobs[0].JobId, time.Minute); job.State != gen.StateFailed || value(job.Error.Step) != "site" {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	for _, j := range jobs[:2] {
		s.freed(j.Site)
	}
	if n := s.log.count("lease expired"); n > 0 {
		t.Errorf("%d jobs were taken for crashed", n)
	}
	s.sound()
}
