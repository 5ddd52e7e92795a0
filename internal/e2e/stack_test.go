//go:build service

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const operator = "operator-token-of-the-tests"

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
	binaries = dir
	return m.Run()
}

// process is one of our programs, or a server of theirs.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *logs
	done chan struct{}
}

// logs keeps what processes wrote, to be searched and shown on failure.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// stack is a whole system of processes.
type stack struct {
	t       testing.TB
	dir     string
	env     []string
	log     *logs
	redis   string
	api     string
	client  *client.Client
	rdb     *redis.Client
	workers []*process
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
	go func() {
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			log.add(scanner.Text())
		}
	}()
	go func() {
		_ = cmd.Wait()
		_ = writer.Close()
		close(p.done)
	}()
	t.Cleanup(func() { p.end(os.Kill) })
	return p
}

// end sends a signal and waits until the process is gone.
func (p *process) end(signal os.Signal) {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		p.t.Errorf("%s does not end", p.cmd.Path)
	}
}

// eventually waits for what must come true; it looks often and gives up loudly.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
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

// listening waits for the line in which a program says where it listens.
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

// newStack starts Redis, the sandbox's sites, an api and workers.
func newStack(t testing.TB, workers int, env ...string) *stack {
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
		"NEXUS_SANDBOX_DIR=" + filepath.Join(s.dir, "sandbox"), "NEXUS_HTTP_ADDR=127.0.0.1:0"}, env...)
	start(t, s.log, append(s.env, "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(binaries, "nexus"), "sandbox")
	sandbox := listening(t, s.log, "nexus sandbox started", "sandbox")
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+sandbox)
	start(t, s.log, s.env, filepath.Join(binaries, "api"))
	s.api = listening(t, s.log, "api started", "api")
	for range workers {
		s.workers = append(s.workers, start(t, s.log, s.env, filepath.Join(binaries, "worker")))
	}
	s.client = client.New(s.api, operator)
	t.Cleanup(s.client.Close)
	return s
}

func (s *stack) startRedis() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	start(s.t, s.log, nil, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
	s.redis = "redis://127.0.0.1:" + port + "/0"
	s.rdb = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, MaxRetries: -1})
	s.t.Cleanup(func() { _ = s.rdb.Close() })
	eventually(s.t, 20*time.Second, "redis answers", func() bool { return s.rdb.Ping(context.Background()).Err() == nil })
}

// signup asks for a site named after a number, as a person would.
func (s *stack) signup(name, email string) gen.Accepted {
	s.t.Helper()
	accepted, err := s.client.Signup(s.t.Context(), gen.SignupRequest{Email: email, Password: "Passw0rdXyz",
		FullName: "Jane Doe", OrganizationName: name, Subdomain: &name}, "key-"+name)
	if err != nil {
		s.t.Fatal(err)
	}
	return accepted
}

// end waits for the end of a job.
func (s *stack) end(id string, within time.Duration) gen.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	for {
		job, _, _, err := s.client.Job(ctx, id, "", 20*time.Second)
		if err != nil {
			s.t.Fatalf("job %s: %v", id, err)
		}
		switch job.State {
		case "succeeded", "failed", "canceled", "rollback_failed":
			return job
		}
	}
}
