//go:build service

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// afterwards checks that no worker lost a job by an outage of Redis, except for the
// given number whose answer to take was lost.
func (s *stack) afterwards(before int64, lost int) {
	s.t.Helper()
	if n := s.log.count(`"lease expired, job rescued"`); n > lost {
		s.t.Errorf("%d healthy jobs were rescued", n)
	}
	if n := s.log.count(`"fenced by a newer run"`); n > 0 {
		s.t.Errorf("%d healthy runs were fenced", n)
	}
	if now := s.gen(); now < before {
		s.t.Errorf("gens went back from %d to %d", before, now)
	}
}

// silent checks that every call of the API answers that Redis is away and when to try
// again.
func (s *stack) silent(id string) {
	s.t.Helper()
	began := time.Now()
	s.refusedKindly("a job", s.call("GET", "/jobs/"+id, ""))
	s.refusedKindly("a signup", s.call("POST", "/signup", form(s.t, "silent", "silent@example.com", "Passw0rdXyz")))
	s.refusedKindly("a name", s.call("GET", "/subdomains/silent", ""))
	if a := s.call("GET", "/readyz", ""); a.status != http.StatusServiceUnavailable {
		s.t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if a := s.call("GET", "/healthz", ""); a.status != http.StatusOK {
		s.t.Errorf("healthz: %d %s", a.status, a.body)
	}
	if took := time.Since(began); took > 25*time.Second {
		s.t.Errorf("it took the api %s to say so five times", took)
	}
}

// pass waits; the time is part of the fault.
func pass(d time.Duration) { <-time.After(d) }

// TestOutageRedisUnderLoad kills Redis with SIGKILL for longer than a lease, then stops
// it for ten seconds, while signups come and jobs run.
func TestOutageRedisUnderLoad(t *testing.T) {
	t.Parallel()
	s, r := frailStack(t, "", "NEXUS_SANDBOX_DELAY=400ms", "NEXUS_APPS=erpnext")
	s.onSandbox()
	s.startWorkers(2)
	long := s.signup("long", "slow-site@example.com")
	held := &staged{Accepted: long, step: "site"}
	s.hold([]*staged{held}) // until it is canceled, or it would end between the outages
	people := s.crowd("load", 3)
	at := func(n int) func() bool {
		return func() bool { people.mu.Lock(); defer people.mu.Unlock(); return len(people.promised) >= n }
	}
	eventually(t, 30*time.Second, "there is load", at(9))

	before := s.gen()
	r.kill()
	s.silent(long.JobId)
	pass(6 * time.Second)
	r.start(s.log)
	people.mu.Lock()
	served := len(people.promised)
	people.mu.Unlock()
	eventually(t, 30*time.Second, "people are served again", at(served+6))
	s.afterwards(before, 3)
	refused := s.refusedSoFar(people)

	before = s.gen()
	r.process.send(syscall.SIGSTOP)
	s.silent(long.JobId)
	pass(3 * time.Second)
	r.process.send(syscall.SIGCONT)
	people.mu.Lock()
	served = len(people.promised)
	people.mu.Unlock()
	eventually(t, 30*time.Second, "people are served again", at(served+6))
	people.rest()
	s.afterwards(before, 3)
	if refused == 0 || s.refusedSoFar(people) == refused {
		t.Errorf("%d refusals in the first outage, %d in all: this test showed nothing", refused, s.refusedSoFar(people))
	}
	if _, err := s.client.Cancel(t.Context(), long.JobId, nexus.Secret(long.ClaimToken)); err != nil {
		t.Error(err)
	}
	held.let()
	people.kept()
	s.afterwards(before, 3)
	if job := s.end(long.JobId, time.Minute); job.State != gen.StateCanceled {
		t.Errorf("the long job is %s: %+v", job.State, job.Error)
	}
	if r := s.record(long.JobId); r.step("site").Starts != 1 {
		t.Errorf("the long step was started %d times", r.step("site").Starts)
	}
	// At most one job of each person was recorded without an answer.
	if all := fromRedis(t, s.rdb.ZCard(t.Context(), "{nexus}:jobs")); all > int64(len(people.promised)+1+3+1) {
		t.Errorf("%d jobs of %d promises", all, len(people.promised))
	}
	t.Logf("%d promises kept, %d refusals", len(people.promised), len(people.refusals))
	s.sound()
}

func (s *stack) refusedSoFar(c *crowd) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.refusals)
}

// TestOutageRedisUnderSite kills and stops Redis while the bench makes sites. The
// operations go on, and each step has one attempt.
func TestOutageRedisUnderSite(t *testing.T) {
	s, r := frailStack(t, "", "NEXUS_APPS=frappe")
	d := s.onStandin(t, 24*time.Second)
	s.startWorkers(2)
	var jobs []gen.Accepted
	var gens []string
	for i := range 2 {
		a := s.signup(fmt.Sprintf("site-%d", i), "jane@example.com")
		jobs = append(jobs, a)
		gens = append(gens, s.until(a.JobId, nexus.Running, "site").Gen)
	}
	eventually(t, 30*time.Second, "the sites are being made", func() bool {
		return d.box.Sh(t, "ps -eo args | grep -c '[b]ench_helper frappe new-site' || true") == "2"
	})
	before := s.gen()
	r.kill()
	pass(6 * time.Second)
	r.start(s.log)
	eventually(t, 20*time.Second, "the workers hold their leases again", func() bool { return s.leased(jobs) })
	r.process.send(syscall.SIGSTOP)
	pass(10 * time.Second)
	r.process.send(syscall.SIGCONT)
	for i, a := range jobs {
		d.whole(a.JobId, map[string]int{"site": 1, "apps": 1, "user": 1, "plan": 1, "api_key": 1, "activate": 1})
		after := s.record(a.JobId)
		if after.Gen != gens[i] || after.step("site").Starts != 1 {
			t.Errorf("%s: gen %s, then %s; site was started %d times", a.Site, gens[i], after.Gen, after.step("site").Starts)
		}
	}
	s.afterwards(before, 0)
	s.keysOpenTheirOwn(jobs)
	s.sound()
}

// leased reports whether every job has a lease that is valid by Redis' clock.
func (s *stack) leased(jobs []gen.Accepted) bool {
	now := fromRedis(s.t, s.rdb.Time(context.WithoutCancel(s.t.Context()))).UnixMilli()
	for _, a := range jobs {
		var until int64
		_, _ = fmt.Sscan(s.record(a.JobId).Fields["leaseUntil"], &until) // absent: 0
		if until <= now {
			return false
		}
	}
	return true
}

// TestOutageRedisFull fills Redis' memory, then makes it refuse writes for lack of a
// replica. Nothing is half-written, and everything goes on once it is mended.
func TestOutageRedisFull(t *testing.T) {
	t.Parallel()
	s, _ := frailStack(t, "", "NEXUS_SANDBOX_DELAY=1500ms", "NEXUS_APPS=erpnext")
	s.onSandbox()
	s.startWorkers(2)
	for _, fault := range []struct{ name, setting, ill, well string }{
		{"full", "maxmemory", "1", "0"},
		{"without a replica", "min-replicas-to-write", "1", "0"},
	} {
		running := s.signup("running-"+strings.ReplaceAll(fault.name, " ", "-"), "jane@example.com")
		s.until(running.JobId, nexus.Running, "site")
		before := s.gen()
		if err := s.rdb.ConfigSet(t.Context(), fault.setting, fault.ill).Err(); err != nil {
			t.Fatal(err)
		}
		jobs := s.keysOf()
		name := "refused-" + strings.ReplaceAll(fault.name, " ", "-")
		for range 3 {
			s.refusedKindly(fault.name, s.call("POST", "/signup", form(t, name, name+"@example.com", "Passw0rdXyz"), "Idempotency-Key", name))
		}
		if a := s.call("GET", "/jobs/"+running.JobId, ""); a.status != http.StatusOK {
			t.Errorf("%s: a job cannot be read: %d %s", fault.name, a.status, a.body)
		}
		s.refusedKindly(fault.name, s.call("POST", "/jobs/"+running.JobId+"/cancel", "", "Authorization", "Bearer "+running.ClaimToken))
		pass(6 * time.Second)
		if now := s.keysOf(); now != jobs {
			t.Errorf("%s: something was written:\n%s\n%s", fault.name, jobs, now)
		}
		if err := s.rdb.ConfigSet(t.Context(), fault.setting, fault.well).Err(); err != nil {
			t.Fatal(err)
		}
		again := s.accepted(form(t, name, name+"@example.com", "Passw0rdXyz"), name)
		for _, a := range []gen.Accepted{running, again} {
			if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
				t.Errorf("%s: %s is %s: %+v", fault.name, job.Site, job.State, job.Error)
			}
		}
		if r := s.record(running.JobId); r.step("site").Starts != 1 || r.step("site").Attempts != 1 {
			t.Errorf("%s: site was started %d times and answered %d times", fault.name, r.step("site").Starts, r.step("site").Attempts)
		}
		s.afterwards(before, 0)
	}
	s.sound()
}

// keysOf lists the keys of jobs, tenants and secrets, without their values.
func (s *stack) keysOf() string {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	var out []string
	for _, pattern := range []string{"job:*", "tenant:*", "input:*", "idem:*", "events:*"} {
		keys, err := s.rdb.Keys(ctx, "{nexus}:"+pattern).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d", pattern, len(keys)))
	}
	for _, index := range []string{"due", "jobs", "tenants"} {
		out = append(out, fmt.Sprintf("%s %d", index, fromRedis(s.t, s.rdb.ZCard(ctx, "{nexus}:"+index))))
	}
	return strings.Join(out, ", ")
}

// TestOutageRedisReadOnly makes Redis a replica for a while, so that it refuses writes.
func TestOutageRedisReadOnly(t *testing.T) {
	t.Parallel()
	s, _ := frailStack(t, "", "NEXUS_SANDBOX_DELAY=1500ms", "NEXUS_APPS=erpnext")
	s.onSandbox()
	s.startWorkers(2)
	running := s.signup("running", "jane@example.com")
	s.until(running.JobId, nexus.Running, "site")
	before := s.gen()
	dead := strings.Split(freeAddr(t), ":")
	if err := s.rdb.Do(t.Context(), "REPLICAOF", dead[0], dead[1]).Err(); err != nil {
		t.Fatal(err)
	}
	s.refusedKindly("read-only", s.call("POST", "/signup", form(t, "late", "late@example.com", "Passw0rdXyz"), "Idempotency-Key", "late"))
	pass(6 * time.Second)
	s.refusedKindly("read-only", s.call("POST", "/signup", form(t, "late", "late@example.com", "Passw0rdXyz"), "Idempotency-Key", "late"))
	if err := s.rdb.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	late := s.accepted(form(t, "late", "late@example.com", "Passw0rdXyz"), "late")
	for _, a := range []gen.Accepted{running, late} {
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	s.afterwards(before, 0)
	s.sound()
}
