//go:build service

package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// takeover is how long a job may stand still after its worker was killed: until the
// lease expires, the due index is read, and the task is taken.
const takeover = 6 * time.Second

// worker starts a worker with its own log and environment, of which later entries win,
// and waits until it is up.
func (s *stack) worker(env ...string) *process {
	s.t.Helper()
	return s.workerOf(filepath.Join(binaries, "worker"), env...)
}

// workerOf is worker with another program.
func (s *stack) workerOf(program string, env ...string) *process {
	s.t.Helper()
	log := &logs{also: s.log}
	p := start(s.t, log, slices.Concat(s.env, env), program)
	eventually(s.t, 30*time.Second, "the worker is up", func() bool { return log.count("worker started") > 0 })
	return p
}

// send sends a signal, without waiting, and returns the time.
func (p *process) send(signal os.Signal) time.Time {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatalf("%s: %v", p.cmd.Path, err)
	}
	return time.Now()
}

// stop stops a process with SIGSTOP and waits until each of its threads has stopped. A
// thread that still runs could get a lock that the test releases.
func (p *process) stop() time.Time {
	p.t.Helper()
	at := p.send(syscall.SIGSTOP)
	eventually(p.t, 5*time.Second, "the process stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		return err == nil && !slices.ContainsFunc(threads, func(path string) bool {
			text, err := os.ReadFile(path)
			_, state, _ := strings.Cut(string(text), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
	})
	return at
}

// count counts the lines that contain all of the texts.
func (l *logs) count(texts ...string) (n int) {
	for _, line := range l.all() {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// record is the record of a job in Redis, with what the API does not show.
type record struct {
	State   nexus.State
	Gen     string
	Rescues int
	Steps   []nexus.Step
	Fields  map[string]string
}

func (r record) step(name string) (s nexus.Step) {
	for _, step := range r.Steps {
		if string(step.Name) == name {
			return step
		}
	}
	return s
}

func (s *stack) record(id string) record {
	s.t.Helper()
	fields, err := s.rdb.HGetAll(context.WithoutCancel(s.t.Context()), "{nexus}:job:"+id).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	r := record{State: nexus.State(fields["state"]), Gen: fields["gen"], Fields: fields}
	r.Rescues, _ = strconv.Atoi(fields["rescues"])
	if err := json.Unmarshal([]byte(fields["steps"]), &r.Steps); err != nil {
		s.t.Fatalf("job %s: %v in %v", id, err, fields)
	}
	return r
}

// staged is a job that is to be held in a step, or in its rollback.
type staged struct {
	gen.Accepted
	step  string // empty: in its rollback
	freed bool   // this step cannot be held, only observed
	at    record // the record when its worker was killed or stopped
	let   func()
}

func (j *staged) there(r record) bool {
	if j.step == "" {
		return r.State == nexus.RollingBack
	}
	return r.State == nexus.Running && r.step(j.step).State == nexus.StepStarted
}

// hold holds every job in its step: the test has the bench's lock on the site until let
// is called.
func (s *stack) hold(jobs []*staged) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, "every job is held in its step", func() bool { return s.grab(jobs) })
	for _, j := range jobs {
		s.t.Cleanup(j.let)
		if !s.there(j) {
			s.t.Fatalf("%s was to be held in %q, and is elsewhere: %+v", j.Site, j.step, s.record(j.JobId))
		}
	}
}

// grab holds those jobs that are in their step now; true: all are held.
func (s *stack) grab(jobs []*staged) bool {
	held := true
	for _, j := range jobs {
		if j.let == nil && s.there(j) {
			j.let = s.lock(j)
		}
		held = held && j.let != nil
	}
	return held
}

func (s *stack) there(j *staged) bool { return j.there(s.record(j.JobId)) }

// lock takes the sandbox's lock on a site; nil if somebody else has it.
func (s *stack) lock(j *staged) (release func()) {
	if j.freed {
		return func() {}
	}
	file, err := os.OpenFile(filepath.Join(s.dir, "sandbox", "locks", j.Site), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = file.Close()
		return nil
	}
	return func() { _ = file.Close() }
}

// letGo releases all jobs, and keeps their records for later.
func (s *stack) letGo(jobs []*staged) {
	for _, j := range jobs {
		j.at = s.record(j.JobId)
		j.let()
		j.let = nil
	}
}

// takenOver waits until each job has a new owner, and returns how long the slowest stood
// still.
func (s *stack) takenOver(jobs []*staged, since time.Time, within time.Duration) (longest time.Duration) {
	s.t.Helper()
	at := map[string]time.Duration{}
	eventually(s.t, within+30*time.Second, "every job has a new owner", func() bool {
		for _, j := range jobs {
			r := s.record(j.JobId)
			if _, ok := at[j.JobId]; !ok && r.Fields["taken"] != j.at.Fields["taken"] {
				taken, _ := strconv.ParseInt(r.Gen, 10, 64) // when Redis gave the job away, unless a test raises the tokens
				at[j.JobId] = min(time.UnixMicro(taken).Sub(since), time.Since(since))
			}
		}
		return len(at) == len(jobs)
	})
	if s.log.count(`"due index not read"`) > 0 { // a look that Redis answers late puts off what is due
		within += store.LeaseTime
	}
	for _, j := range jobs {
		if at[j.JobId] > within {
			s.t.Errorf("%s stood still in %q for %s", j.Site, j.step, at[j.JobId])
		}
		longest = max(longest, at[j.JobId])
	}
	return longest
}

// onceOnly checks that a provision succeeded, that only the step in which it was held
// was started again, and that each step has one attempt.
func (s *stack) onceOnly(j *staged) {
	s.t.Helper()
	if job := s.end(j.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
		s.t.Errorf("%s, hurt in %s, is %s: %+v", j.Site, j.step, job.State, job.Error)
		return
	}
	for _, step := range s.record(j.JobId).Steps {
		want := 1
		if string(step.Name) == j.step {
			want = 2
		}
		if step.Starts != want || step.Attempts != 1 {
			s.t.Errorf("%s, hurt in %s: %s was started %d times and answered %d times", j.Site, j.step, step.Name, step.Starts, step.Attempts)
		}
	}
}

// freed checks that a name is free again, and that nothing is left of it.
func (s *stack) freed(site string) {
	s.t.Helper()
	if _, err := s.client.Tenant(s.t.Context(), site); nexus.CodeOf(err) != nexus.NotFound {
		s.t.Errorf("%s: the tenant's row is left: %v", site, err)
	}
	s.nothing(site)
}

// files is the whole state of the sandbox, byte for byte, without its locks.
func (s *stack) files() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	root := filepath.Join(s.dir, "sandbox")
	for _, room := range []string{"sites", "intent", "fence"} {
		entries, err := os.ReadDir(filepath.Join(root, room))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, entry := range entries {
			text, err := os.ReadFile(filepath.Join(root, room, entry.Name()))
			if err != nil {
				s.t.Fatal(err)
			}
			out[room+"/"+entry.Name()] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	return out
}

// world is everything that a fenced worker must not change: records, events, bench.
func (s *stack) world(jobs []*staged) map[string]string {
	s.t.Helper()
	out := s.files()
	for _, j := range jobs {
		for name, value := range s.record(j.JobId).Fields {
			out[j.JobId+" "+name] = value
		}
		n, err := s.rdb.XLen(s.t.Context(), "{nexus}:events:"+j.JobId).Result()
		out[j.JobId+" events"] = fmt.Sprint(n, err)
	}
	return out
}

func differences(before, after map[string]string) (out []string) {
	for name := range maps.Keys(after) {
		if before[name] != after[name] {
			out = append(out, fmt.Sprintf("%s: %q, then %q", name, before[name], after[name]))
		}
	}
	for name := range maps.Keys(before) {
		if _, ok := after[name]; !ok {
			out = append(out, name+" is gone")
		}
	}
	return out
}

// freeAddr returns an unused address of this machine.
func freeAddr(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + standin.FreePort(t)
}

// metric returns the sum of a metric over the series whose labels contain all texts.
func (s *stack) metric(addr, name string, labels ...string) (sum float64) {
	s.t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		head, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		base, _, _ := strings.Cut(head, "{")
		if base == name && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(head, l) }) {
			number, _ := strconv.ParseFloat(value, 64)
			sum += number
		}
	}
	return sum
}

// provisions signs up for one site for each step, to be held in that step.
func (s *stack) provisions(wave string, steps ...string) (jobs []*staged) {
	s.t.Helper()
	for _, step := range steps {
		name := wave + "-" + strings.ReplaceAll(step, "_", "-")
		jobs = append(jobs, &staged{Accepted: s.signup(name, name+"@example.com"), step: step, freed: step == "verify"})
	}
	return jobs
}

// failing signs up for a site that will be refused, to be held in its rollback.
func (s *stack) failing(wave, fault string) *staged {
	s.t.Helper()
	return &staged{Accepted: s.signup(wave+"-undo", fault+"+"+wave+"@example.com")}
}

// removal removes a tenant, to be held in a step of the teardown.
func (s *stack) removal(site, step string) *staged {
	s.t.Helper()
	down, err := s.client.Delete(s.t.Context(), site, true)
	if err != nil {
		s.t.Fatal(err)
	}
	return &staged{Accepted: gen.Accepted{JobId: down.Id, Site: site}, step: step}
}

// allTaken waits until the only worker has every job.
func (s *stack) allTaken(jobs []*staged) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, "every job is taken", func() bool {
		return !slices.ContainsFunc(jobs, func(j *staged) bool { return s.record(j.JobId).Fields["taken"] == "0" })
	})
}
