package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const commands = "github.com/nexus-erp/provisioner/cmd/..."

// concurrency is how many jobs, or tasks of the peer, run at once, and the number of
// clients.
const concurrency = 16

// stack is the whole system; each part is a process of its own.
type stack struct {
	runs      int // how often each figure is measured
	watchers  int // how many clients watch jobs
	dir       string
	sites     string // the sandbox's folder
	env       []string
	redisAddr string
	rdb       *redis.Client // the product's database
	all       []*process
	api       *process
	worker    *process
	apiAddr   string // host:port
	client    *client.Client
	token     string // of an operator
	peers     peers
	signups   atomic.Int64
}

// newStack starts all processes. With an error it also returns what was started, unless
// that is nil; the caller closes it.
func newStack(ctx context.Context, o options) (*stack, error) {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not in PATH; install it (such as: apt-get install redis-server) and try again")
	}
	dir, err := os.MkdirTemp("", "nexus-benchmark-")
	if err != nil {
		return nil, err
	}
	s := &stack{dir: dir, runs: o.runs, watchers: o.watchers}
	if s.sites, err = memoryFolder(dir); err != nil {
		return s, err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", dir, commands).CombinedOutput(); err != nil {
		return s, fmt.Errorf("the binaries cannot be built: %w\n%s", err, out)
	}
	if err := s.startRedis(ctx, server); err != nil {
		return s, err
	}
	s.environment()
	if err := s.startProduct(ctx); err != nil {
		return s, err
	}
	return s, s.startPeers(ctx)
}

// close ends every process that this run started, the last one first.
func (s *stack) close() (err error) {
	if s.client != nil {
		s.client.Close()
	}
	s.peers.close()
	if s.rdb != nil {
		_ = s.rdb.Close()
	}
	for _, p := range slices.Backward(s.all) {
		err = errors.Join(err, p.end(5*time.Second))
	}
	return errors.Join(err, os.RemoveAll(s.dir), os.RemoveAll(s.sites))
}

// memoryFolder makes a folder in /dev/shm, or in the given folder if there is no /dev/shm.
// It is for the files of the sandbox, which stand in for a bench and are not to be measured:
// a new file takes 0.25 ms of CPU on a busy ext4.
func memoryFolder(below string) (string, error) {
	const shared = "/dev/shm"
	if _, err := os.Stat(shared); err == nil {
		below = shared
	}
	return os.MkdirTemp(below, "nexus-benchmark-sandbox-")
}

// start runs a program, which close ends.
func (s *stack) start(name string, env []string, program string, args ...string) (*process, error) {
	p, err := start(s.dir, name, env, program, args...)
	if err == nil {
		s.all = append(s.all, p)
	}
	return p, err
}

func (s *stack) startRedis(ctx context.Context, server string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	p, err := s.start("redis", nil, server, "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
		"--auto-aof-rewrite-percentage", "0") // a rewrite would slow down the run that it falls in, ours or the peer's
	if err != nil {
		return err
	}
	s.redisAddr = "127.0.0.1:" + port
	s.rdb = redis.NewClient(&redis.Options{Addr: s.redisAddr})
	return eventually(ctx, 20*time.Second, "redis-server answers", func() bool { return p.gone() || s.rdb.Ping(ctx).Err() == nil })
}

// environment sets the environment of the product's processes.
func (s *stack) environment() {
	_, keys := nexus.NewKeyring()
	s.token = rand.Text()
	s.env = []string{"NEXUS_TOKENS=bench:operate:" + s.token, "REDIS_URL=redis://" + s.redisAddr + "/0", "NEXUS_SECRET_KEYS=" + keys.Reveal(),
		"NEXUS_SANDBOX_DIR=" + s.sites, "NEXUS_HTTP_ADDR=127.0.0.1:0",
		fmt.Sprintf("NEXUS_CONCURRENCY=%d", concurrency)}
	const noLimit = "NEXUS_RATE_LIMIT=off"
	if _, warnings, _ := app.Load([]string{noLimit}); !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.HasPrefix(w, "NEXUS_RATE_LIMIT")
	}) {
		s.env = append(s.env, noLimit)
	}
}

func (s *stack) startProduct(ctx context.Context) error {
	sandbox, err := s.start("sandbox", append(slices.Clone(s.env), "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(s.dir, "nexus"), "sandbox")
	if err != nil {
		return err
	}
	at, err := sandbox.says(ctx, "nexus sandbox started", "sandbox")
	if err != nil {
		return err
	}
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+at)
	if s.api, err = s.start("api", s.env, filepath.Join(s.dir, "api")); err != nil {
		return err
	}
	base, err := s.api.says(ctx, "api started", "api")
	if err != nil {
		return err
	}
	s.apiAddr, s.client = strings.TrimPrefix(base, "http://"), client.New(base, nexus.Secret(s.token))
	s.worker, err = s.startWorker(ctx, "worker")
	return err
}

// startWorker starts a worker, with additions to the environment.
func (s *stack) startWorker(ctx context.Context, name string, env ...string) (*process, error) {
	p, err := s.start(name, append(slices.Clone(s.env), env...), filepath.Join(s.dir, "worker"))
	if err == nil {
		_, err = p.says(ctx, "worker started", "time")
	}
	return p, err
}

// signup signs up for a new site, as the form does.
func (s *stack) signup(ctx context.Context) (id string, err error) {
	return s.signupBy(ctx, "jane@example.com")
}

// signupBy is signup with an e-mail address; some addresses make the sandbox behave
// differently, such as slow-site@example.com.
func (s *stack) signupBy(ctx context.Context, email string) (id string, err error) {
	name := fmt.Sprintf("bench-%d", s.signups.Add(1))
	accepted, err := s.client.Signup(ctx, gen.SignupRequest{Email: email, Password: "Passw0rdXyz",
		FullName: "Jane Doe", OrganizationName: name, Subdomain: &name}, "key-"+name)
	return accepted.JobId, err
}

// settled waits until all jobs are over: a job that ends leaves the due index.
func (s *stack) settled(ctx context.Context) error {
	return eventually(ctx, time.Minute, "all jobs come to their end", func() bool {
		left, err := s.rdb.ZCard(ctx, "{nexus}:due").Result()
		return err == nil && left == 0
	})
}

// succeeded reads a job; it is an error if the job has not succeeded.
func (s *stack) succeeded(ctx context.Context, id string) (gen.Job, error) {
	job, _, _, err := s.client.Job(ctx, id, "", 0)
	switch {
	case err != nil:
	case job.Error != nil:
		err = fmt.Errorf("job %s is %s: in %s, %s: %s", id, job.State, *cmp.Or(job.Error.Step, new("?")), job.Error.Code, job.Error.Message)
	case job.State != gen.StateSucceeded:
		err = fmt.Errorf("job %s is %s", id, job.State)
	}
	return job, err
}

// lastWords returns log lines that may explain a failure: the last lines of processes that
// ended unexpectedly, and the last warning and error of the others.
func (s *stack) lastWords() string {
	var b strings.Builder
	for _, p := range s.all {
		text, _ := os.ReadFile(p.log)
		if p.ended {
			continue
		}
		if p.gone() {
			fmt.Fprintf(&b, "\n%s is gone; it wrote:\n%s", p.name, text[max(0, len(text)-600):])
			continue
		}
		for _, level := range []string{`"level":"WARN"`, `"level":"ERROR"`} {
			if at := bytes.LastIndex(text, []byte(level)); at >= 0 {
				line, _, _ := bytes.Cut(text[at:], []byte("\n"))
				fmt.Fprintf(&b, "\n%s: %s", p.name, line[:min(len(line), 600)])
			}
		}
	}
	return b.String()
}
