//go:build service

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// dockerDaemon is a Docker daemon of this test, beside the machine's.
type dockerDaemon struct {
	t       *testing.T
	dir     string
	log     *logs
	process *process
}

// newDaemon starts a daemon, which all later docker commands use.
func newDaemon(t *testing.T) *dockerDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "nexus-dockerd-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerDaemon{t: t, dir: dir, log: &logs{}}
	t.Cleanup(func() {
		// A killed daemon leaves the shims of its containers. Each may leave two mounts: the
		// data folder's onto itself, and that of a network namespace.
		_ = exec.Command("pkill", "-KILL", "-f", dir).Run()
		for _, mount := range []string{"exec/netns/default", "data"} {
			_ = syscall.Unmount(filepath.Join(dir, mount), 0)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the daemon left something behind: %v", err)
		}
	})
	t.Setenv("DOCKER_HOST", d.host())
	d.start()
	return d
}

func (d *dockerDaemon) host() string { return "unix://" + filepath.Join(d.dir, "s") }

// start starts it, or starts it again on the files it left.
func (d *dockerDaemon) start() {
	d.t.Helper()
	// The containerd of a killed daemon has died with it, but counts as running until it is
	// reaped.
	_ = os.Remove(filepath.Join(d.dir, "exec", "containerd", "containerd.pid"))
	d.process = start(d.t, d.log, nil, "dockerd", "--host", d.host(), "--data-root", filepath.Join(d.dir, "data"),
		"--exec-root", filepath.Join(d.dir, "exec"), "--pidfile", filepath.Join(d.dir, "pid"),
		"--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false")
	process := d.process
	d.t.Cleanup(func() { process.end(syscall.SIGTERM) }) // before SIGKILL, so that it ends its containerd too
	eventually(d.t, 60*time.Second, "the daemon answers", func() bool { return exec.Command("docker", "info").Run() == nil })
}

// TestOutageDaemon stops the Docker daemon while a site is made, an app is installed and
// a database is dropped. If it is stopped properly, its containers stop too; if it is
// killed, they run until the next daemon ends them. A row has two jobs at most: on a
// machine of two cores the runner does two slow operations at once, and a third would
// wait until one of them has ended.
func TestOutageDaemon(t *testing.T) {
	d := newDaemon(t)
	defer func() {
		if t.Failed() {
			for _, line := range d.log.all() {
				t.Log(line)
			}
		}
	}()
	s := newDockerStack(t, 1, usualPace, "NEXUS_APPS=erpnext", "DOCKER_HOST="+d.host(), "NEXUS_DB_ACCOUNT="+newAccount())
	t.Cleanup(s.dropAccount)
	for _, row := range []struct {
		name   string
		signal syscall.Signal
		steps  []string
	}{
		{"stopped", syscall.SIGTERM, []string{"drop", "site"}},
		{"killed", syscall.SIGKILL, []string{"drop", "site"}},
		{"stopped-later", syscall.SIGTERM, []string{"apps"}},
		{"killed-later", syscall.SIGKILL, []string{"apps"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.t = t
			var jobs []*staged
			for _, step := range row.steps {
				jobs = append(jobs, s.begun(step, row.name+"-"+step, true))
			}
			for _, j := range jobs {
				s.middle(j)
			}
			s.setPace(fmt.Sprint(usualPace.Seconds())) // of the next attempts
			for _, j := range jobs {
				s.until(j.JobId, nexus.Running, j.step) // a drop is tried again every half a minute
			}
			d.process.end(row.signal)
			for _, j := range jobs {
				s.waits(j, "Docker cannot be reached")
			}
			for _, j := range jobs {
				j.let()
			}
			d.start()
			s.docker("start", s.box.Name)
			s.serving()
			for _, j := range jobs {
				s.over(j)
			}
		})
		s.t = t
	}
	s.atRest()
}
