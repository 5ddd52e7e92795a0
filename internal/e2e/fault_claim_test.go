//go:build service

package e2e_test

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// claimedThroughFaults kills workers and cancels jobs around a claim, gives one standby to two
// jobs, and takes away what the registry or the bench knows of standbys.
func (s *dockerStack) claimedThroughFaults() {
	s.country = "US"
	from, shelf := s.stocked(14)
	worker := s.claimsKilled(s.worker(), shelf)
	for _, hold := range []func(reserved) *staged{s.claiming, s.naming} {
		s.hurtInClaims(shelf, hold, []outage{{name: "container restarted", hurt: s.restarted}, {name: "runner killed", hurt: func(j *staged) {
			starts := s.record(j.JobId).step(j.step).Starts
			s.box.Sh(s.t, "pgrep -f '[r]unner.py' | xargs kill -9")
			s.startedAgain(j, starts)
		}}})
	}
	s.claimsCanceled(shelf)
	worker.end(syscall.SIGTERM)
	for _, stage := range []struct {
		name string
		size int
		test func([]reserved)
	}{{"handed over before", 3, s.handedOverBefore}, {"two jobs, one standby", 3, s.twoJobsOneStandby}, {"shelf lost", 3, s.shelfLost},
		{"former versions", 2, s.formerVersions}, {"ghosts", 5, s.ghosts}, {"upgraded", 3, s.upgraded}} {
		began := time.Now()
		stage.test(s.restocked(stage.size))
		s.t.Logf("%s: after %s", stage.name, time.Since(began).Round(time.Second))
	}
	s.noStandbys()
	if found, _ := s.doctor(); len(found) > 1 || len(found) == 1 && found[0] != "unusable_template "+from.Site {
		s.t.Errorf("the doctor finds %v", found)
	}
	s.doctor("--fix") // unless a worker that found it unusable for a minute was faster
	s.sound()
}

// next is the standby that the next signup gets.
func (s *stack) next(shelf []reserved) reserved {
	s.t.Helper()
	for _, key := range fromRedis(s.t, s.rdb.Keys(s.t.Context(), "{nexus}:shelf:*")) {
		for _, id := range fromRedis(s.t, s.rdb.ZRange(s.t.Context(), key, 0, 0)) {
			if i := slices.IndexFunc(shelf, func(r reserved) bool { return r.id == id }); i >= 0 {
				return shelf[i]
			}
		}
	}
	s.t.Fatal("the shelf is empty")
	return reserved{}
}

// claiming signs up for a site, and waits until its claim is about to get the database.
func (s *dockerStack) claiming(r reserved) *staged {
	s.t.Helper()
	let := s.holdLock("BEGIN; SELECT name FROM nexus.register WHERE name = '" + r.db + "' FOR UPDATE")
	j := s.wanted("site")
	j.let = let
	s.handing(j, r, "")
	return j
}

// handing waits until a session is about to give a standby to a job. It is not the former one.
func (s *dockerStack) handing(j *staged, r reserved, former string) (session string) {
	s.t.Helper()
	query := "SELECT COALESCE(MAX(id), '') FROM information_schema.processlist WHERE info LIKE 'UPDATE nexus.register SET kind%" + j.JobId + "%" + r.db + "%'"
	eventually(s.t, 30*time.Second, j.Site+" is about to get its database", func() bool {
		session = s.box.SQL(s.t, query)
		return session != "" && session != former && s.there(j)
	})
	return session
}

// named signs up for a site, and waits until its claim has given the standby the site's name.
// What the claim removes in the end is held.
func (s *dockerStack) named(r reserved) *staged {
	s.t.Helper()
	let := s.holdFile("sites/.nexus/fence/site-standby:" + r.name() + ".lock")
	j := s.wanted("site")
	j.let = let
	eventually(s.t, 30*time.Second, j.Site+" has its name", func() bool {
		return s.there(j) && s.box.Sh(s.t, "test -d sites/"+j.Site+" && echo named || true") != ""
	})
	return j
}

// naming signs up for a site, and waits until its company is about to get its name.
func (s *dockerStack) naming(r reserved) *staged {
	s.t.Helper()
	let := s.holdLock("LOCK TABLES " + r.db + ".tabAccount READ")
	j := s.wanted("company")
	j.let = let
	s.waitsForStatement("%" + r.db + "%UPDATE%tabAccount%")
	return j
}

// claimed checks that a site was made from a standby, is the only one that has it, and that
// nothing tells of the standby's name.
func (s *dockerStack) claimed(a gen.Accepted, from []reserved) reserved {
	s.t.Helper()
	r := s.takes(a, from)
	if got := s.box.SQL(s.t, "SELECT kind, job FROM nexus.register WHERE name = '"+r.db+"'"); got != "site\t"+a.JobId {
		s.t.Errorf("the register has of %s: %s", a.Site, got)
	}
	if left := s.box.Sh(s.t, "grep -rl "+r.name()+" sites/"+a.Site+" sites/.nexus || true; find sites/.nexus -name '*"+r.name()+"*' -o -path '*/intent/"+a.Site+"'"); left != "" {
		s.t.Errorf("%s: of the standby is left: %s", a.Site, left)
	}
	if keys := s.box.Keys(s.t, r.name()); len(keys) > 0 {
		s.t.Errorf("%s: of the standby is left in Redis: %v", a.Site, keys)
	}
	// The drop of one that another job wanted too finds nothing.
	s.unlisted(r)
	s.hasCompany(a)
	s.hasApps(a)
	return r
}

// claimsKilled kills workers before a standby's database is handed over, after it got the
// site's name, and after the answer; and before and after the company got its name.
func (s *dockerStack) claimsKilled(worker *process, shelf []reserved) *process {
	s.t.Helper()
	var jobs []*staged
	for _, row := range []struct {
		name string
		hold func(reserved) *staged
		kill func(*process, []*staged) time.Time
	}{{"before the hand-over", s.claiming, nil}, {"with its name", s.named, nil}, {"after the claim", s.claiming, s.killBoundary(answered)},
		{"before the company has its name", s.naming, nil}, {"after the company", s.naming, s.killBoundary(answered)}} {
		r := s.next(shelf)
		j := row.hold(r)
		next := s.worker()
		if row.kill != nil {
			s.t.Logf("killed %s: gone on after %s", row.name, s.takenOver([]*staged{j}, row.kill(worker, []*staged{j}), takeover))
		} else {
			s.hurt("killed "+row.name, takeover, []*staged{j}, func() time.Time { return worker.send(syscall.SIGKILL) })
			j.let()
		}
		s.onceOnly(j)
		if got := s.claimed(j.Accepted, shelf); got.id != r.id {
			s.t.Errorf("%s has %s, want %s", j.Site, got.name(), r.name())
		}
		jobs, worker = append(jobs, j), next
	}
	s.apart(jobs)
	return worker
}

// apart checks that no two sites have the same database, and that each key opens its own.
func (s *dockerStack) apart(jobs []*staged) {
	s.t.Helper()
	var all []gen.Accepted
	of := map[string]string{}
	for _, j := range jobs {
		db := s.dbOf(j)
		if of[db] != "" {
			s.t.Errorf("%s and %s have the database %s", j.Site, of[db], db)
		}
		of[db], all = j.Site, append(all, j.Accepted)
	}
	s.keysOpenTheirOwn(all)
}

// claimsCanceled cancels jobs that have a standby: before the claim, before its database is
// handed over, when it has the site's name, and in a later step. The standby goes with the
// site, and is never on the shelf again.
func (s *dockerStack) claimsCanceled(shelf []reserved) {
	s.t.Helper()
	for _, row := range []struct {
		name string
		hold func(reserved) *staged
	}{{"before the claim", s.unclaimed}, {"before the hand-over", s.claiming}, {"with its name", s.named}, {"before the company has its name", s.naming}, {"after the claim", s.afterClaim}} {
		r := s.next(shelf)
		j := row.hold(r)
		if its := s.standby(r.id); its.state != string(nexus.StandbyPopped) || its.taker != j.JobId {
			s.t.Fatalf("%s: %s is %+v", row.name, r.name(), its)
		}
		s.cancel(j)
		j.let()
		if job := s.end(j.JobId, time.Minute); job.State != gen.StateCanceled {
			s.t.Errorf("canceled %s, it is %s: %+v", row.name, job.State, job.Error)
		}
		s.gone(j.Site, j.JobId)
		s.standbyGone(r, j.Site)
	}
}

// unclaimed signs up for a site, and waits until its job has a standby. The claim has not
// begun, since the name is locked.
func (s *dockerStack) unclaimed(r reserved) *staged {
	s.t.Helper()
	name := "unclaimed-" + r.id[:6]
	lock := "sites/.nexus/fence/site-" + name + ".localhost.lock"
	let := s.holdFile(lock)
	j := &staged{Accepted: s.signup(name, "jane@example.com"), step: "site", let: let}
	eventually(s.t, 30*time.Second, name+" is about to be claimed", func() bool {
		return s.there(j) && s.box.Sh(s.t, "for p in $(pgrep -f runner.py); do ls -l /proc/$p/fd; done 2>/dev/null | grep -c 'site-"+name+"' || true") != "0"
	})
	return j
}

// afterClaim signs up for a site, and holds its job in the step user.
func (s *dockerStack) afterClaim(r reserved) *staged {
	s.t.Helper()
	let := s.holdLock("LOCK TABLES " + r.db + ".`tabNotification Settings` READ")
	j := s.wanted("user")
	j.let = let
	eventually(s.t, 30*time.Second, j.Site+" stands still in user", func() bool {
		return s.there(j) && s.box.SQL(s.t, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '"+r.db+"' AND state LIKE 'Waiting%'") != "0"
	})
	return j
}

// backup copies what the registry has of standbys; restore writes it back, as a backup does.
func (s *stack) backup() (restore func()) {
	s.t.Helper()
	ctx := s.t.Context()
	saved := map[string]string{}
	for _, pattern := range []string{"standby:*", "standbys:*", "shelf:*"} {
		for _, key := range fromRedis(s.t, s.rdb.Keys(ctx, "{nexus}:"+pattern)) {
			saved[key] = fromRedis(s.t, s.rdb.Dump(ctx, key))
		}
	}
	return func() {
		for key, value := range saved {
			if err := s.rdb.RestoreReplace(ctx, key, 0, value).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, key := range fromRedis(s.t, s.rdb.Keys(ctx, "{nexus}:reap:*")) {
			s.rdb.Del(ctx, key) // as after a minute
		}
	}
}

// leaseEnds has the lease of a job end after a time, whoever holds it.
func (s *stack) leaseEnds(j *staged, after time.Duration) {
	s.t.Helper()
	ctx, at := s.t.Context(), time.Now().Add(after).UnixMilli()
	fromRedis(s.t, s.rdb.HSet(ctx, "{nexus}:job:"+j.JobId, "leaseUntil", at))
	for _, key := range []string{"{nexus}:due", "{nexus}:leases"} {
		fromRedis(s.t, s.rdb.ZAdd(ctx, key, redis.Z{Score: float64(at), Member: j.JobId}))
	}
}

// handedOverBefore kills a worker in a hand-over, which MariaDB carries out for it, and restores
// what the registry had of the standby before. It stays the first job's, although a second one
// claims it before that goes on.
func (s *dockerStack) handedOverBefore(shelf []reserved) {
	s.t.Helper()
	worker := s.worker()
	r := s.next(shelf)
	restore := s.backup()
	first := s.claiming(r)
	worker.end(syscall.SIGKILL)
	eventually(s.t, 30*time.Second, "the dead worker's runner is gone, which could go on with the claim", func() bool {
		return s.box.Sh(s.t, "pgrep -f '[r]unner.py' || true") == ""
	})
	first.let()
	eventually(s.t, 10*time.Second, "the database is the job's", func() bool {
		return s.box.SQL(s.t, "SELECT job FROM nexus.register WHERE name = '"+r.db+"'") == first.JobId
	})
	restore()
	s.leaseEnds(first, time.Minute) // until the second has asked
	second := s.wanted("site")
	worker = s.worker()
	if note := stepNote(s.onClone(second.Accepted), "site"); !strings.Contains(note, "another job has taken it") {
		s.t.Errorf("the second job: %s", note)
	}
	s.leaseEnds(first, 0)
	s.onceOnly(first)
	if got := s.claimed(first.Accepted, shelf); got.id != r.id {
		s.t.Errorf("the first job has %s, want %s", got.name(), r.name())
	}
	s.apart([]*staged{first, second})
	worker.end(syscall.SIGTERM)
}

// twoJobsOneStandby restores what the registry had of a standby before a job took it: while
// that job claims it, and after its site was made, for a job that was submitted later and for
// one that was submitted before. One of them has it, the others are copied. Claims of one
// database at the same time end each other, and one that was ended twice takes the longest
// road.
func (s *dockerStack) twoJobsOneStandby(shelf []reserved) {
	s.t.Helper()
	worker := s.worker()
	r := s.next(shelf)
	restore := s.backup()
	first := s.claiming(r)
	restore()
	second := s.wanted("site")
	eventually(s.t, 30*time.Second, "two jobs have one standby", func() bool { return s.record(second.JobId).Fields["standby"] == r.id })
	first.let()
	jobs := []*staged{first, second}
	kept := 0
	for _, j := range jobs {
		if job := s.end(j.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
			s.t.Errorf("%s is %s: %+v", j.Site, job.State, job.Error)
		} else if value(job.Road) == string(nexus.RoadStandby) {
			kept++
			s.claimed(j.Accepted, shelf)
		} else {
			s.hasApps(j.Accepted)
		}
	}
	// A drop of the standby, once it is not the second one's, may end the first one's claim again.
	often := slices.ContainsFunc(jobs, func(j *staged) bool { return s.record(j.JobId).step("site").Attempts > 2 })
	if kept > 1 || kept == 0 && !often {
		s.t.Errorf("%d jobs have one standby", kept)
	}

	for _, when := range []string{"later", "before"} {
		restore()
		if when == "before" {
			worker.end(syscall.SIGTERM)
		}
		j := s.wanted("site")
		if when == "before" {
			s.rdb.HSet(s.t.Context(), "{nexus}:job:"+j.JobId, "submitted", "1")
			worker = s.worker()
		}
		if note := stepNote(s.onClone(j.Accepted), "site"); !strings.HasPrefix(note, "A site that was kept ready could not be used") {
			s.t.Errorf("a job that was submitted %s: %s", when, note)
		}
		jobs = append(jobs, j)
	}
	s.apart(jobs)
	worker.end(syscall.SIGTERM)
	s.sound()
}

// shelfLost takes all that the registry has of standbys while one is claimed. Workers put the
// others on the shelf again, and that one is not given to a second site.
func (s *dockerStack) shelfLost(shelf []reserved) {
	s.t.Helper()
	s.forgets(shelf[0])
	worker := s.worker()
	s.shelved(len(shelf)) // it has compared bench and registry, and does so again in a minute
	r := s.next(shelf)
	first := s.claiming(r)
	for _, pattern := range []string{"standby:*", "standbys:*", "shelf:*", "pool:*", "pools:*"} {
		if keys := fromRedis(s.t, s.rdb.Keys(s.t.Context(), "{nexus}:"+pattern)); len(keys) > 0 {
			s.rdb.Del(s.t.Context(), keys...)
		}
	}
	copied := s.wanted("site") // it is not awaited here, since a claim may take half a minute
	eventually(s.t, 5*time.Second, "one is to be copied", func() bool { return s.record(copied.JobId).Fields["road"] == string(nexus.RoadClone) })
	jobs := []*staged{first, copied}
	next := s.worker() // it compares bench and registry at its start
	eventually(s.t, 30*time.Second, "the standbys are on the shelf again", func() bool { return len(s.standbys()) >= len(shelf)-1 })
	for range shelf {
		jobs = append(jobs, s.wanted("site"))
	}
	first.let()
	of := map[string]int{}
	for _, j := range jobs {
		job := s.end(j.JobId, 2*time.Minute)
		of[value(job.Road)]++
		if job.State != gen.StateSucceeded {
			s.t.Errorf("%s is %s: %+v", j.Site, job.State, job.Error)
		} else if value(job.Road) == string(nexus.RoadStandby) {
			s.claimed(j.Accepted, shelf)
		}
	}
	if of[string(nexus.RoadStandby)] != len(shelf) {
		s.t.Errorf("%d standbys, and the sites were made by %v", len(shelf), of)
	}
	s.apart(jobs)
	worker.end(syscall.SIGTERM)
	next.end(syscall.SIGTERM)
	s.sound()
}

// formerVersions has a job that a former version recorded, without the step company: it gets
// neither a standby nor a copy with a company, which it would not name. And it has one that a
// former version ended: it comes on the shelf.
func (s *dockerStack) formerVersions(shelf []reserved) {
	s.t.Helper()
	former := s.wanted("site")
	withoutSteps(s.t, s.stack, former.JobId, "company")
	s.forgets(shelf[0])
	worker := s.worker()
	if job := s.end(former.JobId, time.Minute); job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadNewSite) {
		s.t.Errorf("a former version's job is %s by %q: %+v", job.State, value(job.Road), job.Error)
	}
	s.hasApps(former.Accepted)
	s.shelved(len(shelf))
	worker.end(syscall.SIGTERM)
}

// forgets has the registry take a standby for one that is still made.
func (s *stack) forgets(r reserved) {
	s.t.Helper()
	ctx := s.t.Context()
	fromRedis(s.t, s.rdb.HSet(ctx, "{nexus}:standby:"+r.id, "state", string(nexus.StandbyMaking)))
	fromRedis(s.t, s.rdb.ZRem(ctx, "{nexus}:shelf:"+r.bench+" "+r.key, r.id))
}

// ghosts removes standbys by hand: of one the folder, of one the database. Signups are copied,
// and the standbys disappear.
func (s *dockerStack) ghosts(shelf []reserved) {
	s.t.Helper()
	var gone []reserved
	for i, remove := range []func(reserved){
		func(r reserved) { s.box.Sh(s.t, "rm -r sites/.nexus/standby/"+r.name()) },
		func(r reserved) { s.box.SQL(s.t, "DROP DATABASE "+r.db) },
		func(r reserved) { s.box.SQL(s.t, "DROP DATABASE "+r.db+"; DROP USER "+r.db) },
	} {
		remove(shelf[i])
		gone = append(gone, shelf[i])
	}
	if found, code := s.doctor(); code == 0 || len(found) == 0 {
		s.t.Errorf("nexus doctor says nothing of standbys that are gone: exit %d, %v", code, found)
	}
	worker := s.worker()
	copies, rest := 0, shelf[len(gone):]
	for range shelf {
		j := s.wanted("site")
		job := s.end(j.JobId, time.Minute)
		switch value(job.Road) {
		case string(nexus.RoadClone):
			copies++
			s.hasApps(j.Accepted)
		case string(nexus.RoadStandby):
			s.claimed(j.Accepted, rest)
		default:
			s.t.Errorf("%s is %s by %q: %+v", j.Site, job.State, value(job.Road), job.Error)
		}
	}
	if copies != len(gone) {
		s.t.Errorf("%d sites were copied, want %d", copies, len(gone))
	}
	for _, r := range gone {
		s.standbyGone(r, "")
	}
	worker.end(syscall.SIGTERM)
	s.sound()
}

// upgraded changes an app of the bench. No standby is claimed any more; they are dropped, and
// others made once there is a template.
func (s *dockerStack) upgraded(shelf []reserved) {
	s.t.Helper()
	s.box.Sh(s.t, "echo nexus.patches.later >> apps/erpnext/erpnext/patches.txt")
	worker := s.worker()
	var jobs []*staged
	for range shelf {
		jobs = append(jobs, s.wanted("site"))
	}
	for _, j := range jobs {
		job := s.end(j.JobId, time.Minute)
		if note := stepNote(job, "site"); job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadNewSite) || !strings.Contains(note, "have changed") {
			s.t.Errorf("after an upgrade %s is %s by %q: %s", j.Site, job.State, value(job.Road), note)
		}
		s.hasApps(j.Accepted)
	}
	for _, r := range shelf {
		s.standbyGone(r, "")
	}
	s.built()
	worker.end(syscall.SIGTERM)
	s.worker("NEXUS_POOL=1")
	fresh := s.shelved(1)
	s.claimed(s.wanted("site").Accepted, fresh)
}
