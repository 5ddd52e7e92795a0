//go:build service

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// fenceSeen is the highest token that the sandbox has seen for the database of
// the site that a job made.
func (s *stack) fenceSeen(id string) int64 {
	s.t.Helper()
	install := nexus.InstallID(fromRedis(s.t, s.rdb.Get(context.WithoutCancel(s.t.Context()), "{nexus}:install")))
	text, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "fence", nexus.JobID(id).Database(install)))
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return n
}

// ahead sets the last token an hour ahead, as a Redis whose clock is ahead would, and
// returns it.
func (s *stack) ahead() int64 {
	s.t.Helper()
	at := time.Now().Add(time.Hour).UnixMicro()
	if err := s.rdb.Set(context.WithoutCancel(s.t.Context()), "{nexus}:gen", at, 0).Err(); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// rescued kills a worker in the middle of a job and waits until another one has the job.
func (s *stack) rescued(worker *process, id string) {
	s.t.Helper()
	before := s.until(id, nexus.Running, "")
	worker.end(os.Kill)
	eventually(s.t, 30*time.Second, "another worker goes on", func() bool { return s.record(id).Gen != before.Gen })
}

// replica starts a replica of a Redis, and returns it with a client.
func (s *stack) replica(of *redisServer) (*redisServer, *redis.Client) {
	s.t.Helper()
	r := newRedis(s.t, s.log, s.t.TempDir(), "--replicaof", strings.Replace(of.addr, ":", " ", 1))
	rdb := redis.NewClient(&redis.Options{Addr: r.addr})
	s.t.Cleanup(func() { _ = rdb.Close() })
	eventually(s.t, 60*time.Second, "the replica follows", func() bool {
		return strings.Contains(rdb.Info(s.t.Context(), "replication").Val(), "master_link_status:up")
	})
	return r, rdb
}

// cutOff ends the replication, once the replica has the owners of these jobs.
func (s *stack) cutOff(replica *redis.Client, jobs ...string) {
	s.t.Helper()
	for _, id := range jobs {
		eventually(s.t, 30*time.Second, "the replica knows the job's owner", func() bool {
			return replica.HGet(s.t.Context(), "{nexus}:job:"+id, "gen").Val() == s.record(id).Gen
		})
	}
	if err := replica.Do(s.t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		s.t.Fatal(err)
	}
}

// TestOutageFailover fails over to a replica that lacks the last writes. Jobs that it
// has succeed, although the bench has seen higher tokens. A job that it lacks is started
// again by the same request.
func TestOutageFailover(t *testing.T) {
	t.Parallel()
	f := forward(t, "tcp", "127.0.0.1:0", "127.0.0.1:1")
	s, old := frailStack(t, f.addr(), "NEXUS_SANDBOX_DELAY=2500ms", "NEXUS_APPS=erpnext", "NEXUS_CONCURRENCY=1")
	f.to(old.addr)
	s.onSandbox()
	replica, second := s.replica(old)
	first := s.worker()
	known := s.signup("known", "known@example.com")
	s.until(known.JobId, nexus.Running, "site")
	s.cutOff(second, known.JobId)
	s.worker()
	high := s.ahead()
	s.rescued(first, known.JobId)
	eventually(t, 30*time.Second, "the bench has seen the higher token", func() bool { return s.fenceSeen(known.JobId) > high })
	seen := s.fenceSeen(known.JobId)
	lost := s.signup("lost", "lost@example.com")

	f.to(replica.addr)
	old.kill()
	s.rdb = second
	if now := s.gen(); now >= high {
		t.Fatalf("the replica mints from %d: this test would show nothing", now)
	}
	eventually(t, 30*time.Second, "the lost job is unknown", func() bool { return s.call("GET", "/jobs/"+lost.JobId, "").status == http.StatusNotFound })
	again := s.signup("lost", "lost@example.com")
	if again.JobId == lost.JobId || again.Site != lost.Site {
		t.Errorf("the same request again: %+v, was %+v", again, lost)
	}
	for _, a := range []gen.Accepted{known, again} {
		if job := s.end(a.JobId, 90*time.Second); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	if now := s.fenceSeen(known.JobId); now <= seen {
		t.Errorf("the bench's fence went from %d to %d", seen, now)
	}
	if now := s.gen(); now <= seen {
		t.Errorf("tokens are minted from %d, below the %d that the bench has seen", now, seen)
	}
	s.keysOpenTheirOwn([]gen.Accepted{known, again})
	s.sound()
}

// fenceSeen is the highest token that the bench has seen for the database of the
// site that a job made.
func (s *dockerStack) fenceSeen(id string) int64 {
	s.t.Helper()
	var holder struct {
		Gen int64 `json:",string"`
	}
	if err := json.Unmarshal([]byte(s.box.Sh(s.t, "cat sites/.nexus/fence/"+s.db(id)+".gen")), &holder); err != nil {
		s.t.Fatal(err)
	}
	return holder.Gen
}

// TestOutageFailoverOnBench fails over to a replica that mints lower tokens while the
// stand-in makes a site and installs an app. The runner's fence refuses, the worker
// raises its token and goes on, and nothing is made twice.
func TestOutageFailoverOnBench(t *testing.T) {
	f := forward(t, "tcp", "127.0.0.1:0", "127.0.0.1:1")
	s, old := frailStack(t, f.addr(), "NEXUS_APPS=erpnext")
	f.to(old.addr)
	d := s.onStandin(t, 6*time.Second, "NEXUS_DB_ACCOUNT="+newAccount())
	t.Cleanup(d.dropAccount)
	replica, second := s.replica(old)
	first := s.worker()
	apps := d.wanted("apps")
	d.percent(&staged{Accepted: apps.Accepted, step: "site"}, 25)
	d.setPace("20") // of what begins now: both last until the failover
	site := d.wanted("site")
	jobs := []*staged{apps, site}
	d.middle(apps)
	d.middle(site)
	s.cutOff(second, apps.JobId, site.JobId)
	high, seen := s.ahead(), map[*staged]int64{}
	s.worker()
	for _, j := range jobs {
		j.at = s.record(j.JobId)
	}
	s.takenOver(jobs, first.send(os.Kill), takeover)
	for _, j := range jobs {
		eventually(t, 30*time.Second, "the bench has seen the higher token", func() bool { return d.fenceSeen(j.JobId) > high })
		seen[j] = d.fenceSeen(j.JobId)
		if !s.there(j) {
			t.Fatalf("%s is past %s", j.Site, j.step)
		}
	}
	d.setPace("3") // of the next attempts

	f.to(replica.addr)
	old.kill()
	s.rdb = second
	if now := s.gen(); now >= high {
		t.Fatalf("the replica mints from %d: this test would show nothing", now)
	}
	for _, j := range jobs {
		d.whole(j.JobId, nil)
		if n := s.log.count(j.JobId, `"code":"fenced"`, `"verdict":"raise"`); n == 0 {
			t.Errorf("%s: the fence refused nobody", j.Site)
		}
		if now := d.fenceSeen(j.JobId); now <= seen[j] {
			t.Errorf("%s: the bench's fence went from %d to %d", j.Site, seen[j], now)
		}
		if now := s.gen(); now < d.fenceSeen(j.JobId) {
			t.Errorf("tokens are minted from %d, below the %d that the bench has seen", now, d.fenceSeen(j.JobId))
		}
		if got := d.box.SQL(t, fmt.Sprintf("SELECT COUNT(*), SUM(name='%s'), SUM(api_key<>'') FROM %s.tabUser WHERE enabled=1 AND user_type='System User' AND name NOT IN ('Administrator','Guest')",
			j.Site[:strings.Index(j.Site, ".")]+"@example.com", d.db(j.JobId))); got != "1\t1\t1" {
			t.Errorf("%s: users, this user, keys: %s", j.Site, got)
		}
	}
	if n := d.box.SQL(t, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'nx"+d.install()+"%'"); n != "2" {
		t.Errorf("two sites have %s databases", n)
	}
	s.keysOpenTheirOwn([]gen.Accepted{apps.Accepted, site.Accepted})
	d.idle(1)
	s.sound()
}

// TestOutageNameAgain makes a site with two rescues, removes it, and makes one of the
// same name again. The tokens of the first job do not fence the second.
func TestOutageNameAgain(t *testing.T) {
	t.Parallel()
	s, _ := frailStack(t, "", "NEXUS_SANDBOX_DELAY=2s", "NEXUS_APPS=erpnext")
	s.onSandbox()
	one := s.worker()
	a := s.signup("again", "again@example.com")
	s.until(a.JobId, nexus.Running, "") // taken by the first worker
	two := s.worker()
	s.rescued(one, a.JobId)
	s.worker()
	s.rescued(two, a.JobId)
	if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	down, err := s.client.Delete(t.Context(), a.Site, true)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("the teardown is %s: %+v", job.State, job.Error)
	}
	if n := s.log.count(`"lease expired, job rescued"`, a.JobId); n != 2 {
		t.Errorf("rescued %d times", n)
	}
	s.nothing(a.Site)
	b := s.accepted(form(t, "again", "again@example.com", "Passw0rdXyz"), "another-key")
	if job := s.end(b.JobId, time.Minute); job.State != gen.StateSucceeded || b.Site != a.Site {
		t.Errorf("%s again is %s: %+v", b.Site, job.State, job.Error)
	}
	s.keysOpenTheirOwn([]gen.Accepted{b})
	s.sound()
}

// TestOutageBackup restores an old backup of Redis. A job that was running then
// succeeds, although the bench has seen higher tokens since. A site that the backup does
// not know is not changed. A tenant that it knows and that is gone can be removed.
func TestOutageBackup(t *testing.T) {
	t.Parallel()
	s, r := frailStack(t, "", "NEXUS_SANDBOX_DELAY=700ms", "NEXUS_APPS=erpnext")
	s.onSandbox()
	worker := s.worker()
	removed := s.signup("removed", "removed@example.com")
	if job := s.end(removed.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s is %s", job.Site, job.State)
	}
	running := s.signup("running", "running@example.com")
	s.until(running.JobId, nexus.Running, "site")
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(s.dir, "appendonlydir"))); err != nil {
		t.Fatal(err)
	}

	s.end(running.JobId, time.Minute)
	high := s.ahead()
	rotated, err := s.client.RotateKey(t.Context(), running.Site, "rotate")
	if err != nil {
		t.Fatal(err)
	}
	down, err := s.client.Delete(t.Context(), removed.Site, true)
	if err != nil {
		t.Fatal(err)
	}
	unknown := s.signup("unknown", "unknown@example.com")
	for _, id := range []string{rotated.JobId, down.Id, unknown.JobId} {
		if job := s.end(id, time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("%s of %s is %s: %+v", job.Kind, job.Site, job.State, job.Error)
		}
	}
	if seen := s.fenceSeen(running.JobId); seen <= high {
		t.Fatalf("the bench has seen %d: this test would show nothing", seen)
	}
	worker.end(os.Interrupt)
	theirs, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "sites", unknown.Site))
	if err != nil {
		t.Fatal(err)
	}

	r.kill()
	folder := filepath.Join(s.dir, "appendonlydir")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	r.start(s.log)
	s.worker()
	if job := s.end(running.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("what was running is %s: %+v", job.State, job.Error)
	}
	down, err = s.client.Delete(t.Context(), removed.Site, true)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("the removal of what is gone is %s: %+v", job.State, job.Error)
	}
	taken := s.accepted(form(t, "unknown", "other@example.com", "Passw0rdXyz"), "another-key")
	if job := s.end(taken.JobId, time.Minute); job.State != gen.StateFailed || job.Error.Code != string(nexus.Conflict) {
		t.Errorf("a signup over a site that the registry has forgotten is %s: %+v", job.State, job.Error)
	}
	if now, err := os.ReadFile(filepath.Join(s.dir, "sandbox", "sites", unknown.Site)); err != nil || string(now) != string(theirs) {
		t.Errorf("the forgotten site was touched: %v\n%s\n%s", err, theirs, now)
	}
	rotated, err = s.client.RotateKey(t.Context(), running.Site, "rotate-again")
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(rotated.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("a job on it afterwards is %s: %+v", job.State, job.Error)
	}
	if n := s.log.count(`"fenced"`); n > 20 {
		t.Errorf("fenced %d times", n)
	}
	if out, errs, code := s.nexus("", "doctor"); code != 1 || strings.Count(out, "✗") != 1 || !strings.Contains(out, unknown.Site) {
		t.Errorf("nexus doctor finds more than the forgotten site: exit %d\n%s%s", code, out, errs)
	}
}
