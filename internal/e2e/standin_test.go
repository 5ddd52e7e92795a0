//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// dockerStack is two APIs and workers with real Redis, Docker and the stand-in bench on
// a real MariaDB, prepared by nexus bench init.
type dockerStack struct {
	*stack
	box *standin.Box
}

func newDockerStack(t *testing.T, workers int, pace time.Duration, env ...string) *dockerStack {
	t.Helper()
	b := standin.Start(t, pace)
	s := &dockerStack{box: standin.NewBox(t, b.Name, b.RootPassword), stack: bareStack(t, append([]string{"NEXUS_BENCH=docker", "NEXUS_POOL=0",
		"DOCKER_SERVICE=" + b.Name, "NEXUS_VERIFY_ADDR=" + b.Addr, "NEXUS_DB_ACCOUNT=nexus_e2e", "NEXUS_DB_PASSWORD=WorkerPassw0rdOfE2E",
		"NEXUS_SITE_URL=http://{site}:" + b.Addr[strings.LastIndex(b.Addr, ":")+1:]}, env...)...)}
	s.sites = b.Addr
	if out, errs, code := s.nexus("", "bench", "check"); code != 1 || !strings.Contains(out, "nexus bench init") {
		t.Fatalf("a bench that is not set up: exit %d\n%s%s", code, out, errs)
	}
	for range 2 {
		if out, errs, code := s.nexus(b.RootPassword+"\n", "bench", "init"); code != 0 {
			t.Fatalf("bench init: exit %d\n%s%s", code, out, errs)
		}
	}
	if out, errs, code := s.nexus("", "bench", "check"); code != 0 || !strings.Contains(out, "Nothing is missing") {
		t.Fatalf("bench check: exit %d\n%s%s", code, out, errs)
	}
	s.startAPI()
	s.startAPI()
	s.startWorkers(workers)
	return s
}

// db is the name of a job's database.
func (s *dockerStack) db(id string) string {
	s.t.Helper()
	install, err := s.rdb.Get(s.t.Context(), "{nexus}:install").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return nexus.JobID(id).Database(nexus.InstallID(install))
}

// gone checks that nothing of a job is left: on the bench, in the database, in Redis
// except for its record, or as a row.
func (s *dockerStack) gone(site, job string) {
	s.t.Helper()
	if left := s.box.Left(s.t, nexus.SiteName(site), s.db(job)); len(left) > 0 {
		s.t.Errorf("%s: left behind: %v", site, left)
	}
	if _, err := s.client.Tenant(s.t.Context(), site); nexus.CodeOf(err) != nexus.NotFound {
		s.t.Errorf("%s: the tenant's row is left: %v", site, err)
	}
	for _, secret := range []string{"input:", "credentials:"} {
		if n, err := s.rdb.Exists(s.t.Context(), "{nexus}:"+secret+job).Result(); err != nil || n > 0 {
			s.t.Errorf("%s: its sealed %s are left (%v)", site, secret, err)
		}
	}
}

// TestTwentyAtOnce signs twenty companies up at once, then removes all, and nothing is
// left.
func TestTwentyAtOnce(t *testing.T) {
	s := newDockerStack(t, 3, 300*time.Millisecond)
	look := s.box.Plant(t, "theirs.localhost")
	before := look()
	accepted := s.signupAll(20, "acme")
	for _, a := range accepted {
		if job := s.end(a.JobId, 4*time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	s.keysOpenTheirOwn(accepted)
	var downs []gen.Job
	for _, a := range accepted {
		down, err := s.client.Delete(t.Context(), a.Site, true)
		if err != nil {
			t.Fatal(err)
		}
		downs = append(downs, down)
	}
	for i, down := range downs {
		if job := s.end(down.Id, 2*time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("the teardown of %s is %s: %+v", job.Site, job.State, job.Error)
		}
		s.gone(accepted[i].Site, accepted[i].JobId)
	}
	if after := look(); after != before {
		t.Errorf("a site that was there before us was touched:\n%s\n%s", before, after)
	}
	for _, w := range s.workers {
		w.end(syscall.SIGTERM)
	}
	eventually(t, 10*time.Second, "no runner is left in the container", func() bool {
		out, err := exec.Command("docker", "exec", s.box.Name, "sh", "-c", "ps -eo args | grep -c '[r]unner.py' || true").Output()
		return err == nil && strings.TrimSpace(string(out)) == "0"
	})
}

// TestFailsForGood signs up for an app that the bench lacks, and for the name of a site
// that belongs to somebody else: the job fails with a sentence, and everything is
// undone.
func TestFailsForGood(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond, "NEXUS_APPS=erpnext,no_such_app")
	look := s.box.Plant(t, "theirs.localhost")
	before := look()
	for name, step := range map[string]string{"lacks": "apps", "theirs": "site"} {
		accepted := s.signup(name, "jane@example.com")
		job := s.end(accepted.JobId, time.Minute)
		if job.State != gen.StateFailed || job.Error == nil || value(job.Error.Step) != step || job.Error.Message == "" || value(job.Error.Action) == "" {
			t.Errorf("%s: %s, %+v", name, job.State, job.Error)
		}
		if name == "theirs" {
			if _, err := s.client.Tenant(t.Context(), accepted.Site); nexus.CodeOf(err) != nexus.NotFound {
				t.Errorf("the row of a refused name is left: %v", err)
			}
			continue
		}
		s.gone(accepted.Site, accepted.JobId)
	}
	if after := look(); after != before {
		t.Errorf("a site that was there before us was touched:\n%s\n%s", before, after)
	}
}

// TestCancel cancels a job in each state.
func TestCancel(t *testing.T) {
	s := newDockerStack(t, 0, 20*time.Second, "NEXUS_BENCH_SLOTS=1")
	cancel := func(a gen.Accepted) (nexus.Code, gen.Job) {
		job, err := s.client.Cancel(t.Context(), a.JobId, nexus.Secret(a.ClaimToken))
		return nexus.CodeOf(err), job
	}
	canceled := func(what string, a gen.Accepted) {
		t.Helper()
		if code, _ := cancel(a); code != "" {
			t.Errorf("cancel while %s: %s", what, code)
		}
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateCanceled {
			t.Errorf("canceled while %s: %s, %+v", what, job.State, job.Error)
		}
		s.gone(a.Site, a.JobId)
		if code, job := cancel(a); code != "" || job.State != gen.StateCanceled {
			t.Errorf("canceled again after the end: %q, %s", code, job.State)
		}
	}
	state := func(a gen.Accepted, want gen.State, step string) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("%s is %s", a.Site, want), func() bool {
			job, _, _, err := s.client.Job(t.Context(), a.JobId, "", 0)
			return err == nil && job.State == want && (step == "" || started(job, step))
		})
	}
	canceled("queued", s.signup("queued", "jane@example.com"))

	s.startWorkers(2)
	running := s.signup("running", "jane@example.com")
	state(running, gen.StateRunning, "site")
	waits := s.signup("waits", "jane@example.com")
	state(waits, gen.StateWaiting, "")
	canceled("waiting for room", waits)
	s.percent(&staged{Accepted: running, step: "site"}, 10)
	let := s.busy(running.JobId) // its drop waits
	if code, _ := cancel(running); code != "" {
		t.Errorf("cancel while running: %s", code)
	}
	state(running, gen.StateRollingBack, "")
	if code, _ := cancel(running); code != "" {
		t.Errorf("cancel while rolling back: %s", code)
	}
	let()
	canceled("rolling back", running)
	s.setPace("0.3")

	done := s.signup("done", "jane@example.com")
	if job := s.end(done.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s, %+v", job.State, job.Error)
	}
	if code, _ := cancel(done); code != nexus.Conflict {
		t.Errorf("cancel after the commit point: %q", code)
	}
	if status := s.ping(done.Site); status != http.StatusOK {
		t.Errorf("the site after a refused cancel: %d", status)
	}
}

// TestProvisionCommand makes a tenant with nexus provision: standard output is one JSON
// object and nothing else.
func TestProvisionCommand(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond)
	out, errs, code := s.nexus("Passw0rdXyz\n", "provision", "--email", "jane@example.com", "--name", "Jane Doe", "--organization", "By Hand")
	var pair gen.Credentials
	if err := json.Unmarshal([]byte(out), &pair); code != 0 || err != nil || pair.Site != "by-hand.localhost" {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if got := logged(t, "http://"+s.sites, pair.Site, pair); got != http.StatusOK {
		t.Errorf("the key answers with %d", got)
	}
	for _, secret := range []string{"Passw0rdXyz", pair.ApiKey, pair.ApiSecret} {
		if strings.Contains(errs, secret) {
			t.Error("a secret was printed beside the answer")
		}
	}
}

func started(job gen.Job, step string) bool {
	for _, s := range job.Steps {
		if s.Name == step {
			return s.State == gen.StepStateStarted
		}
	}
	return false
}

func (s *stack) ping(site string) (status int) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.sites+"/api/method/ping", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Host = site
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
