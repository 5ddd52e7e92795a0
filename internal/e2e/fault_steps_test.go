//go:build service

package e2e_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// killedInShortSteps kills workers with SIGKILL in each short step on a bench, and again
// after the effect of each and before its journal entry. A runner does four such
// operations at once, so it takes two rounds.
func (s *dockerStack) killedInShortSteps() {
	leaving := []*staged{s.wanted("suspend"), s.wanted("suspend")}
	worker := s.worker()
	for _, j := range leaving {
		s.whole(j.JobId, nil)
	}
	inTenant, around := []string{"user", "plan", "api_key"}, []string{"activate", "suspend", "verify"}
	boundary := s.killBoundary(answered)
	for _, round := range []struct {
		name  string
		kill  func(*process, []*staged) time.Time
		steps []string
	}{{"middle", s.killMiddle, inTenant}, {"boundary", boundary, inTenant}, {"middle", s.killMiddle, around}, {"boundary", boundary, around}} {
		var jobs []*staged
		for _, step := range round.steps {
			if step == "suspend" {
				jobs, leaving = append(jobs, leaving[0]), leaving[1:]
			} else {
				jobs = append(jobs, s.wanted(step))
			}
		}
		s.ledAll(jobs)
		if s.t.Failed() {
			return
		}
		successor := s.worker()
		longest := s.takenOver(jobs, round.kill(worker, jobs), takeover)
		s.t.Logf("killed: %s of %v, gone on after %s", round.name, round.steps, longest)
		worker = successor
		s.oneOfEach(jobs)
	}
	s.sound()
}

// oneOfEach checks that jobs whose workers were killed succeeded: one site, user and key
// each, or nothing of a removed tenant.
func (s *dockerStack) oneOfEach(jobs []*staged) {
	s.t.Helper()
	for _, j := range jobs {
		s.onceOnly(j)
		if j.step == "suspend" {
			s.gone(j.Site, s.record(j.JobId).Fields["owner"])
			continue
		}
		s.keysOpenTheirOwn([]gen.Accepted{j.Accepted})
		if n := s.box.SQL(s.t, "SELECT COUNT(*) FROM "+s.dbOf(j)+".tabUser WHERE name LIKE '%@example.com'"); n != "1" {
			s.t.Errorf("%s has %s users", j.Site, n)
		}
	}
}

// ledAll holds each job in its step, all of them taken by one worker. The steps with the
// shortest deadlines come last.
func (s *dockerStack) ledAll(jobs []*staged) {
	s.t.Helper()
	var all sync.WaitGroup
	for _, j := range jobs {
		if j.step != "suspend" {
			all.Go(func() { s.lead(j) })
		}
	}
	all.Wait()
	for _, j := range jobs {
		switch j.step {
		case "activate":
			s.move(j, "activate", s.bar(j, "activate"))
		case "suspend":
			j.let = s.bar(j, "suspend")
			j.JobId = s.removal(j.Site, "suspend").JobId
			s.standsStill(j, "suspend")
		case "verify":
			s.docker("kill", "--signal", "STOP", s.box.Name) // stops its first process, which serves the sites
			s.move(j, "verify", func() { s.docker("kill", "--signal", "CONT", s.box.Name) })
		}
	}
}

// lead lets a provision run to its step, or to api_key if that comes first.
func (s *dockerStack) lead(j *staged) {
	s.t.Helper()
	s.percent(&staged{Accepted: j.Accepted, step: "apps"}, 10)
	j.let = func() {}
	for _, step := range []string{"user", "plan", "api_key"} {
		s.move(j, step, s.bar(j, step))
		if step == j.step {
			return
		}
	}
}

// move lets a provision continue to a step that is already blocked.
func (s *dockerStack) move(j *staged, step string, bar func()) {
	s.t.Helper()
	former := j.let
	j.let = bar
	former()
	s.standsStill(j, step)
}

// bar takes a lock that blocks a step.
func (s *dockerStack) bar(j *staged, step string) (let func()) {
	s.t.Helper()
	switch step {
	case "user":
		return s.holdLock(s.userLock(j))
	case "api_key":
		return s.holdLock("LOCK TABLES " + s.dbOf(j) + ".__Auth READ")
	case "plan":
		return s.holdLock("LOCK TABLES " + s.dbOf(j) + ".tabSingles READ")
	default:
		return s.box.HoldConfig(s.t, nexus.SiteName(j.Site))
	}
}

// standsStill waits until a job is in a step and blocked there.
func (s *dockerStack) standsStill(j *staged, step string) {
	s.t.Helper()
	var still func() bool
	switch step {
	case "verify":
		still = func() bool { return true }
	case "user", "plan", "api_key":
		query := "SELECT COUNT(*) FROM information_schema.processlist WHERE db='" + s.dbOf(j) + "' AND state LIKE 'Waiting%'"
		still = func() bool { return s.box.SQL(s.t, query) != "0" }
	default:
		ask := fmt.Sprintf("for p in $(pgrep python); do ls -l /proc/$p/fd; done 2>/dev/null | grep -c '/%s/locks/site_config.lock' || true", j.Site)
		still = func() bool { return s.box.Sh(s.t, ask) != "0" }
	}
	eventually(s.t, 60*time.Second, j.Site+" stands still in "+step, func() bool {
		return s.there(&staged{Accepted: j.Accepted, step: step}) && still()
	})
}

// answered reports whether the worker has the answer to a step's operation.
func answered(worker *process, j *staged) bool {
	return worker.log.count(`"step done"`, j.JobId, `"step":"`+j.step+`"`) > 0
}
