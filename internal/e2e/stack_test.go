//go:build service

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const operator = "operator-token-of-the-tests"

// binaries is the folder of the programs as they are shipped, and of the API with fault
// points as api-faults.
var binaries string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nexus-e2e-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.Command("go", "build", "-o", dir, "../../cmd/...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	if out, err := exec.Command("go", "build", "-tags", "faults", "-o", filepath.Join(dir, "api-faults"), "../../cmd/api").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	binaries = dir
	return m.Run()
}

// process is one of the programs, or a server that they need.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *logs
	done chan struct{}
}

// logs keeps the output of processes, to be searched, and printed if a test fails.
type logs struct {
	also  *logs     // gets every line too
	file  io.Writer // and so does this, unless nil
	mu    sync.Mutex
	lines []string
}

func (l *logs) add(line string) {
	if l.also != nil {
		l.also.add(line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if l.file != nil {
		fmt.Fprintln(l.file, line)
	}
}

// copyTo writes the present and all later lines to a file too.
func (l *logs) copyTo(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		fmt.Fprintln(w, line)
	}
	l.file = w
}

func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// warnings returns the last n lines that are warnings or errors.
func (l *logs) warnings(n int) []string {
	all := slices.DeleteFunc(l.all(), func(line string) bool {
		return !strings.Contains(line, `"level":"WARN"`) && !strings.Contains(line, `"level":"ERROR"`)
	})
	return all[max(0, len(all)-n):]
}

// stack is a whole system of processes.
type stack struct {
	t       testing.TB
	dir     string
	env     []string
	log     *logs
	redis   string
	api     string
	sites   string   // host:port where the bench's sites answer
	server  *process // of the sandbox's sites; nil: the sites are the stand-in's
	client  *client.Client
	rdb     *redis.Client
	workers []*process
	country string // of signups and of the templates that are built; empty: none, and plain
}

func start(t testing.TB, log *logs, env []string, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, log: log, done: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			log.add(scanner.Text())
		}
	}()
	go func() {
		_ = cmd.Wait()
		_ = writer.Close()
		<-read // its last lines
		close(p.done)
	}()
	t.Cleanup(func() { p.end(os.Kill) })
	return p
}

// end sends a signal and waits until the process has ended.
func (p *process) end(signal os.Signal) {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second * patience):
		p.t.Errorf("%s does not end", p.cmd.Path)
	}
}

// patience is how many times longer than on an idle machine things may take: within, where
// tests wait, is for an idle one.
const patience = 4

// eventually waits until a condition is true, and fails the test after that time.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	within *= patience
	deadline, tick := time.After(within), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
}

// listening waits for the log line in which a program gives its address.
func listening(t testing.TB, log *logs, msg, field string) (addr string) {
	t.Helper()
	eventually(t, 20*time.Second, msg, func() bool {
		for _, line := range log.all() {
			var said map[string]any
			if json.Unmarshal([]byte(line), &said) == nil && said["msg"] == msg {
				addr, _ = said[field].(string)
			}
		}
		return addr != ""
	})
	return addr
}

// newStack starts Redis, the sandbox's sites, an API and workers.
func newStack(t testing.TB, workers int, env ...string) *stack {
	t.Helper()
	s := bareStack(t, env...)
	s.env = append(s.env, "NEXUS_SANDBOX_DIR="+filepath.Join(s.dir, "sandbox"))
	s.server = start(t, s.log, append(s.env, "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(binaries, "nexus"), "sandbox")
	s.sites = listening(t, s.log, "nexus sandbox started", "sandbox")
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+s.sites)
	s.startAPI()
	s.startWorkers(workers)
	return s
}

// bareStack starts Redis, and prepares the environment of all processes.
func bareStack(t testing.TB, env ...string) *stack {
	t.Helper()
	s := &stack{t: t, dir: t.TempDir(), log: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range s.log.all() {
				t.Log(line)
			}
		}
	})
	s.startRedis()
	_, keys := nexus.NewKeyring()
	s.env = append([]string{"REDIS_URL=" + s.redis, "NEXUS_SECRET_KEYS=" + keys.Reveal(), "NEXUS_TOKENS=op:operate:" + operator,
		"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_RATE_LIMIT=off"}, env...)
	return s
}

// startAPI starts another API; the client calls the last one that was started.
func (s *stack) startAPI() {
	s.t.Helper()
	log := &logs{also: s.log}
	start(s.t, log, s.env, filepath.Join(binaries, "api"))
	s.api = listening(s.t, log, "api started", "api")
	s.client = client.New(s.api, operator)
	s.t.Cleanup(s.client.Close)
}

func (s *stack) startWorkers(n int) {
	s.t.Helper()
	for range n {
		s.workers = append(s.workers, start(s.t, s.log, s.env, filepath.Join(binaries, "worker")))
	}
}

// nexus runs the command line to its end.
func (s *stack) nexus(input string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "nexus"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, s.env...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// sound waits until no job is under way, then checks that registry and bench agree:
// nexus doctor finds nothing but what is given, and ends with 0 if that is nothing. It is for the end of each test that breaks
// something, when everything is mended.
func (s *stack) sound(findings ...string) {
	s.t.Helper()
	eventually(s.t, 2*time.Minute, "no job is under way", func() bool {
		due, err := s.rdb.ZRange(s.t.Context(), "{nexus}:due", 0, -1).Result()
		return err == nil && !slices.ContainsFunc(due, func(entry string) bool { return !strings.HasPrefix(entry, "tenant:") })
	})
	s.finds(findings)
}

// fromRedis returns Redis' answer, the zero value for nil. An error ends the test: it
// must not look like a missing key.
func fromRedis[T any](t testing.TB, cmd interface{ Result() (T, error) }) T {
	t.Helper()
	out, err := cmd.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return out
}

func (s *stack) startRedis() {
	r := newRedis(s.t, s.log, s.dir)
	s.redis = "redis://" + r.addr + "/0"
	s.rdb = redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	s.t.Cleanup(func() { _ = s.rdb.Close() })
}

// signup signs up for a site.
func (s *stack) signup(name, email string) gen.Accepted {
	s.t.Helper()
	accepted, err := s.client.Signup(s.t.Context(), gen.SignupRequest{Email: email, Password: "Passw0rdXyz",
		FullName: "Jane Doe", OrganizationName: name, Subdomain: &name, Country: &s.country}, "key-"+name)
	if err != nil {
		s.t.Fatal(err)
	}
	return accepted
}

// signupAll signs up for n sites at once.
func (s *stack) signupAll(n int, name string) []gen.Accepted {
	s.t.Helper()
	accepted := make([]gen.Accepted, n)
	var all sync.WaitGroup
	for i := range accepted {
		all.Go(func() { accepted[i] = s.signup(fmt.Sprintf("%s-%02d", name, i), fmt.Sprintf("jane%d@example.com", i)) })
	}
	all.Wait()
	return accepted
}

// end waits for the end of a job.
func (s *stack) end(id string, within time.Duration) gen.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within*patience)
	defer cancel()
	for {
		job, _, _, err := s.client.Job(ctx, id, "", 20*time.Second)
		switch {
		case nexus.CodeOf(err) == nexus.Unavailable && ctx.Err() == nil: // Redis or the API may stand still for a moment
			<-time.After(200 * time.Millisecond)
			continue
		case err != nil:
			s.t.Fatalf("job %s: %v", id, err)
		}
		switch job.State {
		case "succeeded", "failed", "canceled", "rollback_failed":
			return job
		}
	}
}
