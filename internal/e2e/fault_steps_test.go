//go:build service

package e2e_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// killedInShortSteps kills workers with kill -9 in the middle of each step that is
// over soon on a bench, then again behind each one's deed and before its journal. A
// runner does four such operations at once, so it is done in two rounds.
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

// oneOfEach holds that jobs that were hurt ended well: one site, user and key each,
// or nothing of the tenant that left.
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

// ledAll has each job in its step, all in the hands of the one worker there is. Those
// whose steps have the shortest deadlines come last.
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
			s.docker("kill", "--signal", "STOP", s.box.Name) // its first process serves the sites
			s.move(j, "verify", func() { s.docker("kill", "--signal", "CONT", s.box.Name) })
		}
	}
}

// lead takes a provision to its step, or to api_key if that comes before.
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

// move lets a provision go on to a step whose bar is up already.
func (s *dockerStack) move(j *staged, step string, bar func()) {
	s.t.Helper()
	former := j.let
	j.let = bar
	former()
	s.standsStill(j, step)
}

// bar takes a lock that is in the way of a step.
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

// standsStill waits until a job is in a step, and waits there for what is held.
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

// answered tells whether a step's deed was reported to its worker.
func answered(worker *process, j *staged) bool {
	return worker.log.count(`"step done"`, j.JobId, `"step":"`+j.step+`"`) > 0
}
