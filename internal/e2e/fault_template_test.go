//go:build service

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultTemplate kills and stops workers, and cancels jobs, while templates are built and
// copied; takes away what a copy needs; and breaks templates that are offered. Each row has
// its own stack.
func TestFaultTemplate(t *testing.T) {
	stack := func(pace time.Duration, env ...string) *dockerStack {
		s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
		return s.onStandin(t, pace, env...)
	}
	var m *standin.MariaDB
	var rows sync.WaitGroup // run at once, since they mostly wait
	defer rows.Wait()
	for _, row := range []struct {
		name  string
		ready func() *dockerStack
		test  func(*dockerStack)
	}{
		{"Built", func() *dockerStack { return stack(4 * time.Second) }, (*dockerStack).builtThroughFaults},
		{"Copied", func() *dockerStack { return stack(time.Second) }, (*dockerStack).copiedThroughFaults},
		{"Unusable", func() *dockerStack { return stack(300 * time.Millisecond) }, (*dockerStack).unusableTemplates},
		{"Disk", func() *dockerStack {
			s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
			return s.onSmallDisk(t)
		}, (*dockerStack).diskFullInCopies},
		{"Outages", func() *dockerStack {
			t.Setenv("STANDIN_SITES", "") // the small disk was the last stack's
			m = standin.NewMariaDB(t)
			return stack(300 * time.Millisecond)
		}, func(s *dockerStack) { s.outagesInCopies(m) }},
	} {
		s := row.ready()
		rows.Go(func() {
			t.Run(row.name, func(t *testing.T) {
				s.t = t
				row.test(s)
			})
		})
	}
}

// buildHold is a place in which a build is held: in a slow step by its time, else by a lock on
// a table.
type buildHold struct{ step, table string }

// buildHolds are the holds of a build: in the set-up wizard, and in freeze first before the
// site's config is put away, then in the procedure that closes the database.
var buildHolds = []buildHold{{"site", ""}, {"apps", ""}, {"company", "tabWarehouse"}, {"freeze", "tabView Log"}, {"freeze", "tabNotification Settings"}}

// builtThroughFaults cancels a build of a country's template in each of these places, then
// kills a worker in each. What a wizard that was killed has made is made anew, under a later
// token than that of its removal, so a build of its own is held there.
func (s *dockerStack) builtThroughFaults() {
	s.country = "US"
	worker := s.worker()
	for i, hold := range buildHolds {
		j := s.build(hold.step)
		s.holdBuild(j, hold)
		if i == 0 {
			if _, err := s.client.BuildTemplate(s.t.Context(), s.country, "", ""); nexus.CodeOf(err) != nexus.Conflict {
				s.t.Errorf("a second build at once: %v", err)
			}
		}
		if hold.step == "freeze" {
			s.offer(j) // as an earlier attempt of this step would
		}
		s.cancel(j)
		j.let()
		if job := s.end(j.JobId, time.Minute); job.State != gen.StateCanceled {
			s.t.Errorf("a build that was canceled in %v is %s: %+v", hold, job.State, job.Error)
		}
		s.templateGone(j)
	}
	wizard := func(hold buildHold) bool { return hold.step == "company" }
	worker, _ = s.killedInBuild(worker, slices.DeleteFunc(slices.Clone(buildHolds), wizard), map[nexus.StepName]int{"site": 2, "apps": 2, "freeze": 3})
	_, j := s.killedInBuild(worker, slices.DeleteFunc(slices.Clone(buildHolds), func(hold buildHold) bool { return !wizard(hold) }), map[nexus.StepName]int{"company": 3})
	s.copied(j, s.signup("after", "jane@example.com"))
	s.sound()
}

// killedInBuild kills workers that build a template in these places, of which the build goes
// on in another worker. Starts has the steps that were started more than once.
func (s *dockerStack) killedInBuild(worker *process, holds []buildHold, starts map[nexus.StepName]int) (*process, *staged) {
	s.t.Helper()
	j := s.build(holds[0].step)
	s.allTaken([]*staged{j})
	for _, hold := range holds {
		j.step = hold.step
		s.holdBuild(j, hold)
		next := s.worker()
		s.hurt(fmt.Sprintf("killed in %v of a build", hold), nobodyWaits, []*staged{j}, func() time.Time { return worker.send(syscall.SIGKILL) })
		worker = next
	}
	j.let()
	if job := s.end(j.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("the build is %s: %+v", job.State, job.Error)
	}
	for _, step := range s.record(j.JobId).Steps {
		if want := max(1, starts[step.Name]); step.Attempts != 1 || step.Starts != want {
			s.t.Errorf("%s was started %d times and answered %d times", step.Name, step.Starts, step.Attempts)
		}
	}
	s.offered(j)
	return worker, j
}

// build records a job that builds a template, to be held in a step.
func (s *dockerStack) build(step string) *staged {
	s.t.Helper()
	eventually(s.t, 30*time.Second, "the bench is known", func() bool { // else the job is for any bench
		benches, err := s.client.Benches(s.t.Context())
		return err == nil && len(benches.Benches) > 0
	})
	job, err := s.client.BuildTemplate(s.t.Context(), s.country, "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	return &staged{Accepted: gen.Accepted{JobId: job.Id, Site: job.Site}, step: step, let: func() {}}
}

// built builds a template.
func (s *dockerStack) built() *staged {
	s.t.Helper()
	j := s.build("")
	if job := s.end(j.JobId, time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("the build is %s: %+v", job.State, job.Error)
	}
	s.offered(j)
	return j
}

// holdBuild holds a build in its step, then lets it go from where it was held before; see
// buildHolds.
func (s *dockerStack) holdBuild(j *staged, hold buildHold) {
	s.t.Helper()
	if hold.table == "" {
		s.percent(j, 10)
		return
	}
	if r := s.record(j.JobId); r.step(hold.step).State != nexus.StepStarted {
		s.percent(&staged{Accepted: j.Accepted, step: "apps"}, 10)
		s.tableThere(s.dbOf(j), hold.table)
	}
	former := j.let
	j.let = s.holdLock("LOCK TABLES " + s.dbOf(j) + ".`" + hold.table + "` WRITE")
	former()
	s.until(j.JobId, nexus.Running, hold.step)
	s.waitsForStatement("%" + s.dbOf(j) + "%" + hold.table + "%") // other rows freeze templates too
}

// cancel cancels a job as an operator, and waits until it rolls back.
func (s *dockerStack) cancel(j *staged) {
	s.t.Helper()
	if _, err := s.client.Cancel(s.t.Context(), j.JobId, operator); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 30*time.Second, j.Site+" rolls back", func() bool { return s.record(j.JobId).State != nexus.Running })
}

// templateGone checks that nothing of a template is left on the bench, in the database or in
// Redis except for its job's record.
func (s *dockerStack) templateGone(j *staged) {
	s.t.Helper()
	if left := s.box.Left(s.t, nexus.SiteName(j.Site), s.dbOf(j)); len(left) > 0 {
		s.t.Errorf("left of the template %s: %v", j.Site, left)
	}
	if offers := fromRedis(s.t, s.rdb.HVals(s.t.Context(), "{nexus}:offers:"+s.box.Name)); slices.Contains(offers, j.Site) {
		s.t.Errorf("the template %s is offered", j.Site)
	}
}

// offer has the next signups placed on a template, whatever the bench says of it.
func (s *dockerStack) offer(j *staged) {
	s.t.Helper()
	key := nexus.FittingSpecs(s.country, nil)[0].Key([]string{"erpnext"})
	if err := s.rdb.HSet(s.t.Context(), "{nexus}:offers:"+s.box.Name, key, j.Site).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// template returns what the API lists of a template.
func (s *dockerStack) template(j *staged) (out gen.Template, here bool) {
	s.t.Helper()
	all := s.templates()
	i := slices.IndexFunc(all, func(each gen.Template) bool { return each.Name == j.Site })
	if i < 0 {
		return out, false
	}
	return all[i], true
}

// offered waits until sites are copied from a template. A worker that began to list the
// bench's templates before this one was frozen may withdraw it for a minute.
func (s *dockerStack) offered(j *staged) {
	s.t.Helper()
	eventually(s.t, 75*time.Second, "the template "+j.Site+" is offered", func() bool {
		found, here := s.template(j)
		return here && found.Offered && found.Problem == nil && found.Job == j.JobId && found.Bench == s.box.Name
	})
}

// copied checks that sites were copied from a template, with its apps, and that each one's
// key opens its own site only.
func (s *dockerStack) copied(from *staged, all ...gen.Accepted) {
	s.t.Helper()
	for _, a := range all {
		job := s.end(a.JobId, time.Minute)
		site, apps := stepNote(job, "site"), stepNote(job, "apps")
		if job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadClone) || value(job.Template) != from.Site ||
			!strings.Contains(site, from.Site) || !strings.Contains(apps, "template") {
			s.t.Errorf("%s is %s by %q of %q: %+v\n%s\n%s", a.Site, job.State, value(job.Road), value(job.Template), job.Error, site, apps)
		}
		if row, err := s.client.Tenant(s.t.Context(), a.Site); err != nil || value(row.Road) != string(nexus.RoadClone) || value(row.Template) != from.Site {
			s.t.Errorf("the row of %s: by %q of %q, %v", a.Site, value(row.Road), value(row.Template), err)
		}
		s.hasCompany(a)
	}
	s.hasApps(all...)
}

// hasCompany checks that the company of a site that was made from a country's template is the
// one that was named at signup.
func (s *dockerStack) hasCompany(a gen.Accepted) {
	s.t.Helper()
	if s.country == "" {
		return
	}
	db := s.dbOf(&staged{Accepted: a})
	name, _, _ := strings.Cut(a.Site, ".")
	if got := s.box.SQL(s.t, "SELECT name, company_name FROM "+db+".tabCompany"); got != name+"\t"+name {
		s.t.Errorf("the company of %s is %s, want %s", a.Site, got, name)
	}
	for _, table := range []string{"tabAccount", "tabWarehouse"} {
		if n := s.box.SQL(s.t, "SELECT COUNT(*), SUM(name LIKE CONCAT('% - ', (SELECT abbr FROM "+db+".tabCompany)) AND company = '"+name+"') FROM "+db+"."+table); n == "0\tNULL" ||
			strings.Fields(n)[0] != strings.Fields(n)[1] {
			s.t.Errorf("of %s in %s, all and those of the company: %s", table, a.Site, n)
		}
	}
}

// hasUser checks that a site that was copied has its user in the place of the template's.
func (s *dockerStack) hasUser(a gen.Accepted) {
	s.t.Helper()
	if left := s.box.Sh(s.t, "ls sites/"+a.Site+"/*placeholder* 2>/dev/null || true"); left != "" {
		s.t.Errorf("%s has %s still", a.Site, left)
	}
	if users := s.box.SQL(s.t, "SELECT COUNT(*), SUM(enabled), SUM(name LIKE '%placeholder%') FROM "+s.dbOf(&staged{Accepted: a})+".tabUser"); users != "3\t3\t0" {
		s.t.Errorf("of the users of %s, all, the enabled, and the template's: %s", a.Site, users)
	}
}

// hasApps checks that sites have the apps, whatever their job says, and that each one's key
// opens its own site only.
func (s *dockerStack) hasApps(all ...gen.Accepted) {
	s.t.Helper()
	for _, a := range all {
		if n := s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='"+s.dbOf(&staged{Accepted: a})+"' AND table_name='tabCustomer'"); n != "1" {
			s.t.Errorf("%s lacks its apps", a.Site)
		}
		s.hasUser(a)
	}
	s.keysOpenTheirOwn(all)
}

// stepNote is the note of a job's step.
func stepNote(job gen.Job, step string) string {
	for _, each := range job.Steps {
		if each.Name == step {
			return value(each.Note)
		}
	}
	return ""
}

// copiedThroughFaults kills and stops workers, and cancels a job, in the middle of copies.
func (s *dockerStack) copiedThroughFaults() {
	first, second := s.worker(), (*process)(nil)
	from := s.built()

	killed, let, held := s.stuck(from)
	second = s.worker()
	s.hurt("killed in a copy", takeover, []*staged{killed}, func() time.Time { return first.send(syscall.SIGKILL) })
	s.copying(killed, held) // the next worker has ended the statement of the dead one

	canceled := s.wanted("site")
	s.copying(canceled, "")
	s.cancel(canceled)
	if job := s.end(canceled.JobId, time.Minute); job.State != gen.StateCanceled {
		s.t.Errorf("a job that was canceled in a copy is %s: %+v", job.State, job.Error)
	}
	s.gone(canceled.Site, canceled.JobId) // while the row is locked
	let()
	s.onceOnly(killed)

	asleep, let, held := s.stuck(from)
	third := s.worker()
	s.hurt("stopped in a copy", takeover, []*staged{asleep}, second.stop)
	s.copying(asleep, held)
	let()
	s.onceOnly(asleep)
	before := s.untouched(asleep)
	second.send(syscall.SIGCONT)
	eventually(s.t, 20*time.Second, "the run of the one that slept is fenced", func() bool { return second.log.count(fencedLine) == 1 })
	if changed := differences(before, s.untouched(asleep)); len(changed) > 0 {
		s.t.Errorf("the one that slept changed: %s", strings.Join(changed, "\n"))
	}
	second.end(syscall.SIGTERM)

	bound, let, _ := s.stuck(from)
	bound.at, bound.let = s.record(bound.JobId), let
	fourth := s.worker()
	s.t.Logf("killed after a copy: gone on after %s", s.takenOver([]*staged{bound}, s.killBoundary(answered)(third, []*staged{bound}), takeover))
	s.onceOnly(bound)

	s.copied(from, killed.Accepted, asleep.Accepted, bound.Accepted)
	s.copiedByTwoVersions(fourth, from)
	s.copied(from, s.signup("after", "jane@example.com"))
	s.sound()
}

// stuck holds every copy of a template at a row, until let is called, and signs up for a
// site. It waits until the copy is held, and returns the session that copies.
func (s *dockerStack) stuck(from *staged) (j *staged, let func(), session string) {
	s.t.Helper()
	let = s.holdLock("BEGIN; SELECT name FROM " + s.dbOf(from) + ".tabRole WHERE name = 'System Manager' FOR UPDATE")
	j = s.wanted("site")
	return j, let, s.copying(j, "")
}

// copying waits until a session copies a job's database, and waits for a row. It is not the
// former one.
func (s *dockerStack) copying(j *staged, former string) (session string) {
	s.t.Helper()
	query := "SELECT COALESCE(MAX(id), '') FROM information_schema.processlist WHERE info LIKE 'INSERT INTO%" + s.db(j.JobId) + "%tabRole%'"
	eventually(s.t, 30*time.Second, j.Site+" is being copied", func() bool {
		session = s.box.SQL(s.t, query)
		return session != "" && session != former && s.there(j)
	})
	return session
}

// copiedByTwoVersions has workers of a former version, which know no roads, go on with
// copies until the sites are made, and leave them to a worker of this version. Here the
// test changes the jobs' records into what such workers act upon.
func (s *dockerStack) copiedByTwoVersions(worker *process, from *staged) {
	s.t.Helper()
	first, let, _ := s.stuck(from)
	second := s.wanted("site")
	s.copying(second, "")
	jobs := []*staged{first, second}
	worker.end(syscall.SIGKILL)
	for _, j := range jobs {
		s.setRoad(j, "", "")
	}
	let()
	s.setPace("12")
	former := s.worker()
	for _, j := range jobs {
		s.percent(j, 25)
	}
	s.setPace("0.3")
	former.end(syscall.SIGTERM)
	for _, j := range jobs {
		if r := s.record(j.JobId); r.step("site").State != nexus.StepDone || r.step("apps").Starts != 0 {
			s.t.Fatalf("%s was not left between its steps: %+v", j.Site, r.Steps)
		}
	}
	s.setRoad(first, string(nexus.RoadClone), from.Site)
	s.worker()
	for _, j := range jobs {
		if job := s.end(j.JobId, time.Minute); job.State != gen.StateSucceeded {
			s.t.Errorf("%s of two versions is %s: %+v", j.Site, job.State, job.Error)
		}
	}
	s.hasApps(first.Accepted, second.Accepted)
}

func (s *dockerStack) setRoad(j *staged, road, template string) {
	s.t.Helper()
	if err := s.rdb.HSet(s.t.Context(), "{nexus}:job:"+j.JobId, "road", road, "template", template).Err(); err != nil {
		s.t.Fatal(err)
	}
}
