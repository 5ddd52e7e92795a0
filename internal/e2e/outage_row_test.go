//go:build service

package e2e_test

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// slowSteps are the steps with slow operations: new_site and install_app of a provision,
// drop_site of a teardown.
var slowSteps = []string{"site", "apps", "drop"}

// outage breaks what the bench needs while a job is in a step, and mends it.
type outage struct {
	name  string
	hurt  func(*staged)
	slow  bool // the step must last until the outage is noticed
	early bool // the outage itself waits for the right moment, before the middle
}

// How long the stand-in takes for a site, normally and in a slow step.
const (
	usualPace = 3 * time.Second
	slowPace  = "30"
)

// inTurn runs one outage after the other while a job is in a step.
func (s *dockerStack) inTurn(t *testing.T, step string, outages []outage) {
	t.Helper()
	for _, o := range outages {
		went := t.Run(o.name, func(t *testing.T) {
			s.t = t
			began := time.Now()
			j := s.begun(step, strings.ToLower(strings.ReplaceAll(o.name, " ", "-")), o.slow)
			if !o.early {
				s.middle(j)
				s.setPace(fmt.Sprint(usualPace.Seconds())) // of the next attempt
			}
			o.hurt(j)
			j.let()
			s.over(j)
			r := s.record(j.JobId)
			if r.step(step).Attempts > 2 {
				t.Errorf("one outage was charged as %d attempts", r.step(step).Attempts-1)
			}
			t.Logf("%s in %s: %s, %d starts, %d attempts, after %s", o.name, step, r.State, r.step(step).Starts, r.step(step).Attempts, time.Since(began).Round(time.Second))
		})
		s.t = t
		if !went {
			return // the next outage would fail too
		}
	}
}

// atRest stops the worker, and checks that nothing of it is left and that registry and
// bench agree, but for these findings of the doctor.
func (s *dockerStack) atRest(findings ...string) {
	s.t.Helper()
	s.workers[len(s.workers)-1].end(syscall.SIGTERM)
	s.idle(0)
	s.sound(findings...)
}

// dbOf is the database of a job's site: that of a standby, or the one that is named after the
// job that made the site.
func (s *dockerStack) dbOf(j *staged) string {
	s.t.Helper()
	fields := s.record(j.JobId).Fields
	return cmp.Or(fields["db"], s.db(fields["owner"]))
}

// begun records a job that is to be held in a step. A lock of another session holds a
// drop in its middle, until let is called.
func (s *dockerStack) begun(step, name string, slow bool) *staged {
	s.t.Helper()
	if slow && step == "site" {
		s.setPace(slowPace)
	}
	j := &staged{Accepted: s.signup(name, "jane@example.com"), step: step, let: func() {}}
	if slow && step == "apps" {
		s.percent(&staged{Accepted: j.Accepted, step: "site"}, 10)
		s.setPace(slowPace)
	}
	if step == "drop" {
		s.whole(j.JobId, nil)
		j.let = s.holdLock("LOCK TABLES " + s.db(j.JobId) + ".tabUser READ")
		j.JobId = s.removal(j.Site, step).JobId
	}
	return j
}

// middle waits until a job is in the middle of its step.
func (s *dockerStack) middle(j *staged) {
	s.t.Helper()
	switch j.step {
	case "site":
		s.percent(j, 25)
	case "apps":
		s.percent(j, 10)
	default:
		// In a definer procedure the process list shows the definer as the user.
		s.waitsForStatement("%DROP DATABASE%" + s.dbOf(j) + "%")
	}
}

// waits waits until a job waits for the bench, with a note that contains all of these
// words.
func (s *dockerStack) waits(j *staged, words ...string) {
	s.t.Helper()
	note := ""
	eventually(s.t, 90*time.Second, j.Site+" waits for the bench: "+strings.Join(words, ", "), func() bool {
		job, _, _, err := s.client.Job(s.t.Context(), j.JobId, "", 0)
		if err != nil || job.State != gen.StateWaiting || value(job.WaitingFor) != gen.Wait(nexus.WaitBench) {
			return false
		}
		note = value(job.WaitingNote)
		for _, word := range words {
			if !strings.Contains(note, word) {
				return false
			}
		}
		return true
	})
	if !strings.ContainsAny(note[max(0, len(note)-1):], ".?") || len(note) < 20 {
		s.t.Errorf("%s waits, and says: %q", j.Site, note)
	}
}

// startedAgain waits until a job's step is started once more.
func (s *dockerStack) startedAgain(j *staged, starts int) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, j.Site+" tries "+j.step+" again", func() bool {
		r := s.record(j.JobId)
		return r.step(j.step).Starts > starts || r.State == nexus.RollingBack || r.State.Terminal()
	})
}

// over checks that a job ended in one of the two ways, that nothing of it still runs,
// and that every failure was classified as an outage.
func (s *dockerStack) over(j *staged) {
	s.t.Helper()
	job := s.end(j.JobId, 4*time.Minute)
	s.idle(1)
	switch {
	case job.State == gen.StateSucceeded && j.step == "drop", job.State == gen.StateFailed && j.step != "drop":
		s.gone(j.Site, s.record(j.JobId).Fields["owner"])
	case job.State == gen.StateSucceeded:
		s.whole(j.JobId, nil)
	default:
		s.t.Errorf("%s is %s: %+v", j.Site, job.State, job.Error)
	}
	for _, line := range s.log.all() {
		if strings.Contains(line, j.JobId) && strings.Contains(line, `"code":"internal"`) {
			s.t.Errorf("an outage was taken for a fault of ours: %s", line)
		}
	}
}

// besideOneAnother runs each step's outages on its own stack, all at once.
func besideOneAnother(t *testing.T, steps []string, ready func(step string) func(*testing.T)) {
	t.Helper()
	var all sync.WaitGroup
	defer all.Wait()
	for _, step := range steps {
		run := ready(step)
		all.Go(func() { t.Run(step, run) })
	}
}
