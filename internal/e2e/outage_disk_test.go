//go:build service

package e2e_test

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// onSmallDisk gives a stack a stand-in whose sites are on a disk of a few megabytes.
func (s *stack) onSmallDisk(t *testing.T) *dockerStack {
	t.Helper()
	volume := "nexus-full-" + string(nexus.NewJobID())[:8]
	if out, err := exec.Command("docker", "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=8m,uid=1000,gid=1000", volume).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "volume", "rm", "-f", volume).Run() }) // after the container
	t.Setenv("STANDIN_SITES", volume)
	d := s.onStandin(t, usualPace, "NEXUS_DB_ACCOUNT="+newAccount())
	t.Cleanup(d.dropAccount)
	d.box.Sh(t, `printf 'frappe\nerpnext\nhrms\n' > sites/apps.txt && mkdir -p sites/assets`) // a tmpfs begins empty
	return d
}

// fill leaves no room under the sites; empty makes room again.
func (s *dockerStack) fill()  { s.box.Sh(s.t, "dd if=/dev/zero of=sites/fill bs=1k 2>/dev/null; true") }
func (s *dockerStack) empty() { s.box.Sh(s.t, "rm -f sites/fill") }

// TestOutageDisk fills the disk of the sites before a new site, in the middle of one,
// before a drop and in the middle of it. The job waits and says why, then goes on or is
// rolled back. Nothing is left once there is space again.
func TestOutageDisk(t *testing.T) {
	s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
	d := s.onSmallDisk(t)
	s.startWorkers(1)
	const full = "The bench's disk is full."

	t.Run("before a new site", func(t *testing.T) {
		d.t = t
		d.fill()
		j := d.begun("site", "before", false)
		d.waits(j, full)
		pass(12 * time.Second) // the job has retried without success
		if n := s.record(j.JobId).step("site").Attempts; n > 0 {
			t.Errorf("charged %d attempts for what never began", n)
		}
		d.empty()
		d.whole(j.JobId, map[string]int{"site": 1})
		d.over(j)
	})
	for _, step := range slowSteps {
		t.Run("in "+step, func(t *testing.T) {
			d.t = t
			j := d.begun(step, "in-"+step, false)
			d.middle(j)
			d.fill()
			j.let()
			if step != "drop" { // a drop that has begun needs no space
				d.waits(j, full)
				d.empty()
			}
			d.over(j)
			d.empty()
		})
	}
	t.Run("until the attempts are used up", func(t *testing.T) {
		d.t = t
		d.setPace("10") // the disk must be full before the site is made
		j := d.begun("site", "used-up", false)
		for tries := range 3 {
			d.middle(j)
			d.fill()
			eventually(t, 60*time.Second, "it fails", func() bool { return s.record(j.JobId).step("site").Attempts > tries })
			if tries < 2 {
				d.empty()
			}
		}
		s.until(j.JobId, nexus.RollingBack, "")
		eventually(t, 90*time.Second, "the undo is tried again", func() bool { return s.log.count(j.JobId, `"undo failed"`) > 2 })
		if n := s.record(j.JobId).step("site").Undos; n > 0 {
			t.Errorf("charged %d undos for what never began", n)
		}
		d.empty()
		d.setPace(fmt.Sprint(usualPace.Seconds()))
		job := s.end(j.JobId, 2*time.Minute)
		if job.State != gen.StateFailed || job.Error.Message != full || job.Error.Code != string(nexus.Unavailable) {
			t.Errorf("%s is %s: %+v", j.Site, job.State, job.Error)
		}
		d.over(j)
	})
	t.Run("before a drop", func(t *testing.T) {
		d.t = t
		a := s.signup("leaves", "jane@example.com")
		d.whole(a.JobId, nil)
		d.fill()
		j := s.removal(a.Site, "drop")
		d.waits(j, full)
		d.empty()
		d.over(j)
	})
	d.t = t
	if litter := d.box.Sh(t, "find sites -name '*.new'"); litter != "" {
		t.Errorf("half-written files are left: %s", litter)
	}
	d.atRest("bench_problem") // its disk is too small
}
