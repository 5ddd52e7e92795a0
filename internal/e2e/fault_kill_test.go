//go:build service

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// heldSteps are the steps of a provision, except reserve, which burst tests. The bench's
// lock holds them; verify is held by stopping the server of the sites.
var heldSteps = []string{"activate", "verify", "api_key", "plan", "user", "apps", "site"}

// TestFaultKilledInEveryStep kills workers with SIGKILL in every step of a provision, of
// its rollback and of a teardown, and again after the effect of each step and before its
// journal entry. Each time another worker continues at that step within six seconds, and
// nothing is made twice.
func TestFaultKilledInEveryStep(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=1s", "NEXUS_CONCURRENCY=64", "NEXUS_APPS=erpnext")
	worker, tenants := s.burst(t)

	for _, wave := range []struct {
		name string
		kill func(*process, []*staged) time.Time
	}{{"middle", s.killMiddle}, {"boundary", s.killBoundary(s.effect)}} {
		made := s.provisions(wave.name, heldSteps...)
		undone := s.failing(wave.name, "fail-verify")
		down := []*staged{s.removal(tenants[0].Site, "suspend"), s.removal(tenants[1].Site, "drop")}
		tenants = tenants[2:]
		jobs := slices.Concat(made, []*staged{undone}, down)
		s.allTaken(jobs)
		successor := s.meet(jobs)
		longest := s.takenOver(jobs, wave.kill(worker, jobs), takeover)
		_ = s.server.send(syscall.SIGCONT)
		t.Logf("killed in the %s: %d jobs went on, the last after %s", wave.name, len(jobs), longest)

		s.made(made)
		if job := s.end(undone.JobId, time.Minute); job.State != gen.StateFailed || value(job.Error.Step) != "verify" {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		s.freed(undone.Site)
		for _, j := range down {
			s.onceOnly(j)
			s.freed(j.Site)
		}
		worker = successor
	}
	s.sound()
}

// burst kills the first of two workers when jobs begin, between asynq's queue, the lease
// and the first steps. All jobs begin in time and succeed. The other worker is stopped
// until then, since it may be the one that takes all jobs.
func (s *stack) burst(t *testing.T) (left *process, tenants []gen.Accepted) {
	t.Helper()
	first, left := s.worker(), s.worker()
	left.stop()
	tenants = make([]gen.Accepted, 24)
	var all sync.WaitGroup
	for i := range tenants {
		all.Go(func() { tenants[i] = s.signup(fmt.Sprintf("burst-%02d", i), fmt.Sprintf("burst%d@example.com", i)) })
	}
	eventually(t, 30*time.Second, "a third of them have begun", func() bool {
		n, _ := s.rdb.ZCard(context.WithoutCancel(t.Context()), "{nexus}:slots:sandbox").Result()
		return n >= 8
	})
	left.send(syscall.SIGCONT)
	killed := first.send(syscall.SIGKILL)
	all.Wait()
	for _, a := range tenants {
		job := s.end(a.JobId, time.Minute)
		if job.State != gen.StateSucceeded {
			t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		since := killed
		if job.CreatedAt.After(killed) {
			since = job.CreatedAt
		}
		if began := job.Steps[0].StartedAt; began.Sub(since) > takeover {
			t.Errorf("%s began only %s after the kill", job.Site, began.Sub(since))
		}
	}
	if left.log.count("lease expired, job rescued") == 0 {
		t.Error("nothing was rescued: the kill hit nothing, so this showed nothing")
	}
	t.Logf("killed at the start: %d of %d rescued", left.log.count("lease expired, job rescued"), len(tenants))
	s.keysOpenTheirOwn(tenants[:4])
	return left, tenants
}

// meet holds each job in its step. The one for verify is held before that step until the
// others are past it and the server of the sites is stopped. The successor is a worker that
// has come meanwhile.
func (s *stack) meet(jobs []*staged) (successor *process) {
	s.t.Helper()
	var rest, before []*staged
	for _, j := range jobs {
		if j.freed {
			before = append(before, &staged{Accepted: j.Accepted, step: "api_key"})
		} else {
			rest = append(rest, j)
		}
	}
	s.hold(slices.Concat(rest, before))
	successor = s.worker()
	s.server.send(syscall.SIGSTOP)
	for _, j := range before {
		j.let()
	}
	s.hold(jobs)
	return successor
}

// killMiddle kills while every operation is between its start and its effect.
func (s *stack) killMiddle(worker *process, jobs []*staged) time.Time {
	killed := worker.send(syscall.SIGKILL)
	<-worker.done
	s.letGo(jobs)
	return killed
}

// killBoundary kills when every effect is there and no journal entry is, since Redis
// accepts no writes at that moment.
func (s *stack) killBoundary(effect func(*process, *staged) bool) func(*process, []*staged) time.Time {
	return func(worker *process, jobs []*staged) time.Time {
		ctx := context.WithoutCancel(s.t.Context())
		if err := s.rdb.Do(ctx, "CLIENT", "PAUSE", "120000", "WRITE").Err(); err != nil {
			s.t.Fatal(err)
		}
		s.letGo(jobs)
		eventually(s.t, 10*time.Second, "every effect is there", func() bool {
			return !slices.ContainsFunc(jobs, func(j *staged) bool { return !j.freed && !effect(worker, j) })
		})
		killed := worker.send(syscall.SIGKILL)
		<-worker.done
		for _, j := range jobs {
			if now := s.record(j.JobId); now.Fields["steps"] != j.at.Fields["steps"] {
				s.t.Errorf("%s in %q: journalled before the kill", j.Site, j.step)
			}
		}
		if err := s.rdb.Do(ctx, "CLIENT", "UNPAUSE").Err(); err != nil {
			s.t.Fatal(err)
		}
		return killed
	}
}

// effect reports whether the effect of a step is there on the sandbox.
func (s *stack) effect(_ *process, j *staged) bool {
	var site struct {
		Made  bool
		State string
		Apps  []string
		User  *struct{ Key string }
		Plan  struct{ Plan string }
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "sites", j.Site))
	if err != nil || json.Unmarshal(text, &site) != nil {
		return os.IsNotExist(err) && (j.step == "" || j.step == "drop")
	}
	return map[string]bool{"site": site.Made, "apps": len(site.Apps) > 1, "user": site.User != nil, "plan": site.Plan.Plan != "",
		"api_key": site.User != nil && site.User.Key != "", "activate": site.State == "active", "suspend": site.State == "deleting"}[j.step]
}

// made checks that provisions succeeded, each with one site, user and key.
func (s *stack) made(jobs []*staged) {
	s.t.Helper()
	var accepted []gen.Accepted
	for _, j := range jobs {
		s.onceOnly(j)
		accepted = append(accepted, j.Accepted)
	}
	s.keysOpenTheirOwn(accepted)
	for _, j := range jobs {
		if text, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "sites", j.Site)); err != nil || !strings.Contains(string(text), j.JobId) {
			s.t.Errorf("%s: its site is not its own: %v", j.Site, err)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "sandbox", "intent", j.Site)); err == nil {
			s.t.Errorf("%s: an intent is left", j.Site)
		}
	}
}

// TestFaultPoison has a step, and an undo, that kill every worker. After five rescues
// the job is rolled back, or parked, and no sixth worker dies.
func TestFaultPoison(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=1s", "NEXUS_APPS=erpnext")
	deadly := s.provisions("poison", "user")[0]
	undo := s.failing("poison", "fail-plan")
	jobs := []*staged{deadly, undo}
	worker := s.worker()
	s.allTaken(jobs)
	s.hold(jobs)
	next := s.worker()
	for death := 1; death <= 6; death++ {
		for _, j := range jobs {
			j.at = s.record(j.JobId)
		}
		killed := worker.send(syscall.SIGKILL)
		longest := s.takenOver(jobs, killed, takeover)
		t.Logf("death %d: gone on after %s", death, longest)
		if death == 6 {
			break
		}
		worker, next = next, s.worker()
		eventually(t, 10*time.Second, "the step is started again", func() bool {
			return s.record(deadly.JobId).step("user").Starts == death+1
		})
	}
	s.letGo(jobs)
	job := s.end(deadly.JobId, time.Minute)
	if job.State != gen.StateFailed || value(job.Error.Step) != "user" || job.Error.Code != string(nexus.Internal) {
		t.Errorf("the poison: %s, %+v", job.State, job.Error)
	}
	if starts := s.record(deadly.JobId).step("user").Starts; starts != 6 {
		t.Errorf("the deadly step was started %d times", starts)
	}
	s.freed(deadly.Site)
	if job := s.end(undo.JobId, time.Minute); job.State != gen.StateRollbackFailed {
		t.Fatalf("the undo: %s, %+v", job.State, job.Error)
	}
	s.parked(undo.Accepted)
	if _, err := s.client.Resume(t.Context(), undo.JobId); err != nil {
		t.Fatal(err)
	}
	s.resumed(undo.Accepted, gen.StateFailed, nexus.Invalid)
	s.freed(undo.Site)
	s.sound()
}

// parked checks that a parked job keeps its name.
func (s *stack) parked(a gen.Accepted) {
	s.t.Helper()
	name, _, _ := strings.Cut(a.Site, ".")
	_, err := s.client.Signup(s.t.Context(), gen.SignupRequest{Email: "other@example.com", Password: "Passw0rdXyz",
		FullName: "Joe", OrganizationName: "Other", Subdomain: &name}, "other-"+name)
	if nexus.CodeOf(err) != nexus.Conflict {
		s.t.Errorf("%s was given away while its job is parked: %v", a.Site, err)
	}
	if _, err := s.client.Cancel(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); nexus.CodeOf(err) != nexus.Conflict {
		s.t.Errorf("%s: a parked job was canceled: %v", a.Site, err)
	}
	logged := func() int { return s.log.count(`"level":"ERROR"`, `"job ended"`, a.JobId, "rollback_failed") }
	eventually(s.t, 10*time.Second, a.Site+" is logged as an error", func() bool { return logged() > 0 })
	if n := logged(); n != 1 {
		s.t.Errorf("%s: logged %d times as an error", a.Site, n)
	}
}

// resumed checks that a parked job finishes its rollback after it is resumed, with the
// reason of the rollback.
func (s *stack) resumed(a gen.Accepted, want gen.State, code nexus.Code) {
	s.t.Helper()
	var job gen.Job
	eventually(s.t, 60*time.Second, "the resumed job ends", func() (over bool) {
		job, _, _, _ = s.client.Job(s.t.Context(), a.JobId, "", 0)
		return job.State == want
	})
	if job.Error == nil || job.Error.Code != string(code) || !strings.HasPrefix(value(job.Error.Action), "Nothing was left behind.") {
		s.t.Errorf("%s, resumed, ends for the reason %+v", a.Site, job.Error)
	}
	if _, err := s.client.Tenant(s.t.Context(), a.Site); nexus.CodeOf(err) != nexus.NotFound {
		s.t.Errorf("%s: the tenant's row is left: %v", a.Site, err)
	}
}
