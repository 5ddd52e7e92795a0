//go:build service

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultStandIn kills and stops workers in the slow operations, on real MariaDB and
// Docker. Each row has its own stack.
func TestFaultStandIn(t *testing.T) {
	var rows sync.WaitGroup // run at once, since they mostly wait
	defer rows.Wait()
	for _, row := range []struct {
		name string
		pace time.Duration
		test func(*dockerStack)
	}{
		{"KilledAndStopped", 8 * time.Second, (*dockerStack).killedAndStopped}, // time for what is done while a step lasts
		{"DrainLimit", 8 * time.Second, (*dockerStack).drainLimit},
		{"UndoFailsForGood", 3 * time.Second, (*dockerStack).undoFailsForGood},
		{"KilledInShortSteps", 3 * time.Second, (*dockerStack).killedInShortSteps},
	} {
		s := newDockerStack(t, 0, row.pace, "NEXUS_APPS=erpnext")
		rows.Go(func() {
			t.Run(row.name, func(t *testing.T) {
				s.t = t
				row.test(s)
			})
		})
	}
}

// killedAndStopped kills a worker in new-site and install-app, stops the next one in
// new-site, kills the third in the drops of a rollback and of a teardown, and resumes
// the stopped one when all jobs are over.
func (s *dockerStack) killedAndStopped() {
	first := s.worker()
	apps := s.wanted("apps")
	s.percent(apps, 10)
	site := s.wanted("site")
	s.allTaken([]*staged{site})
	second := s.worker()
	s.percent(site, 25)
	s.percent(apps, 30)
	s.hurt("killed in new-site and install-app", takeover, []*staged{site, apps}, func() time.Time { return first.send(syscall.SIGKILL) })
	s.onceOnly(site)
	s.onceOnly(apps)

	asleep := s.wanted("site")
	s.allTaken([]*staged{asleep})
	third := s.worker()
	s.percent(asleep, 25)
	stopped := time.Now()
	s.hurt("stopped in new-site", takeover, []*staged{asleep}, func() time.Time { stopped = second.stop(); return stopped })
	s.onceOnly(asleep)

	s.killedInDrops(third, site, apps)

	<-time.After(time.Until(stopped.Add(30 * time.Second)))
	before := s.untouched(asleep)
	second.send(syscall.SIGCONT)
	eventually(s.t, 20*time.Second, "the run of the one that slept is fenced", func() bool { return second.log.count(fencedLine) == 1 })
	if changed := differences(before, s.untouched(asleep)); len(changed) > 0 {
		s.t.Errorf("the one that slept changed: %s", strings.Join(changed, "\n"))
	}
	s.keysOpenTheirOwn([]gen.Accepted{asleep.Accepted})
	s.sound()
}

// killedInDrops kills a worker while MariaDB is about to drop two databases: that of a
// job that was canceled in its second step, and that of a removed tenant.
func (s *dockerStack) killedInDrops(worker *process, leaves, other *staged) {
	undone := s.wanted("apps")
	s.percent(undone, 10)
	letUndo, letDown := s.busy(undone.JobId), s.busy(leaves.JobId)
	if _, err := s.client.Cancel(s.t.Context(), undone.JobId, nexus.Secret(undone.ClaimToken)); err != nil {
		s.t.Fatal(err)
	}
	undone.step = ""
	down := s.removal(leaves.Site, "drop")
	s.allTaken([]*staged{down})
	s.worker()
	eventually(s.t, 30*time.Second, "both databases are being dropped", func() bool {
		return s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DROP DATABASE%' AND state LIKE 'Waiting for%lock' AND (info LIKE '%"+
			s.db(undone.JobId)+"%' OR info LIKE '%"+s.db(leaves.JobId)+"%')") == "2"
	})
	s.hurt("killed in drops", takeover, []*staged{undone, down}, func() time.Time { return worker.send(syscall.SIGKILL) })
	letUndo()
	letDown()
	if job := s.end(undone.JobId, time.Minute); job.State != gen.StateCanceled {
		s.t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	s.gone(undone.Site, undone.JobId)
	s.onceOnly(down)
	s.gone(leaves.Site, leaves.JobId)
	s.keysOpenTheirOwn([]gen.Accepted{other.Accepted})
}

// wanted signs up for a site that is to be held in a step.
func (s *dockerStack) wanted(step string) *staged {
	s.t.Helper()
	name := fmt.Sprintf("%s-%s", strings.ReplaceAll(step, "_", "-"), strings.ToLower(string(nexus.NewJobID()[:6])))
	return &staged{Accepted: s.signup(name, name+"@example.com"), step: step}
}

// percent waits until a job's step has this progress and is not done.
func (s *dockerStack) percent(j *staged, percent int) {
	s.t.Helper()
	eventually(s.t, 60*time.Second, fmt.Sprintf("%s is at %d%% of %s", j.Site, percent, j.step), func() bool {
		return s.record(j.JobId).step(j.step).Percent >= percent
	})
	if !s.there(j) {
		s.t.Fatalf("%s is past %s", j.Site, j.step)
	}
}

// hurt injures a worker, and checks that others continue its jobs within a time.
func (s *dockerStack) hurt(what string, within time.Duration, jobs []*staged, do func() time.Time) {
	s.t.Helper()
	for _, j := range jobs {
		if j.at = s.record(j.JobId); !j.there(j.at) {
			s.t.Fatalf("%s: %s is not in %q", what, j.Site, j.step)
		}
	}
	s.t.Logf("%s: gone on after %s", what, s.takenOver(jobs, do(), within))
}

// busy keeps a table of a job's database in use by a session that nobody stops, until
// let is called.
func (s *dockerStack) busy(job string) (let func()) {
	s.t.Helper()
	const mark = "SELECT SLEEP(90) FROM "
	query := mark + s.db(job) + ".tabDocType LIMIT 1"
	var over sync.WaitGroup
	over.Go(func() {
		host, port, _ := strings.Cut(s.dbAddr(), ":")
		_ = exec.Command("docker", "exec", "-e", "MYSQL_PWD="+s.box.RootPassword, s.box.Name, "mariadb", "-h", host, "-P", port, "-u", "root", "-N", "-e", query).Run()
	})
	find := "SELECT COALESCE(MIN(id),0) FROM information_schema.processlist WHERE info LIKE '" + mark + s.db(job) + "%'"
	eventually(s.t, 20*time.Second, "the table is in use", func() bool { return s.box.SQL(s.t, find) != "0" })
	let = sync.OnceFunc(func() {
		_ = s.box.SQL(s.t, "KILL "+s.box.SQL(s.t, find))
		over.Wait()
	})
	s.t.Cleanup(let)
	return let
}

func (s *dockerStack) dbAddr() string {
	s.t.Helper()
	return s.box.Sh(s.t, `sed -n 's/.*"db_host": "\(.*\)",/\1/p; s/.*"db_port": \([0-9]*\).*/:\1/p' sites/common_site_config.json | tr -d '\n'`)
}

// untouched is everything that belongs to a job: record, events, folder, database.
func (s *dockerStack) untouched(j *staged) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for name, value := range s.record(j.JobId).Fields {
		out[name] = value
	}
	n, err := s.rdb.XLen(context.WithoutCancel(s.t.Context()), "{nexus}:events:"+j.JobId).Result()
	out["events"] = fmt.Sprint(n, err)
	out["folder"] = s.box.Sh(s.t, fmt.Sprintf("find sites/%s -name logs -prune -o -type f -exec sha256sum {} + | sort", j.Site))
	out["ours"] = s.box.Sh(s.t, "find sites/.nexus -type f ! -name '*.lock' ! -name '*.meta' -exec sha256sum {} + | sort")
	host, port, _ := strings.Cut(s.dbAddr(), ":")
	out["database"] = s.box.Sh(s.t, fmt.Sprintf("mariadb-dump -h %s -P %s -u root --skip-dump-date --single-transaction %s | sha256sum", host, port, s.db(j.JobId)))
	return out
}

// setPace sets how long operations take that begin from now on.
func (s *dockerStack) setPace(pace string) {
	s.t.Helper()
	s.box.Sh(s.t, `sed -i 's/"standin_pace": [0-9.]*/"standin_pace": `+pace+`/' sites/common_site_config.json`)
}

// drainLimit replaces the worker twice while install-app takes longer than the limit of
// a drain and another site waits. Each time the next worker repeats the operations, and
// neither the jobs nor the bench are charged.
func (s *dockerStack) drainLimit() {
	worker := s.worker()
	jobs := []*staged{s.wanted("apps"), s.wanted("apps")}
	for _, j := range jobs {
		eventually(s.t, 60*time.Second, "the site is being made", func() bool { return s.record(j.JobId).step("site").Percent >= 10 })
	}
	s.setPace("40")
	eventually(s.t, 60*time.Second, "the apps are being installed", func() bool {
		return !slices.ContainsFunc(jobs, func(j *staged) bool { return !s.there(j) })
	})
	jobs = append(jobs, s.wanted("site"))
	s.allTaken(jobs)
	for deploy := range 2 {
		next := s.worker()
		for _, j := range jobs {
			j.at = s.record(j.JobId)
		}
		told := worker.send(syscall.SIGTERM)
		if deploy == 1 {
			<-time.After(10 * time.Second) // the running operation has read its pace by now
			s.setPace("0.3")
		}
		longest := s.takenOver(jobs, told, 25*time.Second+takeover)
		<-worker.done
		s.t.Logf("deploy %d: taken over after %s, gone after %s with %d", deploy, longest, time.Since(told), worker.cmd.ProcessState.ExitCode())
		if failures := fromRedis(s.t, s.rdb.HGet(s.t.Context(), "{nexus}:bench:"+s.box.Name, "failures")); failures != "" && failures != "0" {
			s.t.Errorf("deploy %d: the bench was blamed for it %s times", deploy, failures)
		}
		worker = next
	}
	var accepted []gen.Accepted
	for _, j := range jobs {
		accepted = append(accepted, j.Accepted)
		if job := s.end(j.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
			s.t.Errorf("%s is %s after two deploys: %+v", j.Site, job.State, job.Error)
		}
		for _, step := range s.record(j.JobId).Steps {
			if step.Attempts != 1 || string(step.Name) == "apps" && j.step == "apps" && step.Starts != 3 {
				s.t.Errorf("%s: %s was started %d times and answered %d times", j.Site, step.Name, step.Starts, step.Attempts)
			}
		}
	}
	for what, n := range map[string]int{
		"a lease expired":      s.log.count("lease expired"),
		"a step failed":        s.log.count(`"step failed"`) - s.log.count(`"step failed"`, `"verdict":"leave"`),
		"a rollback started":   s.log.count("rollback started"),
		"the bench was paused": s.log.count("paused by its breaker"),
	} {
		if n > 0 {
			s.t.Errorf("two deploys, and %d times %s", n, what)
		}
	}
	s.keysOpenTheirOwn(accepted)
	s.sound()
}

// undoFailsForGood stops the bench's Redis during an undo until the job is parked. It is
// resumed when the bench is mended. Eight attempts with a backoff of up to a minute take
// one to two minutes.
func (s *dockerStack) undoFailsForGood() {
	addr := freeAddr(s.t)
	s.worker("NEXUS_METRICS_ADDR=" + addr)
	j := s.wanted("apps")
	s.percent(j, 10)
	s.box.Sh(s.t, `cp sites/common_site_config.json sites/kept && sed -i 's/"redis_queue": "[^"]*"/"redis_queue": "redis:\/\/127.0.0.1:1"/' sites/common_site_config.json`)
	if _, err := s.client.Cancel(s.t.Context(), j.JobId, nexus.Secret(j.ClaimToken)); err != nil {
		s.t.Fatal(err)
	}
	if job := s.end(j.JobId, 4*time.Minute); job.State != gen.StateRollbackFailed || job.Error.Code != string(nexus.UndoFailed) ||
		value(job.Error.Step) != "site" || !strings.Contains(value(job.Error.Action), "operator") {
		s.t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	if tries := s.record(j.JobId).step("site").Undos; tries != 8 {
		s.t.Errorf("parked after %d tries", tries)
	}
	s.parked(j.Accepted)
	counted := func() float64 { return s.metric(addr, "nexus_jobs_ended_total", `state="rollback_failed"`) }
	eventually(s.t, 10*time.Second, "the parked job is counted", func() bool { return counted() > 0 })
	if n := counted(); n != 1 {
		s.t.Errorf("%v parked jobs were counted", n)
	}
	s.box.Sh(s.t, "mv sites/kept sites/common_site_config.json")
	if out, errs, code := s.nexus("", "jobs", "resume", j.JobId); code != 0 {
		s.t.Fatalf("nexus jobs resume: exit %d\n%s%s", code, out, errs)
	}
	s.resumed(j.Accepted, gen.StateCanceled, nexus.CodeCanceled)
	s.gone(j.Site, j.JobId)
	if status := s.ping(j.Site); status != http.StatusNotFound {
		s.t.Errorf("the site answers with %d", status)
	}
	s.sound()
}
