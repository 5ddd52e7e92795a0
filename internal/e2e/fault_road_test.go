//go:build service

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// unusableTemplates breaks templates behind the registry's back while they are offered: the
// signups that were placed on them take the longer road.
func (s *dockerStack) unusableTemplates() {
	addr := freeAddr(s.t)
	worker := s.worker()
	from := s.built()

	s.lost()
	s.newSite(s.signup("lost", "jane@example.com"), "")
	worker.end(syscall.SIGTERM)
	s.worker("NEXUS_METRICS_ADDR=" + addr) // lists the bench's templates when it starts
	s.offered(from)
	s.copied(from, s.signup("found", "jane@example.com"))

	const patches = "apps/erpnext/erpnext/patches.txt" // the stand-in has none
	s.box.Sh(s.t, "echo erpnext.patches.of_tomorrow >> "+patches)
	s.detour(from, addr, "The bench's apps have changed")
	s.box.Sh(s.t, "rm "+patches)

	damaged := s.built()
	s.box.SQL(s.t, "DROP TABLE "+s.dbOf(damaged)+".tabRole")
	s.detour(damaged, addr, "is damaged")

	s.box.SQL(s.t, "DROP DATABASE IF EXISTS "+s.dbOf(from))
	s.detour(from, addr, "")

	gone := s.built()
	s.box.SQL(s.t, strings.ReplaceAll("DROP DATABASE X; DROP USER X; DELETE FROM nexus.register WHERE name='X'; DELETE FROM nexus.tables WHERE template='X'", "X", s.dbOf(gone)))
	s.box.Sh(s.t, "rm -r sites/.nexus/templates/"+gone.Site)
	s.detour(gone, addr, "There is no template")

	s.doctor("--fix") // unless a worker that found a template unusable for a minute was faster
	for _, j := range []*staged{from, damaged} {
		if left := s.box.Left(s.t, nexus.SiteName(j.Site), s.dbOf(j)); len(left) > 0 {
			s.t.Errorf("left of the template %s: %v", j.Site, left)
		}
	}
	last := s.built()
	s.copied(last, s.signup("last", "jane@example.com"))
	s.sound()
}

// lost removes what Redis knows of the bench's templates, as a backup from before them does.
func (s *dockerStack) lost() {
	s.t.Helper()
	if n, err := s.rdb.Del(s.t.Context(), "{nexus}:offers:"+s.box.Name, "{nexus}:templates:"+s.box.Name).Result(); n != 2 || err != nil {
		s.t.Fatalf("%d keys, %v", n, err)
	}
}

// detour signs up for a site while an unusable template is offered.
func (s *dockerStack) detour(from *staged, addr, why string) {
	s.t.Helper()
	detours := func() float64 { return s.metric(addr, "nexus_road_detours_total", `road="clone"`) }
	before := detours()
	var a gen.Accepted
	for try := range 3 { // a worker may have listed the templates just now
		s.offer(from)
		a = s.signup(fmt.Sprintf("detour-%s%v-%d", from.Site, before, try), "jane@example.com")
		if stepNote(s.end(a.JobId, time.Minute), "site") != "" {
			break
		}
	}
	s.newSite(a, "The template "+from.Site+" could not be copied, so this takes longer. ", why)
	if n := detours() - before; n != 1 {
		s.t.Errorf("%v detours were counted", n)
	}
	if found, _ := s.template(from); found.Offered {
		s.t.Errorf("%s is still offered", from.Site)
	}
}

// newSite checks that a site was made by new-site, and that its step's note has these words;
// empty: it has none.
func (s *dockerStack) newSite(a gen.Accepted, words ...string) {
	s.t.Helper()
	job := s.end(a.JobId, time.Minute)
	note := stepNote(job, "site")
	if job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadNewSite) || value(job.Template) != "" ||
		(note == "") != (words[0] == "") || slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(note, word) }) {
		s.t.Errorf("%s is %s by %q of %q: %+v\n%s", a.Site, job.State, value(job.Road), value(job.Template), job.Error, note)
	}
	s.t.Logf("%s: %s", a.Site, note)
	s.hasApps(a)
}
