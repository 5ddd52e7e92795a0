//go:build service

package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// absent checks that a database, its user and its entry in the register are gone, and
// stay so: a statement of a dead client may still run.
func (s *dockerStack) absent(db string) {
	s.t.Helper()
	query := "SELECT (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name='" + db + "') + " +
		"(SELECT COUNT(*) FROM mysql.global_priv WHERE User='" + db + "') + (SELECT COUNT(*) FROM nexus.register WHERE name='" + db + "')"
	until, tick := time.After(3*time.Second), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		if s.box.SQL(s.t, query) != "0" {
			s.t.Errorf("%s came back after it was undone", db)
			return
		}
		select {
		case <-until:
			return
		case <-tick.C:
		}
	}
}

// waitsForStatement waits until a statement of this stack is blocked in MariaDB. If none
// is, it shows what runs there, and the last warnings of the stack's processes.
func (s *dockerStack) waitsForStatement(like string) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Log(s.box.SQL(s.t, "SHOW FULL PROCESSLIST") + "\n" + strings.Join(s.log.warnings(10), "\n"))
		}
	}()
	eventually(s.t, 60*time.Second, "a statement like "+like+" waits", func() bool {
		return s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE CONCAT_WS(' ', db, info) LIKE '"+like+"' AND state LIKE 'Waiting%'") != "0"
	})
}

// TestOutageMariaDB stops, kills, overloads and blocks the bench's database in the
// middle of a new site, of an app's installation and of a drop. The job retries, then
// goes on or is rolled back, and no undo runs before the statement that it undoes has
// ended.
func TestOutageMariaDB(t *testing.T) {
	besideOneAnother(t, append([]string{"user"}, slowSteps...), func(step string) func(*testing.T) {
		m := standin.NewMariaDB(t)
		s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
		d := s.onStandin(t, usualPace)
		s.startWorkers(1)
		return func(t *testing.T) {
			d.t = t
			if step != "user" {
				d.inTurn(t, step, append(d.ofDatabase(m), d.locked(m)[step]...))
			}
			more := d.more(t, m)[step]
			for _, name := range slices.Sorted(maps.Keys(more)) {
				t.Run(name, func(t *testing.T) { d.t = t; more[name]() })
				d.t = t
			}
			d.atRest()
		}
	})
}

// ofDatabase are the outages of a whole database server.
func (s *dockerStack) ofDatabase(m *standin.MariaDB) []outage {
	return []outage{
		{name: "stopped", hurt: func(j *staged) {
			m.Stop(s.t)
			s.waits(j)
			j.let()
			m.Start(s.t)
		}},
		{name: "frozen", hurt: func(j *staged) {
			m.Freeze(s.t)
			s.waits(j, "cannot be used just now")
			pass(20 * time.Second) // the job has retried without success
			m.Thaw(s.t)
		}},
		{name: "killed in DDL", hurt: func(j *staged) { s.databaseKilled(m, j) }, early: true},
		{name: "out of connections", hurt: func(j *staged) { s.databaseCrowded(m, j) }},
	}
}

// locked are locks of others that block a step for longer than a session waits: 30 s for
// the runner; for Frappe as long as the server is configured, here the same.
func (s *dockerStack) locked(m *standin.MariaDB) map[string][]outage {
	return map[string][]outage{
		"site": {{name: "lock held", hurt: func(j *staged) { s.lockHeld(j, "FLUSH TABLES WITH READ LOCK") }}},
		"apps": {
			{name: "lock held", slow: true, hurt: func(j *staged) { s.lockHeld(j, "LOCK TABLES "+s.dbOf(j)+".tabDocType READ") }},
			{name: "lock kept", slow: true, hurt: func(j *staged) {
				j.let = s.holdLock("LOCK TABLES " + s.dbOf(j) + ".tabDocType READ")
				s.lockKept(m, j)
			}},
		},
		"drop": {{name: "lock held", hurt: func(j *staged) { s.lockHeld(j, "") }}},
	}
}

// more are the checks of a step's stack beside the outages. T is the test of the stack,
// which outlives each of them.
func (s *dockerStack) more(t *testing.T, m *standin.MariaDB) map[string]map[string]func() {
	return map[string]map[string]func(){
		"site": {"an undo behind its deed": func() { s.undoBehindItsDeed(s, m) },
			"a worker dead before its deed": func() { s.deadBeforeItsDeed(t) }},
		"drop": {"the name's lock": s.nameInUse},
		"user": {"locks held": s.locksHeldInTenant, "lock kept": func() { s.lockKeptInTenant(m) },
			"frozen": func() { s.frozenInTenant(m) }},
	}
}

// databaseKilled is a power cut in the middle of DDL.
func (s *dockerStack) databaseKilled(m *standin.MariaDB, j *staged) {
	s.t.Helper()
	least := map[string]int{"site": 10, "apps": 110, "drop": 20}[j.step] // of 94 for the framework, 161 with ERPNext
	if j.step == "drop" {
		s.middle(j)
		j.let()
	}
	eventually(s.t, 60*time.Second, "tables are being made, or dropped", func() bool {
		n, _ := strconv.Atoi(m.SQL(s.t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='"+s.dbOf(j)+"'"))
		return n >= least && n < 150 || s.record(j.JobId).step(j.step).State == nexus.StepDone // later, rather than never
	})
	m.Kill(s.t)
	m.Start(s.t)
}

// databaseCrowded uses all connections of the server until the runner has noticed.
func (s *dockerStack) databaseCrowded(m *standin.MariaDB, j *staged) {
	s.t.Helper()
	var lets []func()
	for range 10 {
		lets = append(lets, holdLock(s.t, m.Addr, s.box.RootPassword, "SELECT 1"))
	}
	m.SQL(s.t, "SET GLOBAL max_connections = 10")
	j.let()
	s.waits(j, "cannot be used just now")
	for _, let := range lets {
		let()
	}
	m.SQL(s.t, "SET GLOBAL max_connections = 151")
}

// lockHeld holds a lock until the step has failed by it and the job waits; empty: it is
// held already.
func (s *dockerStack) lockHeld(j *staged, statement string) {
	s.t.Helper()
	if statement != "" {
		j.let = s.holdLock(statement)
	}
	since := time.Now()
	s.waits(j, "Another session holds a lock")
	if held := time.Since(since); held < 20*time.Second {
		s.t.Errorf("the lock was given up after %s", held)
	}
}

// lockKept keeps a job's lock until the step's attempts are used up.
func (s *dockerStack) lockKept(m *standin.MariaDB, j *staged) {
	s.t.Helper()
	m.SQL(s.t, "SET GLOBAL lock_wait_timeout = 3")
	s.until(j.JobId, nexus.RollingBack, "")
	s.waitsForStatement("%DROP DATABASE%" + s.dbOf(j) + "%")
	j.let()
	m.SQL(s.t, "SET GLOBAL lock_wait_timeout = 30")
	job := s.end(j.JobId, 2*time.Minute)
	if job.State != gen.StateFailed || value(job.Error.Step) != j.step || job.Error.Message == "" || !strings.HasPrefix(value(job.Error.Action), "Nothing was left behind.") {
		s.t.Errorf("%s is %s: %+v", j.Site, job.State, job.Error)
	}
	s.t.Logf("%s: %s %s", job.Error.Code, job.Error.Message, value(job.Error.Action))
}

// userLock blocks a new user, and not the installation of an app.
func (s *dockerStack) userLock(j *staged) string {
	return "LOCK TABLES " + s.dbOf(j) + ".`tabNotification Settings` READ"
}

// beforeUser signs up for a site, and takes the lock that blocks its user.
func (s *dockerStack) beforeUser(name string) (j *staged, let func()) {
	s.setPace("8") // time for it while the apps are installed
	j = s.begun("apps", name, false)
	s.middle(j)
	let = s.holdLock(s.userLock(j))
	s.setPace(fmt.Sprint(usualPace.Seconds()))
	return j, let
}

// locksHeldInTenant holds locks that block the user, then the plan.
func (s *dockerStack) locksHeldInTenant() {
	j, letUser := s.beforeUser("held")
	s.waitsForStatement("%INTO%tabNotification Settings%")
	s.startedAgain(&staged{Accepted: j.Accepted, step: "user"}, 1)
	letPlan := s.holdLock("LOCK TABLES " + s.dbOf(j) + ".tabSingles READ")
	letUser()
	s.waitsForStatement("%tabSingles%")
	s.startedAgain(&staged{Accepted: j.Accepted, step: "plan"}, 1)
	letPlan()
	s.whole(j.JobId, map[string]int{"apps": 1, "user": 2, "plan": 2})
	s.over(j)
}

// frozenInTenant freezes the server in the middle of a short step, for longer than the
// attempts of the step would last.
func (s *dockerStack) frozenInTenant(m *standin.MariaDB) {
	j, let := s.beforeUser("frozen")
	s.waitsForStatement("%INTO%tabNotification Settings%")
	m.Freeze(s.t)
	j.step = "user"
	s.waits(j)
	pass(90 * time.Second)
	m.Thaw(s.t)
	let()
	s.whole(j.JobId, map[string]int{"apps": 1, "user": 3})
	s.over(j)
}

// lockKeptInTenant holds a lock that blocks the user until the attempts are used up.
func (s *dockerStack) lockKeptInTenant(m *standin.MariaDB) {
	j, let := s.beforeUser("kept")
	j.step, j.let = "user", let
	s.lockKept(m, j)
	s.over(j)
	if n := s.record(j.JobId).step("user").Attempts; n != 4 {
		s.t.Errorf("given up after %d attempts", n)
	}
}

// nameInUse holds the lock that stands for a database's name.
func (s *dockerStack) nameInUse() {
	a := s.signup("in-use", "jane@example.com")
	s.whole(a.JobId, nil)
	let := s.holdLock("SELECT GET_LOCK((SELECT CONCAT('nexus:', LEFT(SHA2(CONCAT(secret, '" + s.db(a.JobId) + ":0'), 256), 48)) FROM nexus.facts), 0)")
	down := s.removal(a.Site, "drop")
	if job := s.end(down.JobId, time.Minute); job.State != gen.StateSucceeded || s.record(down.JobId).step("drop").Attempts != 1 {
		s.t.Errorf("the teardown is %s after %d attempts: %+v", job.State, s.record(down.JobId).step("drop").Attempts, job.Error)
	}
	let()
	s.gone(a.Site, a.JobId)
}

// deadBeforeItsDeed kills a worker while the statement that makes its database is
// blocked. The next worker runs until the stack's test ends.
func (s *dockerStack) deadBeforeItsDeed(stack *testing.T) {
	let := s.holdLock("FLUSH TABLES WITH READ LOCK")
	a := s.signup("orphan", "jane@example.com")
	s.waitsForStatement("%nexus.register%")
	s.workers[len(s.workers)-1].end(os.Kill)
	row := s.t
	s.t = stack
	s.startWorkers(1)
	s.t = row
	eventually(s.t, 30*time.Second, "another worker goes on", func() bool { return s.record(a.JobId).step("site").Starts == 2 })
	s.waitsForStatement("%nexus.register%")
	let()
	s.whole(a.JobId, nil)
}

// undoBehindItsDeed cancels a job while the statement that makes its database is
// blocked.
func (s *stack) undoBehindItsDeed(d *dockerStack, m *standin.MariaDB) {
	let := d.holdLock("FLUSH TABLES WITH READ LOCK")
	a := s.signup("undone", "jane@example.com")
	d.waitsForStatement("%nexus.register%")
	if _, err := s.client.Cancel(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); err != nil {
		s.t.Fatal(err)
	}
	s.until(a.JobId, nexus.RollingBack, "")
	d.waitsForStatement("%DROP DATABASE%")
	if n := m.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%register%' AND state LIKE 'Waiting%'"); n != "0" {
		s.t.Errorf("%s statements of the deed still wait beside its undo", n)
	}
	let()
	if job := s.end(a.JobId, 2*time.Minute); job.State != gen.StateCanceled {
		s.t.Errorf("the job is %s: %+v", job.State, job.Error)
	}
	d.absent(d.db(a.JobId))
	d.gone(a.Site, a.JobId)
}
