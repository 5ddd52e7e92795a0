//go:build service

package e2e_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// absent holds that a database, its user and its entry in the register are gone,
// and do not come back: what a dead client asked for may still be under way.
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

// waitsForStatement waits until a statement of ours stands still in MariaDB.
func (s *dockerStack) waitsForStatement(like string) {
	s.t.Helper()
	eventually(s.t, 60*time.Second, "a statement like "+like+" waits", func() bool {
		return s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '"+like+"' AND state LIKE 'Waiting%'") != "0"
	})
}

// TestOutageMariaDB stops, kills and blocks the bench's database in the middle of
// its work: it is tried again, then goes on or is undone, and no undo passes the
// statement that it undoes.
func TestOutageMariaDB(t *testing.T) {
	m := newMaria(t)
	s, _ := frailStack(t, "", "NEXUS_APPS=erpnext")
	d := s.onStandin(t, 2*time.Second)
	s.startWorkers(1)

	t.Run("stopped in new-site", func(t *testing.T) {
		a := s.signup("stopped", "jane@example.com")
		d.running("new-site stopped")
		m.stop()
		eventually(t, 60*time.Second, "the failure is journalled", func() bool {
			r := s.record(a.JobId)
			return r.State == nexus.Waiting || r.State == nexus.RollingBack
		})
		m.start()
		d.clean("stopped in new-site", a)
	})
	t.Run("killed in the middle of DDL", func(t *testing.T) {
		a := s.signup("killed", "jane@example.com")
		eventually(t, 60*time.Second, "the app's tables are being made", func() bool {
			n, _ := strconv.Atoi(m.client("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='" + d.db(a.JobId) + "'"))
			return n > 110 // the framework has 92
		})
		m.kill()
		m.start()
		d.clean("killed in install-app", a)
	})
	t.Run("out of connections", func(t *testing.T) {
		m.client("SET GLOBAL max_connections = 10")
		var lets []func()
		for range 10 {
			lets = append(lets, d.holdLock("SELECT 1"))
		}
		a := s.signup("crowded", "jane@example.com")
		eventually(t, 60*time.Second, "the failure is journalled", func() bool {
			r := s.record(a.JobId)
			return r.State == nexus.Waiting || r.State == nexus.RollingBack
		})
		if r := s.record(a.JobId); r.Fields["waitingFor"] != "bench" && r.State == nexus.Waiting {
			t.Errorf("it waits for %q", r.Fields["waitingFor"])
		}
		for _, let := range lets {
			let()
		}
		m.client("SET GLOBAL max_connections = 151")
		d.clean("out of connections", a)
	})
	t.Run("the name's lock is somebody else's", func(t *testing.T) {
		a := s.signup("held", "jane@example.com")
		d.whole(a.JobId, nil)
		let := d.holdLock("SELECT GET_LOCK('nexus:" + d.db(a.JobId) + ":0', 0)")
		down, err := s.client.Delete(t.Context(), a.Site, true)
		if err != nil {
			t.Fatal(err)
		}
		if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded || s.record(down.Id).step("drop").Attempts != 1 {
			t.Errorf("the teardown is %s after %d attempts: %+v", job.State, s.record(down.Id).step("drop").Attempts, job.Error)
		}
		let()
		d.gone(a.Site, a.JobId)
	})
	t.Run("an undo behind its deed", func(*testing.T) { s.undoBehindItsDeed(d, m) })
	t.Run("a worker dead before its deed is done", func(t *testing.T) {
		let := d.holdLock("FLUSH TABLES WITH READ LOCK")
		a := s.signup("orphan", "jane@example.com")
		d.waitsForStatement("%nexus.register%")
		s.workers[len(s.workers)-1].end(os.Kill)
		s.startWorkers(1)
		eventually(t, 30*time.Second, "another worker goes on", func() bool { return s.record(a.JobId).step("site").Starts == 2 })
		d.waitsForStatement("%nexus.register%")
		let()
		d.whole(a.JobId, nil)
	})
	s.workers[len(s.workers)-1].end(os.Interrupt)
	d.idle(0)
}

// undoBehindItsDeed cancels a job while what makes its database stands still.
func (s *stack) undoBehindItsDeed(d *dockerStack, m *mariaServer) {
	let := d.holdLock("FLUSH TABLES WITH READ LOCK")
	a := s.signup("undone", "jane@example.com")
	d.waitsForStatement("%nexus.register%")
	if _, err := s.client.Cancel(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); err != nil {
		s.t.Fatal(err)
	}
	s.until(a.JobId, nexus.RollingBack, "")
	d.waitsForStatement("DROP DATABASE%")
	if n := m.client("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%register%' AND state LIKE 'Waiting%'"); n != "0" {
		s.t.Errorf("%s statements of the deed still wait beside its undo", n)
	}
	let()
	if job := s.end(a.JobId, 2*time.Minute); job.State != gen.StateCanceled {
		s.t.Errorf("the job is %s: %+v", job.State, job.Error)
	}
	d.absent(d.db(a.JobId))
	d.gone(a.Site, a.JobId)
}
