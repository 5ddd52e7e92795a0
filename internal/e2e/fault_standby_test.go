//go:build service

package e2e_test

import (
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultStandby kills workers, cancels jobs and takes away what they need while standbys
// are made, claimed and dropped. Each group has its own stack. After each, no standby is
// left, none was given to two sites, and no signup has failed.
func TestFaultStandby(t *testing.T) {
	var m *standin.MariaDB
	var rows sync.WaitGroup // run at once, since they mostly wait
	defer rows.Wait()
	for _, row := range []struct {
		name  string
		ready func(*stack) *dockerStack
		test  func(*dockerStack)
	}{
		{"Made", func(s *stack) *dockerStack { return s.onStandin(t, 300*time.Millisecond) }, (*dockerStack).standbyMadeThroughFaults},
		{"Claimed", func(s *stack) *dockerStack { return s.onStandin(t, 300*time.Millisecond) }, (*dockerStack).claimedThroughFaults},
		{"Outages", func(s *stack) *dockerStack {
			m = standin.NewMariaDB(t)
			return s.onSmallDisk(t)
		}, func(s *dockerStack) { s.outagesInClaims(m) }},
	} {
		s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
		d := row.ready(s)
		rows.Go(func() {
			t.Run(row.name, func(t *testing.T) {
				d.t = t
				row.test(d)
			})
		})
	}
}

// nobodyWaits is how long a job may stand still that no signup waits for, after its worker was
// killed.
const nobodyWaits = takeover + 4*time.Second

// stocked builds a template and has n standbys made of it. It leaves no worker.
func (s *dockerStack) stocked(n int) (from *staged, shelf []reserved) {
	s.t.Helper()
	worker := s.worker()
	from = s.built()
	worker.end(syscall.SIGTERM)
	return from, s.restocked(n)
}

// restocked has the shelf filled up to n standbys. It leaves no worker.
func (s *dockerStack) restocked(n int) (shelf []reserved) {
	s.t.Helper()
	worker := s.worker(fmt.Sprintf("NEXUS_POOL=%d", n)) // it lists the templates at its start
	defer worker.end(syscall.SIGTERM)
	return s.shelved(n)
}

// making waits for the next job that makes a standby, to be held in a step.
func (s *dockerStack) making(step string) *staged {
	s.t.Helper()
	var found []reserved
	eventually(s.t, 30*time.Second, "a standby is made", func() bool {
		found = nil
		for _, r := range s.standbys() {
			if r.state == string(nexus.StandbyMaking) {
				found = append(found, r)
			}
		}
		return len(found) == 1
	})
	return &staged{Accepted: gen.Accepted{JobId: found[0].id, Site: found[0].name()}, step: step, let: func() {}}
}

// unshelved is a standby as Redis has the one that a job makes.
func (s *dockerStack) unshelved(j *staged) reserved {
	return reserved{id: j.JobId, db: s.db(j.JobId)}
}

// standbyGone checks that nothing of a standby is left anywhere but its job's record. Site is
// that of the job that had taken it, or empty.
func (s *dockerStack) standbyGone(r reserved, site string) {
	s.t.Helper()
	s.unlisted(r)
	if left := s.box.Left(s.t, nexus.SiteName(r.name()), r.db); len(left) > 0 {
		s.t.Errorf("left of %s: %v", r.name(), left)
	}
	if site == "" {
		return
	}
	if left := s.box.Left(s.t, nexus.SiteName(site), r.db); len(left) > 0 {
		s.t.Errorf("left of %s: %v", site, left)
	}
}

// unlisted waits until the registry has no such standby any more. A worker that was ended, or
// whose drop was fenced, leaves it to others for a minute, which the test does not wait for.
func (s *dockerStack) unlisted(r reserved) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, r.name()+" is gone from the registry", func() bool {
		s.rdb.Del(s.t.Context(), "{nexus}:reap:"+r.id)
		return s.standby(r.id).state == ""
	})
}

// noStandbys drops all standbys that are left, and checks that nothing of them is there, and
// that the databases are those of the tenants and templates.
func (s *dockerStack) noStandbys() {
	s.t.Helper()
	s.drained()
	eventually(s.t, 30*time.Second, "no job is due", func() bool {
		return fromRedis(s.t, s.rdb.ZCard(s.t.Context(), "{nexus}:due")) == 0
	})
	s.noShelf()
	if left := s.box.Sh(s.t, "ls -A sites/.nexus/standby sites/.nexus/trash sites/.nexus/intent | grep -v : || true; find sites/.nexus -name '*standby-*'"); left != "" {
		s.t.Errorf("left on the bench: %s", left)
	}
	ours := "nx" + s.install() + "%"
	if left := s.box.SQL(s.t, "SELECT name, kind FROM nexus.register WHERE install = '"+s.install()+"' AND kind NOT IN ('site', 'template')"); left != "" {
		s.t.Errorf("left in the register: %s", left)
	}
	have := s.box.SQL(s.t, "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '"+ours+"' ORDER BY 1")
	registered := s.box.SQL(s.t, "SELECT name FROM nexus.register WHERE install = '"+s.install()+"' ORDER BY 1")
	users := s.box.SQL(s.t, "SELECT DISTINCT User FROM mysql.global_priv WHERE User LIKE '"+ours+"' ORDER BY 1")
	if have != registered || users != registered {
		s.t.Errorf("databases\n%s\nusers\n%s\nregistered\n%s", have, users, registered)
	}
	if keys := s.box.Keys(s.t, "standby-"); len(keys) > 0 {
		s.t.Errorf("left in the bench's Redis: %v", keys)
	}
}

// standbyMadeThroughFaults cancels jobs that make standbys, kills workers in the middle and at
// the end of their steps, and kills one that drops a standby.
func (s *dockerStack) standbyMadeThroughFaults() {
	worker := s.worker()
	from := s.built()
	worker.end(syscall.SIGTERM)
	const one = "NEXUS_POOL=1"
	let := s.holdCopies(from)
	worker = s.worker(one)

	for _, step := range []string{"site", "shelve"} { // canceled in each
		j := s.making(step)
		s.copying(&staged{Accepted: j.Accepted, step: "site"}, "")
		if step == "shelve" {
			s.holdShelve(j, let)
			let = s.holdCopies(from)
		}
		s.cancel(j)
		j.let()
		if job := s.end(j.JobId, time.Minute); job.State != gen.StateCanceled {
			s.t.Errorf("a standby that was canceled in %s is %s: %+v", step, job.State, job.Error)
		}
		s.standbyGone(s.unshelved(j), "")
	}

	j := s.making("site")
	held := s.copying(j, "")
	next := s.worker(one)
	j.at = s.record(j.JobId)
	s.t.Logf("killed in a standby's copy: gone on after %s", s.takenOver([]*staged{j}, worker.send(syscall.SIGKILL), nobodyWaits))
	s.copying(j, held)
	worker, next = next, s.worker(one)
	j.let = let
	s.t.Logf("killed after a standby's copy: gone on after %s", s.takenOver([]*staged{j}, s.killBoundary(answered)(worker, []*staged{j}), nobodyWaits))
	s.madeOnce(j, map[string]int{"site": 3})
	worker = next

	let = s.holdCopies(from)
	taken := s.signup("taken", "jane@example.com") // so that the next one is made
	s.takes(taken, []reserved{{id: j.JobId, template: from.Site, db: s.db(j.JobId)}})
	j = s.making("shelve")
	s.copying(&staged{Accepted: j.Accepted, step: "site"}, "")
	s.holdShelve(j, let)
	next = s.worker(one)
	j.at = s.record(j.JobId)
	s.t.Logf("killed in shelve: gone on after %s", s.takenOver([]*staged{j}, worker.send(syscall.SIGKILL), nobodyWaits))
	s.shelving(j)
	worker, next = next, s.worker(one)
	s.t.Logf("killed after shelve: gone on after %s", s.takenOver([]*staged{j}, s.killBoundary(answered)(worker, []*staged{j}), nobodyWaits))
	s.madeOnce(j, map[string]int{"shelve": 3})
	s.killedInDropOf(next, s.shelved(1)[0])
	s.hasApps(taken)
	s.noStandbys()
	s.sound()
}

// holdCopies holds every copy of a template at a row, until let is called.
func (s *dockerStack) holdCopies(from *staged) (let func()) {
	s.t.Helper()
	return s.holdLock("BEGIN; SELECT name FROM " + s.dbOf(from) + ".tabRole WHERE name = 'System Manager' FOR UPDATE")
}

// holdShelve holds a job in shelve, by a lock on a table that is counted there. The job is
// held in its copy until then.
func (s *dockerStack) holdShelve(j *staged, copied func()) {
	s.t.Helper()
	table := "tabNotification"
	s.tableThere(s.db(j.JobId), table)
	j.let = s.holdLock("LOCK TABLES " + s.db(j.JobId) + ".`" + table + "` WRITE")
	copied()
	s.shelving(j)
}

// tableThere waits until a database has a table.
func (s *dockerStack) tableThere(db, table string) {
	s.t.Helper()
	eventually(s.t, 60*time.Second, table+" is there", func() bool {
		return s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '"+db+"' AND table_name = '"+table+"'") != "0"
	})
}

// shelving waits until a job is held in shelve.
func (s *dockerStack) shelving(j *staged) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, j.Site+" is held in shelve", func() bool {
		return s.there(&staged{Accepted: j.Accepted, step: "shelve"}) && s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '"+
			s.db(j.JobId)+"' AND info LIKE 'SELECT COUNT%' AND state LIKE 'Waiting%'") != "0"
	})
}

// madeOnce checks that a job has made a standby, that only these steps were started more than
// once, and that each was charged once. The standby is on the shelf, or was.
func (s *dockerStack) madeOnce(j *staged, starts map[string]int) {
	s.t.Helper()
	if job := s.end(j.JobId, time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("the standby is %s: %+v", job.State, job.Error)
	}
	for _, step := range s.record(j.JobId).Steps {
		want := 1
		if n, more := starts[string(step.Name)]; more {
			want = n
		}
		if step.Starts != want || step.Attempts != 1 {
			s.t.Errorf("%s of %s was started %d times and answered %d times", step.Name, j.Site, step.Starts, step.Attempts)
		}
	}
	if r := s.standby(j.JobId); r.state != string(nexus.StandbyShelved) || r.db != s.db(j.JobId) {
		s.t.Errorf("%s is %+v", j.Site, r)
	}
}

// killedInDropOf kills a worker while MariaDB is about to drop a standby's database. Another
// worker drops it.
func (s *dockerStack) killedInDropOf(worker *process, r reserved) {
	s.t.Helper()
	let := s.holdLock("LOCK TABLES " + r.db + ".tabUser READ")
	s.pool("drain")
	s.waitsForStatement("%DROP DATABASE%" + r.db + "%")
	worker.end(syscall.SIGKILL)
	lost := s.signup("lost", "jane@example.com") // it must not get the standby
	s.worker("NEXUS_POOL=1")
	s.onClone(lost)
	if state := s.standby(r.id).state; state != string(nexus.StandbyReaping) {
		s.t.Errorf("a standby that is dropped is %q", state)
	}
	s.rdb.Del(s.t.Context(), "{nexus}:reap:"+r.id) // as after a minute
	s.waitsForStatement("%DROP DATABASE%" + r.db + "%")
	let()
	s.standbyGone(r, "")
	s.hasApps(lost)
}

// holdFile holds a lock of a file in the container, until let is called.
func (s *dockerStack) holdFile(path string) (let func()) {
	s.t.Helper()
	out := &logs{}
	in, tell := io.Pipe()
	cmd := exec.Command("docker", "exec", "-i", s.box.Name, "sh", "-c", "exec flock "+path+" sh -c 'echo held; cat'")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 20*time.Second, path+" is held", func() bool { return out.count("held") > 0 })
	let = sync.OnceFunc(func() {
		_ = tell.Close()
		_ = cmd.Wait()
	})
	s.t.Cleanup(let)
	return let
}
