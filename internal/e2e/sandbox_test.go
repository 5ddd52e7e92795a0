//go:build service

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// logged asks a site for the user of a key.
func logged(t testing.TB, url, site string, pair gen.Credentials) (status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/method/frappe.auth.get_logged_user", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = site
	request.Header.Set("Authorization", "token "+pair.ApiKey+":"+pair.ApiSecret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// keysOpenTheirOwn picks up the credentials, and checks that each key works on its own
// site and on no other.
func (s *stack) keysOpenTheirOwn(accepted []gen.Accepted) {
	s.t.Helper()
	for i, a := range accepted {
		pair, err := s.client.Credentials(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken), "pick-up")
		if err != nil {
			s.t.Fatal(err)
		}
		for k, other := range accepted {
			want := http.StatusUnauthorized
			if i == k {
				want = http.StatusOK
			}
			if got := logged(s.t, "http://"+s.sites, other.Site, pair); got != want {
				s.t.Errorf("the key of %s on %s: %d, want %d", a.Site, other.Site, got, want)
			}
		}
	}
}

// TestWorkerKilledUnderLoad kills one of three workers while it works: every job
// succeeds, once, and the jobs of the killed worker go on in time.
func TestWorkerKilledUnderLoad(t *testing.T) {
	const jobs = 40
	s := newStack(t, 3, "NEXUS_SANDBOX_DELAY=150ms", "NEXUS_CONCURRENCY=8")
	accepted := s.signupAll(jobs, "load")
	eventually(t, 20*time.Second, "half of them are at work or done", func() bool {
		n, _ := s.rdb.ZCard(t.Context(), "{nexus}:slots:sandbox").Result()
		return n >= 12
	})
	s.workers[1].end(syscall.SIGKILL)
	killed := time.Now()

	rescued := map[string]bool{}
	for _, a := range accepted {
		if job := s.end(a.JobId, 90*time.Second); job.State != "succeeded" {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		s.startedAgain(a, s.log.count(`"lease expired, job rescued"`, a.JobId))
	}
	for _, line := range s.log.all() {
		if strings.Contains(line, `"lease expired, job rescued"`) {
			rescued[line] = true
			if at := field(line, "time"); at.Sub(killed) > takeover+store.LeaseTime { // if Redis answers a look late
				t.Errorf("an orphan went on only %s after the kill", at.Sub(killed))
			}
		}
	}
	if len(rescued) == 0 {
		t.Error("nothing was rescued: the kill hit nothing, so this test showed nothing")
	}
	t.Logf("%d orphans rescued", len(rescued))

	s.keysOpenTheirOwn(accepted)
	s.sound()
}

// startedAgain checks that each step of a job has one attempt, and that its steps were
// started again at most this often.
func (s *stack) startedAgain(a gen.Accepted, most int) {
	s.t.Helper()
	again := 0
	for _, step := range s.record(a.JobId).Steps {
		if again += step.Starts - 1; step.Attempts != 1 {
			s.t.Errorf("%s: %s answered %d times", a.Site, step.Name, step.Attempts)
		}
	}
	if again > most {
		s.t.Errorf("%s: %d starts were not the first, want %d at most", a.Site, again, most)
	}
}

// TestDrain stops a worker while it works: the other workers continue at once, and it
// does not count as a crash.
func TestDrain(t *testing.T) {
	s := newStack(t, 2, "NEXUS_SANDBOX_DELAY=400ms")
	var accepted []gen.Accepted
	for i := range 6 {
		accepted = append(accepted, s.signup(fmt.Sprintf("drain-%d", i), "jane@example.com"))
	}
	eventually(t, 20*time.Second, "all are at work", func() bool {
		n, _ := s.rdb.ZCard(t.Context(), "{nexus}:slots:sandbox").Result()
		return n == 6
	})
	s.workers[0].end(syscall.SIGTERM)
	for _, a := range accepted {
		if job := s.end(a.JobId, 60*time.Second); job.State != "succeeded" {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		s.startedAgain(a, 0)
	}
	s.keysOpenTheirOwn(accepted)
	for _, line := range s.log.all() {
		if strings.Contains(line, "lease expired") {
			t.Errorf("a drain was taken for a crash: %s", line)
		}
	}
	s.sound()
}

// TestFailures causes the sandbox's faults on demand, as the developer of a form would.
func TestFailures(t *testing.T) {
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=300ms")
	for email, want := range map[string]gen.State{"fail-apps@example.com": "failed", "fail-verify@example.com": "failed"} {
		name, _, _ := strings.Cut(email, "@")
		job := s.end(s.signup(name, email).JobId, 60*time.Second)
		if job.State != want || job.Error == nil || job.Error.Message == "" {
			t.Errorf("%s: %s, %+v", email, job.State, job.Error)
		}
		if _, err := s.client.Tenant(t.Context(), job.Site); nexus.CodeOf(err) != nexus.NotFound {
			t.Errorf("%s: the tenant's row is left: %v", email, err)
		}
		s.nothing(job.Site)
	}
	slow := s.signup("slow", "slow-site@example.com")
	eventually(t, 10*time.Second, "the site is being made", func() bool {
		_, err := os.Stat(s.dir + "/sandbox/sites/" + slow.Site)
		return err == nil
	})
	if _, err := s.client.Cancel(t.Context(), slow.JobId, nexus.Secret(slow.ClaimToken)); err != nil {
		t.Fatal(err)
	}
	if job := s.end(slow.JobId, 30*time.Second); job.State != "canceled" {
		t.Errorf("canceled in the middle: %s", job.State)
	}
	s.nothing(slow.Site)
	stuck := s.signup("stuck", "stuck-undo@example.com")
	eventually(t, 60*time.Second, "the rollback is given up", func() bool {
		s.hurry(stuck.JobId)
		return s.record(stuck.JobId).State == nexus.RollbackFailed
	})
	s.parked(stuck)
	if found, code := s.doctor(); code != 1 || !slices.Contains(found, "parked_job "+stuck.Site) {
		t.Errorf("nexus doctor beside a parked job: exit %d, %v", code, found)
	}
	if _, err := s.client.Resume(t.Context(), stuck.JobId); err != nil {
		t.Fatal(err)
	}
	s.resumed(stuck, gen.StateFailed, nexus.Invalid)
	s.freed(stuck.Site)
	s.sound()
}

// hurry ends a job's wait for a retry, which would take minutes.
func (s *stack) hurry(id string) {
	s.t.Helper()
	if s.record(id).Fields["nextAt"] == "0" {
		return
	}
	err := s.rdb.HSet(s.t.Context(), "{nexus}:job:"+id, "nextAt", "0").Err()
	if err == nil {
		err = s.rdb.ZAddXX(s.t.Context(), "{nexus}:due", redis.Z{Score: float64(time.Now().UnixMilli()), Member: id}).Err()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// nothing checks that nothing of a site is left on the sandbox but its fence.
func (s *stack) nothing(site string) {
	s.t.Helper()
	for _, room := range []string{"sites", "intent"} {
		if _, err := os.Stat(s.dir + "/sandbox/" + room + "/" + site); err == nil {
			s.t.Errorf("%s: something is left in %s", site, room)
		}
	}
}

func field(line, name string) time.Time {
	_, rest, _ := strings.Cut(line, `"`+name+`":"`)
	text, _, _ := strings.Cut(rest, `"`)
	at, _ := time.Parse(time.RFC3339Nano, text)
	return at
}

// TestFinishedJobIsSmall measures the memory in Redis of a finished job, its record and
// its events, which is kept for a month.
func TestFinishedJobIsSmall(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_APPS=erpnext")
	a, err := s.client.Signup(t.Context(), gen.SignupRequest{Email: "jane.doe@example.com", Password: "Passw0rdXyz", FullName: "Jane Mary Doe",
		OrganizationName: "Example Trading Limited", Subdomain: new("example-trading"), Plan: new("free"), Country: new("Germany"),
		Currency: new("EUR"), Language: new("de"), Timezone: new("Europe/Berlin")}, "key-small")
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	bytes := int64(0)
	for _, key := range []string{"{nexus}:job:" + a.JobId, "{nexus}:events:" + a.JobId} {
		n := fromRedis(t, s.rdb.MemoryUsage(t.Context(), key, 0))
		t.Logf("%s: %d bytes", key, n)
		bytes += n
	}
	if bytes < 1000 || bytes > 4096 {
		t.Errorf("a finished job takes %d bytes", bytes)
	}
}
