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

// TestOutageContainer breaks the connection to the bench in the middle of a new site, of
// an app's installation and of a drop: the container is killed or restarted, the
// connection to its runner freezes, the daemon hangs or is away.
func TestOutageContainer(t *testing.T) {
	besideOneAnother(t, slowSteps, func(step string) func(*testing.T) {
		d, f := behindSocket(t)
		return func(t *testing.T) {
			d.t = t
			d.inTurn(t, step, []outage{
				{name: "killed", hurt: d.killed},
				{name: "restarted", hurt: d.restarted},
				{name: "frozen", hurt: func(j *staged) { d.frozen(f, j) }, slow: true},
				{name: "never attached", hurt: func(j *staged) { d.neverAttached(f, j) }},
				{name: "daemon away", hurt: func(j *staged) { d.daemonAway(f, j) }},
			})
			d.afterwards(0, 2) // three benches share this disk, so a lease may expire while Redis waits for the disk
			d.atRest()
		}
	})
}

// behindSocket is a stack on the stand-in whose worker reaches Docker through a
// forwarder.
func behindSocket(t *testing.T) (*dockerStack, *forwarder) {
	t.Helper()
	folder, err := os.MkdirTemp("", "nexus-docker-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	f := forward(t, "unix", filepath.Join(folder, "s"), "/var/run/docker.sock")
	s, _ := frailStack(t, "", "NEXUS_APPS=erpnext", "DOCKER_HOST=unix://"+f.addr())
	d := s.onStandin(t, usualPace, "NEXUS_DB_ACCOUNT="+newAccount())
	t.Cleanup(d.dropAccount)
	s.startWorkers(1)
	return d, f
}

// killed stops the container for a while.
func (s *dockerStack) killed(j *staged) {
	s.docker("kill", s.box.Name)
	s.waits(j)
	j.let()
	s.docker("start", s.box.Name)
	s.serving()
}

func (s *dockerStack) restarted(j *staged) {
	starts := s.record(j.JobId).step(j.step).Starts
	s.docker("restart", "-t", "0", s.box.Name)
	s.serving()
	s.startedAgain(j, starts)
}

// frozen holds back all data on the runner's connection, and does not close it.
func (s *dockerStack) frozen(f *forwarder, j *staged) {
	const silent = "runner is silent, connection closed"
	starts, before := s.record(j.JobId).step(j.step).Starts, s.log.count(silent)
	f.freeze()
	began := time.Now()
	eventually(s.t, 40*time.Second, "the worker hears that the runner is silent", func() bool { return s.log.count(silent) > before })
	if took := time.Since(began); took < 10*time.Second || took > 40*time.Second {
		s.t.Errorf("given up after %s", took)
	}
	s.startedAgain(j, starts) // the new runner ends the operation of the frozen one
}

// neverAttached has a daemon that accepts the request for a new runner and does not
// answer.
func (s *dockerStack) neverAttached(f *forwarder, j *staged) {
	before := f.caught()
	f.freezeOn("/start HTTP/1.1")
	f.cut()
	eventually(s.t, 30*time.Second, "the request for a runner is on its way", func() bool { return f.caught() > before })
	s.waits(j, "cannot be started")
}

// daemonAway has a daemon that closes every connection and accepts no new one. Meanwhile
// a new site's leftovers are changed into those of an attempt that was killed while it
// removed them.
func (s *dockerStack) daemonAway(f *forwarder, j *staged) {
	f.refuse(true)
	s.waits(j, "Docker cannot be reached")
	if db := s.dbOf(j); j.step == "site" {
		s.box.Sh(s.t, "mv sites/"+j.Site+" sites/.nexus/trash/"+db+"-1-1")
		s.box.SQL(s.t, "DROP DATABASE "+db+"; DROP USER "+db+"; DELETE FROM nexus.register WHERE name='"+db+"'")
	}
	pass(6 * time.Second) // the job has retried without success
	f.refuse(false)
}

// newAccount returns the name of a worker's MariaDB account for one stack.
func newAccount() string { return "e2e_" + string(nexus.NewJobID())[:12] }

// dropAccount removes the account, also if the container is gone.
func (s *dockerStack) dropAccount() {
	host, port, _ := strings.Cut(os.Getenv("NEXUS_TEST_DB"), ":")
	cmd := exec.Command("mariadb", "-h", host, "-P", port, "--protocol=tcp", "-u", "root", "-e", "DROP USER IF EXISTS "+s.account())
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+s.box.RootPassword)
	_ = cmd.Run()
}
