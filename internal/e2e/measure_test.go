//go:build service

package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// measuredRoad is a part of the JSON of nexus bench measure.
type measuredRoad struct {
	Road    string
	N       int
	Others  map[string]int
	Failed  int
	Seconds *struct{ P50, P95, P99, Max float64 }
	Steps   []struct{ Name string }
	PerHour float64
}

// measure runs nexus bench measure, and returns the figures of each road.
func (s *stack) measure(args string) (roads map[string]measuredRoad) {
	s.t.Helper()
	out, errs, code := s.nexus("", words("bench measure -o json --gap 0s "+args)...)
	var record struct {
		Roads []measuredRoad
		Left  map[string]string
	}
	if err := json.Unmarshal([]byte(out), &record); err != nil || code != 0 || len(record.Left) > 0 {
		s.t.Fatalf("nexus bench measure %s: exit %d, %v\n%s%s", args, code, err, out, errs)
	}
	roads = map[string]measuredRoad{}
	for _, each := range record.Roads {
		if roads[each.Road] = each; each.Seconds == nil || len(each.Steps) != 9 || each.PerHour <= 0 {
			s.t.Fatalf("by %s there are no figures: %s%s", each.Road, out, errs)
		}
	}
	return roads
}

// measured waits for the jobs of all sites that nexus bench measure has signed up for, which are to
// be n, and checks that it has left no tenant. It returns the jobs.
func (s *stack) measured(n int) (jobs []gen.Job) {
	s.t.Helper()
	list, err := s.client.Jobs(s.t.Context(), "", string(nexus.KindProvision), "", 200)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, job := range list.Jobs {
		if jobs = append(jobs, job); !strings.HasPrefix(job.Site, "measure-") {
			s.t.Errorf("it has signed up for %s", job.Site)
		}
		switch job.State {
		case gen.StateSucceeded, gen.StateFailed, gen.StateCanceled:
		default:
			s.t.Errorf("%s is %s", job.Site, job.State)
		}
		if _, err := s.client.Tenant(s.t.Context(), job.Site); nexus.CodeOf(err) != nexus.NotFound {
			s.t.Errorf("%s: the tenant is left: %v", job.Site, err)
		}
	}
	if n > 0 && len(jobs) != n {
		s.t.Errorf("%d signups, want %d", len(jobs), n)
	}
	return jobs
}

// interrupted runs nexus bench measure until a line is printed, then interrupts it, and waits for
// its end.
func (s *stack) interrupted(args, line string) {
	s.t.Helper()
	log := &logs{also: s.log}
	p := start(s.t, log, []string{"NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, filepath.Join(binaries, "nexus"),
		words("bench measure --gap 0s "+args)...)
	eventually(s.t, time.Minute, "sites are made, and it has said "+line, func() bool {
		return strings.Contains(strings.Join(log.all(), "\n"), line) && s.making() > 0
	})
	p.end(os.Interrupt)
	text := strings.Join(log.all(), "\n")
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text, "The measurement was interrupted.") || strings.Contains(text, "may be left") {
		s.t.Errorf("interrupted: exit %d\n%s", code, text)
	}
}

// making is the number of sites that are being made.
func (s *stack) making() (n int) {
	s.t.Helper()
	list, err := s.client.Jobs(s.t.Context(), string(gen.StateRunning), string(nexus.KindProvision), "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list.Jobs)
}

// TestMeasure measures each road on the sandbox, and is interrupted there. The worker observes the
// same signups, and nothing is left.
func TestMeasure(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_APPS=erpnext", "NEXUS_TEMPLATES=plain", "NEXUS_POOL=3")
	addr := freeAddr(t)
	worker := s.worker("NEXUS_METRICS_ADDR=" + addr)
	s.filled("sandbox", 3)
	roads := s.measure("--signups 3 --country US --plan starter")
	for _, road := range words("standby clone new-site") {
		if r := roads[road]; r.N != 3 || r.Failed+len(r.Others) > 0 {
			t.Errorf("by %s: %+v", road, r)
		}
		eventually(t, time.Minute, "the worker has observed three signups by "+road, func() bool {
			return s.metric(addr, "nexus_time_to_ready_seconds_count", `bench="sandbox"`, fmt.Sprintf("road=%q", road)) == 3
		})
	}
	s.measured(9)
	s.filled("sandbox", 3)
	s.sound()

	worker.end(os.Interrupt)
	s.worker("NEXUS_SANDBOX_DELAY=4s")
	s.interrupted("--roads new-site --signups 20 --concurrency 2", "")
	s.measured(0)
	s.sound()
}

// TestMeasureStandin measures each road on a bench with about as many tables as ERPNext has: a
// standby is faster than a copy, which is faster than a site that is made anew. It is interrupted
// while some sites are made and others are ready. Nothing is left on the bench.
func TestMeasureStandin(t *testing.T) {
	s := newDockerStack(t, 0, 300*time.Millisecond, "NEXUS_APPS=erpnext", "NEXUS_TEMPLATES=plain", "NEXUS_POOL=3")
	s.box.Sh(t, `echo 'DOCTYPES["erpnext"] += ["More %03d" % n for n in range(530)]' >>apps/frappe/frappe/data.py`)
	s.worker()
	shelf := s.filled(s.box.Name, 3)
	if n := s.box.SQL(t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '"+shelf[0].db+"'"); len(n) != 3 || n < "690" {
		t.Fatalf("a standby has %s tables", n)
	}
	roads := s.measure("--signups 3")
	standby, clone, whole := roads["standby"], roads["clone"], roads["new-site"]
	for _, r := range roads {
		t.Logf("%s: %+v", r.Road, *r.Seconds)
		if r.N != 3 {
			t.Errorf("by %s: %+v", r.Road, r)
		}
	}
	if standby.Seconds.P50 >= clone.Seconds.P50 || clone.Seconds.P50 >= whole.Seconds.P50 {
		t.Errorf("the medians of standby, clone and new-site are %v, %v and %v s", standby.Seconds.P50, clone.Seconds.P50, whole.Seconds.P50)
	}
	s.interrupted("--roads clone --signups 20 --concurrency 2", "-clone-1.localhost: clone ")
	for _, job := range s.measured(0) {
		db := cmp.Or(s.record(job.Id).Fields["db"], s.db(job.Id)) // the first is empty if it never began
		if left := s.box.Left(t, nexus.SiteName(job.Site), db); len(left) > 0 {
			t.Errorf("%s: left behind: %v", job.Site, left)
		}
	}
	s.filled(s.box.Name, 3)
	s.sound()
}

// TestRealTimes: with the times of a real bench a site from the shelf is ready in a part of the
// time of a copy. A site that is made anew takes so long that its progress is seen, and a cancel
// ends it at once. The template and the first standbys are made without a delay.
func TestRealTimes(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_APPS=erpnext", "NEXUS_TEMPLATES=plain", "NEXUS_POOL=2")
	builder := s.worker()
	s.filled("sandbox", 2)
	builder.end(syscall.SIGTERM)
	s.worker("NEXUS_SANDBOX_DELAY=real")

	roads := s.measure("--signups 2 --roads standby,clone")
	standby, clone := roads["standby"], roads["clone"]
	t.Logf("%+v %+v", *standby.Seconds, *clone.Seconds)
	if standby.N != 2 || clone.N != 2 {
		t.Fatalf("%+v, %+v", standby, clone)
	}
	// The least are the sums of the steps; the ratio is 10 without other load.
	if standby.Seconds.P50 < 0.156 || clone.Seconds.P50 < 1.6 || standby.Seconds.P50 > clone.Seconds.P50/2 {
		t.Errorf("a standby was ready after %v s, a copy after %v s", standby.Seconds.P50, clone.Seconds.P50)
	}

	began := time.Now()
	a, err := s.client.Create(t.Context(), gen.TenantRequest{Email: "jane@example.com", Password: "Passw0rdXyz", FullName: "Jane Doe",
		OrganizationName: "Anew", Subdomain: "anew", Road: new(string(nexus.RoadNewSite))}, "anew")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "the step site reports progress", func() bool {
		job, _, _, err := s.client.Job(t.Context(), a.JobId, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(job.Steps, func(step gen.Step) bool {
			return step.Name == "site" && step.State == gen.StepState(nexus.StepStarted) && value(step.Percent) > 0
		})
	})
	if _, err := s.client.Cancel(t.Context(), a.JobId, operator); err != nil {
		t.Fatal(err)
	}
	job := s.end(a.JobId, 5*time.Second)
	if took := time.Since(began); job.State != gen.StateCanceled || took >= 17*time.Second {
		t.Errorf("%s after %s", job.State, took)
	}
	s.sound()
}
