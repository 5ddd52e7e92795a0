//go:build service

package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// docker runs the docker command.
func (s *dockerStack) docker(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serving waits until the stand-in's sites answer again.
func (s *dockerStack) serving() {
	s.t.Helper()
	eventually(s.t, 60*time.Second, "the bench serves", func() bool {
		response, err := http.Get("http://" + s.sites + "/api/method/ping")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
}

// running waits until a command of Frappe's runs in the container.
func (s *dockerStack) running(command string) {
	s.t.Helper()
	eventually(s.t, 60*time.Second, command+" runs", func() bool {
		return s.box.Sh(s.t, "ps -eo args | grep '[b]ench_helper frappe' | grep -c -e '"+command+"' || true") != "0"
	})
}

// clean holds that a job ended in one of two ways: whole, or with nothing left.
func (s *dockerStack) clean(what string, a gen.Accepted) gen.Job {
	s.t.Helper()
	job := s.end(a.JobId, 4*time.Minute)
	s.t.Logf("%s: %s, site %d attempts, apps %d", what, job.State, s.record(a.JobId).step("site").Attempts, s.record(a.JobId).step("apps").Attempts)
	switch job.State {
	case gen.StateSucceeded:
		s.whole(a.JobId, nil)
	case gen.StateFailed:
		s.gone(a.Site, a.JobId)
	default:
		s.t.Errorf("%s: %s is %s: %+v", what, a.Site, job.State, job.Error)
	}
	return job
}

// TestOutageContainer kills and restarts the bench's container in the middle of a
// new site, of an app's installation and of a drop.
func TestOutageContainer(t *testing.T) {
	s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
	d := s.onStandin(t, 3*time.Second)
	s.startWorkers(1)

	killed := s.signup("killed", "jane@example.com")
	d.running("new-site killed")
	d.docker("kill", d.box.Name)
	s.until(killed.JobId, nexus.Waiting, "")
	if job, _, _, err := s.client.Job(t.Context(), killed.JobId, "", 0); err == nil && job.State == gen.StateWaiting && (job.WaitingFor == nil || *job.WaitingFor != "bench") {
		t.Errorf("it waits for %v", value(job.WaitingFor))
	}
	d.docker("start", d.box.Name)
	d.serving()
	d.clean("killed in new-site", killed)

	restarted := s.signup("restarted", "jane@example.com")
	d.running("install-app")
	d.docker("restart", "-t", "0", d.box.Name)
	d.serving()
	job := d.clean("restarted in install-app", restarted)
	if job.State != gen.StateSucceeded {
		restarted = s.signup("another", "jane@example.com")
		d.whole(restarted.JobId, nil)
	}

	// A lock of somebody else's keeps the drop in the middle.
	let := d.holdLock("LOCK TABLES " + d.db(restarted.JobId) + ".tabUser READ")
	down, err := s.client.Delete(t.Context(), restarted.Site, true)
	if err != nil {
		t.Fatal(err)
	}
	// Inside a definer procedure the list shows the definer as the user.
	dropping := "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DROP DATABASE%'"
	eventually(t, 60*time.Second, "the database is being dropped", func() bool { return d.box.SQL(t, dropping) != "0" })
	d.docker("kill", d.box.Name)
	s.until(down.Id, nexus.Waiting, "")
	let()
	d.docker("start", d.box.Name)
	d.serving()
	if job := s.end(down.Id, 2*time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("the teardown is %s: %+v", job.State, job.Error)
	}
	d.gone(restarted.Site, restarted.JobId)
	s.afterwards(0, 0)
	s.workers[0].end(os.Interrupt)
	d.idle(0)
}

// TestOutageDocker freezes the connection to the runner without an end, then a
// daemon that takes the request for a new one and never answers, then refuses all.
func TestOutageDocker(t *testing.T) {
	folder, err := os.MkdirTemp("", "nexus-docker-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	f := forward(t, "unix", filepath.Join(folder, "s"), "/var/run/docker.sock")
	s, _ := frailStack(t, "", "NEXUS_APPS=frappe", "DOCKER_HOST=unix://"+f.addr())
	d := s.onStandin(t, 4*time.Second)
	s.startWorkers(1)

	t.Run("runner frozen", func(t *testing.T) {
		a := s.signup("frozen", "jane@example.com")
		d.running("new-site frozen")
		f.freeze()
		frozen := time.Now()
		eventually(t, 40*time.Second, "the worker hears that the runner is silent", func() bool { return s.log.count("runner is silent, connection closed") > 0 })
		if took := time.Since(frozen); took < 10*time.Second || took > 25*time.Second {
			t.Errorf("given up after %s", took)
		}
		d.whole(a.JobId, map[string]int{"site": 2})
		if r := s.record(a.JobId); r.step("site").Attempts != 2 || r.step("site").Starts != 2 {
			t.Errorf("the step was started %d times and answered %d times", r.step("site").Starts, r.step("site").Attempts)
		}
		eventually(t, 40*time.Second, "the old runner leaves", func() bool {
			return d.box.Sh(t, "ps -eo args | grep -c '[r]unner.py' || true") == "1"
		})
	})
	t.Run("attach never answered", func(t *testing.T) {
		f.freezeOn("/start HTTP/1.1")
		f.cut()
		a := s.signup("attach", "jane@example.com")
		eventually(t, 30*time.Second, "the request for a runner is on its way", func() bool { return f.caught() > 0 })
		d.whole(a.JobId, nil)
	})
	t.Run("daemon away", func(t *testing.T) {
		f.refuse(true)
		a := s.signup("away", "jane@example.com")
		eventually(t, 30*time.Second, "it waits for the bench", func() bool {
			job, _, _, err := s.client.Job(t.Context(), a.JobId, "", 0)
			return err == nil && job.State == gen.StateWaiting && job.WaitingFor != nil && *job.WaitingFor == "bench"
		})
		f.refuse(false)
		d.whole(a.JobId, map[string]int{"site": 2})
		f.refuse(true)
		b := s.signup("longer", "jane@example.com")
		pass(12 * time.Second)
		f.refuse(false)
		d.clean("the daemon away for 12 s", b)
	})
	s.workers[0].end(os.Interrupt)
	d.idle(0)
}
