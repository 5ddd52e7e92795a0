//go:build service

package e2e_test

import (
	"syscall"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
)

// outagesInClaims takes away the database server while a claim goes on, and room on the disk,
// that one also while a standby is made.
func (s *dockerStack) outagesInClaims(m *standin.MariaDB) {
	const full = "The bench's disk is full."
	s.country = "US"
	_, shelf := s.stocked(7)
	worker := s.worker()
	outages := []outage{
		{name: "database stopped", hurt: func(j *staged) {
			m.Stop(s.t)
			s.waits(j)
			m.Start(s.t)
		}},
		{name: "database killed", hurt: func(*staged) {
			m.Kill(s.t)
			m.Start(s.t)
		}},
		{name: "database frozen", hurt: func(j *staged) {
			m.Freeze(s.t)
			s.waits(j)
			m.Thaw(s.t)
		}},
		{name: "disk full", hurt: func(j *staged) {
			s.fill()
			j.let()
			s.waits(j, full)
			s.empty()
		}},
	}
	s.hurtInClaims(shelf, s.claiming, outages)
	s.hurtInClaims(shelf, s.naming, outages[:3])
	worker.end(syscall.SIGTERM)

	s.fill()
	worker = s.worker("NEXUS_POOL=1")
	j := s.making("site")
	s.waits(j, full)
	s.empty()
	s.shelved(1)
	s.noStandbys()
	worker.end(syscall.SIGTERM)
	s.idle(0)
	s.sound("bench_problem") // its disk is too small
}

// hurtInClaims takes away what a claim, or the step after it, needs while it is held. The site
// is made from the standby all the same.
func (s *dockerStack) hurtInClaims(shelf []reserved, hold func(reserved) *staged, outages []outage) {
	s.t.Helper()
	var jobs []*staged
	for _, o := range outages {
		began := time.Now()
		j := hold(s.next(shelf))
		o.hurt(j)
		j.let()
		s.claimed(j.Accepted, shelf)
		if n := s.record(j.JobId).step(j.step).Attempts; n > 2 {
			s.t.Errorf("%s: one outage was charged as %d attempts", o.name, n-1)
		}
		s.t.Logf("%s in %s: %d starts, after %s", o.name, j.step, s.record(j.JobId).step(j.step).Starts, time.Since(began).Round(time.Second))
		jobs = append(jobs, j)
	}
	s.apart(jobs)
}
