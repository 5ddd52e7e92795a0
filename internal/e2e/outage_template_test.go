//go:build service

package e2e_test

import (
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
)

// outagesInCopies takes away what a copy needs while it goes on: the bench's container, its
// runner, the database server. The site is copied all the same, and nothing is left.
func (s *dockerStack) outagesInCopies(m *standin.MariaDB) {
	s.startWorkers(1)
	from := s.built()
	var all []gen.Accepted
	for _, o := range []outage{
		{name: "container restarted", hurt: s.restarted},
		{name: "runner killed", hurt: func(j *staged) {
			starts := s.record(j.JobId).step("site").Starts
			s.box.Sh(s.t, "pgrep -f '[r]unner.py' | xargs kill -9")
			s.startedAgain(j, starts)
		}},
		{name: "database stopped", hurt: func(j *staged) {
			m.Stop(s.t)
			s.waits(j)
			m.Start(s.t)
		}},
		{name: "database killed", hurt: func(*staged) {
			m.Kill(s.t)
			m.Start(s.t)
		}},
	} {
		j, let, _ := s.stuck(from)
		o.hurt(j)
		let()
		s.copied(from, j.Accepted)
		if n := s.record(j.JobId).step("site").Attempts; n > 2 {
			s.t.Errorf("%s: one outage was charged as %d attempts", o.name, n-1)
		}
		all = append(all, j.Accepted)
	}
	s.hasApps(all...)
	s.atRest()
}

// diskFullInCopies fills the disk of the sites while a template is frozen, and in the middle
// of a copy.
func (s *dockerStack) diskFullInCopies() {
	s.startWorkers(1)
	const full = "The bench's disk is full."

	from := s.build("freeze")
	s.holdBuild(from, buildHold{"freeze", "tabView Log"})
	s.fill()
	from.let()
	s.waits(from, full)
	s.empty()
	if job := s.end(from.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("the build is %s: %+v", job.State, job.Error)
	}
	s.offered(from)

	j, let, _ := s.stuck(from)
	s.fill()
	let()
	s.waits(j, full)
	s.empty()
	s.copied(from, j.Accepted)
	if litter := s.box.Sh(s.t, "find sites -name '*.new'"); litter != "" {
		s.t.Errorf("half-written files are left: %s", litter)
	}
	s.atRest("bench_problem") // its disk is too small
}
