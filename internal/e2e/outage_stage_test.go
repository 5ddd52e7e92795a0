//go:build service

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// redisServer is a Redis that a test can kill and restart.
type redisServer struct {
	t       testing.TB
	dir     string
	addr    string
	more    []string
	process *process
}

func newRedis(t testing.TB, log *logs, dir string, more ...string) *redisServer {
	t.Helper()
	r := &redisServer{t: t, dir: dir, addr: freeAddr(t), more: more}
	r.start(log)
	return r
}

// start starts it, or starts it again with its files.
func (r *redisServer) start(log *logs) {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	r.process = start(r.t, log, nil, "redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"}, r.more...)...)
	rdb := redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	eventually(r.t, 30*time.Second, "redis answers", func() bool { return rdb.Ping(context.Background()).Err() == nil })
}

// kill sends SIGKILL.
func (r *redisServer) kill() { r.process.end(os.Kill) }

// frailStack is a stack on a Redis that the test can kill. Through, unless empty, is the
// address that its processes use instead of the server's.
func frailStack(t testing.TB, through string, env ...string) (*stack, *redisServer) {
	t.Helper()
	s := &stack{t: t, dir: t.TempDir(), log: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range s.log.all() {
				t.Log(line)
			}
		}
	})
	r := newRedis(t, s.log, s.dir)
	if through == "" {
		through = r.addr
	}
	s.redis = "redis://" + through + "/0"
	s.rdb = redis.NewClient(&redis.Options{Addr: r.addr})
	t.Cleanup(func() { _ = s.rdb.Close() })
	_, keys := nexus.NewKeyring()
	s.env = append([]string{"REDIS_URL=" + s.redis, "NEXUS_SECRET_KEYS=" + keys.Reveal(), "NEXUS_TOKENS=op:operate:" + operator,
		"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_RATE_LIMIT=off"}, env...)
	return s, r
}

// onSandbox gives a stack the sandbox and an API.
func (s *stack) onSandbox() {
	s.t.Helper()
	s.env = append(s.env, "NEXUS_SANDBOX_DIR="+filepath.Join(s.dir, "sandbox"))
	s.server = start(s.t, s.log, append(s.env, "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(binaries, "nexus"), "sandbox")
	s.sites = listening(s.t, s.log, "nexus sandbox started", "sandbox")
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+s.sites)
	s.startAPI()
}

// workerPassword is the password of the workers' database account.
const workerPassword = "WorkerPassw0rdOfE2E"

// onStandin gives a stack a prepared stand-in bench and an API. Env comes last.
func (s *stack) onStandin(t *testing.T, pace time.Duration, env ...string) *dockerStack {
	t.Helper()
	b := standin.Start(t, pace)
	d := &dockerStack{stack: s, box: standin.NewBox(t, b.Name, b.RootPassword)}
	s.sites = b.Addr
	s.env = append(s.env, "NEXUS_BENCH=docker", "NEXUS_POOL=0", "DOCKER_SERVICE="+b.Name, "NEXUS_VERIFY_ADDR="+b.Addr,
		"NEXUS_DB_ACCOUNT=nexus_e2e", "NEXUS_DB_PASSWORD="+workerPassword,
		"NEXUS_SITE_URL=http://{site}:"+b.Addr[strings.LastIndex(b.Addr, ":")+1:])
	s.env = append(s.env, env...)
	if out, errs, code := s.nexus(b.RootPassword+"\n", "bench", "init"); code != 0 {
		t.Fatalf("bench init: exit %d\n%s%s", code, out, errs)
	}
	s.startAPI()
	return d
}

// until waits until a job is in a state, and in a step if one is given.
func (s *stack) until(id string, state nexus.State, step string) record {
	s.t.Helper()
	var r record
	eventually(s.t, 90*time.Second, fmt.Sprintf("%s is %s in %q", id, state, step), func() bool {
		r = s.record(id)
		return r.State == state && (step == "" || r.step(step).State == nexus.StepStarted)
	})
	return r
}

// answer is an answer of the API.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// call calls the API without the client; headers are names and values in turn.
func (s *stack) call(method, path, body string, headers ...string) (a answer) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 60*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.api+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	a = answer{status: response.StatusCode, header: response.Header}
	a.body, a.err = io.ReadAll(response.Body)
	return a
}

// form is the body of a signup.
func form(t testing.TB, name, email, password string) string {
	t.Helper()
	body, err := json.Marshal(gen.SignupRequest{Email: email, Password: password, FullName: "Jane Doe", OrganizationName: name, Subdomain: &name})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// refusedKindly checks that an answer is a problem with a Retry-After.
func (s *stack) refusedKindly(what string, a answer) {
	s.t.Helper()
	var p gen.Problem
	err := json.Unmarshal(a.body, &p)
	after, _ := strconv.Atoi(a.header.Get("Retry-After"))
	if a.err != nil || err != nil || a.status != http.StatusServiceUnavailable || after < 1 || len(value(p.Detail)) < 20 ||
		a.header.Get("Content-Type") != "application/problem+json" {
		s.t.Errorf("%s: %d, Retry-After %q, %s, %v %v", what, a.status, a.header.Get("Retry-After"), a.body, a.err, err)
	}
}

// crowd signs up again and again, as people with a form would. A refused signup is
// repeated with the same idempotency key. It records every job that was accepted.
type crowd struct {
	s        *stack
	stop     chan struct{}
	all      sync.WaitGroup
	mu       sync.Mutex
	promised []gen.Accepted
	refusals []answer
	failures int // signups without an answer, or with an unexpected one
}

// crowd starts n people who sign up.
func (s *stack) crowd(name string, n int) *crowd {
	c := &crowd{s: s, stop: make(chan struct{})}
	for i := range n {
		c.all.Go(func() { c.person(fmt.Sprintf("%s-%d", name, i)) })
	}
	return c
}

func (c *crowd) person(name string) {
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		each := fmt.Sprintf("%s-%d", name, n)
		a := c.s.call("POST", "/signup", form(c.s.t, each, each+"@example.com", "Passw0rdXyz"), "Idempotency-Key", each)
		c.mu.Lock()
		switch a.status {
		case http.StatusAccepted:
			var accepted gen.Accepted
			if err := json.Unmarshal(a.body, &accepted); err != nil {
				c.s.t.Errorf("%s: %v", a.body, err)
			}
			c.promised = append(c.promised, accepted)
			n++
		case http.StatusServiceUnavailable:
			c.refusals = append(c.refusals, a)
		default:
			c.failures++
			c.s.t.Errorf("%s: %d %s %v", each, a.status, a.body, a.err)
		}
		c.mu.Unlock()
	}
}

// rest stops the signups and waits until they have ended.
func (c *crowd) rest() {
	close(c.stop)
	c.all.Wait()
}

// kept checks that every accepted job succeeded.
func (c *crowd) kept() {
	c.s.t.Helper()
	for _, a := range c.promised {
		if job := c.s.end(a.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
			c.s.t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		for _, step := range c.s.record(a.JobId).Steps {
			asks := step.Name == "reserve" || step.Name == "verify" // these steps ask Redis themselves
			if !asks && (step.Starts != 1 || step.Attempts != 1) {
				c.s.t.Errorf("%s: %s was started %d times and answered %d times", a.Site, step.Name, step.Starts, step.Attempts)
			}
		}
	}
	for _, a := range c.refusals {
		c.s.refusedKindly("signup", a)
	}
}

// gen is the last token that was minted.
func (s *stack) gen() int64 {
	s.t.Helper()
	n, err := s.rdb.Get(context.WithoutCancel(s.t.Context()), "{nexus}:gen").Int64()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// forwarder forwards connections, and can be frozen or closed.
type forwarder struct {
	t        testing.TB
	listener net.Listener
	mu       sync.Mutex
	changed  *sync.Cond
	network  string
	target   string
	frozen   map[net.Conn]bool // connections that hold back what was read
	trap     string            // a connection that sends this text is frozen before it is forwarded; empty: none
	trapped  int
	refuses  bool
	open     map[net.Conn]int // directions that still use it
	loops    sync.WaitGroup
}

// forward listens on a network and forwards everything to target of the same network. It
// ends with the test.
func forward(t testing.TB, network, listen, target string) *forwarder {
	t.Helper()
	listener, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{t: t, listener: listener, network: network, target: target, open: map[net.Conn]int{}, frozen: map[net.Conn]bool{}}
	f.changed = sync.NewCond(&f.mu)
	f.loops.Go(f.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		f.cut()
		f.loops.Wait()
	})
	return f
}

func (f *forwarder) addr() string { return f.listener.Addr().String() }

func (f *forwarder) accept() {
	for {
		in, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		target, refuses := f.target, f.refuses
		f.mu.Unlock()
		if refuses {
			_ = in.Close()
			continue
		}
		out, err := net.Dial(f.network, target)
		if err != nil {
			_ = in.Close()
			continue
		}
		f.mu.Lock()
		f.open[in], f.open[out] = 2, 2
		f.mu.Unlock()
		f.loops.Go(func() { f.copy(in, out) })
		f.loops.Go(func() { f.copy(out, in) })
	}
}

// copy forwards what it reads; while frozen it keeps what it has read.
func (f *forwarder) copy(to, from net.Conn) {
	defer f.drop(to, from)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		f.pause(to, from, string(buffer[:n]))
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			f.half(to)
			return
		}
	}
}

// pause returns once a direction is no longer frozen, or is cut.
func (f *forwarder) pause(to, from net.Conn, said string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trap != "" && strings.Contains(said, f.trap) {
		f.trap, f.frozen[to], f.frozen[from] = "", true, true
		f.trapped++
	}
	for f.frozen[from] && f.has(from) {
		f.changed.Wait()
	}
}

func (f *forwarder) has(c net.Conn) bool { _, ok := f.open[c]; return ok }

// half forwards the end of one direction.
func (f *forwarder) half(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

func (f *forwarder) drop(conns ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		if !f.has(c) {
			continue // cut
		}
		if f.open[c]--; f.open[c] == 0 {
			_ = c.Close()
			delete(f.open, c)
			delete(f.frozen, c)
		}
	}
}

// cut closes every connection; new ones are accepted.
func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		_ = c.Close()
	}
	clear(f.open)
	clear(f.frozen)
	f.changed.Broadcast()
}

// freeze holds back all data on the present connections, without closing them; new ones
// are forwarded.
func (f *forwarder) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		f.frozen[c] = true
	}
}

// freezeOn freezes the connection on which a text is sent next, before it is forwarded.
// Caught counts how often that happened.
func (f *forwarder) freezeOn(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trap = text
}

func (f *forwarder) caught() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trapped
}

// refuse closes every connection and accepts no new one.
func (f *forwarder) refuse(on bool) {
	f.mu.Lock()
	f.refuses = on
	f.mu.Unlock()
	if on {
		f.cut()
	}
}

// to forwards new connections to another server.
func (f *forwarder) to(target string) {
	f.mu.Lock()
	f.target = target
	f.mu.Unlock()
	f.cut()
}

// holdLock keeps a session of root open after a statement, to hold a lock. Let ends it.
func (s *dockerStack) holdLock(statement string) (let func()) {
	s.t.Helper()
	return holdLock(s.t, s.dbAddr(), s.box.RootPassword, statement)
}

func holdLock(t testing.TB, addr, password, statement string) (let func()) {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	out := &logs{}
	in, tell := io.Pipe()
	cmd := exec.Command("mariadb", "-h", host, "-P", port, "--protocol=tcp", "-u", "root", "-N", "--unbuffered")
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+password)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(tell, "%s;\nSELECT 'held';\n", statement)
	eventually(t, 20*time.Second, "the lock is held", func() bool { return out.count("held") > 0 })
	let = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = tell.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(let)
	return let
}

// Write keeps the output of a program.
func (l *logs) Write(p []byte) (int, error) {
	l.add(string(p))
	return len(p), nil
}

// whole checks that a provision succeeded, its site answers, and each step has the given
// number of charged attempts.
func (s *dockerStack) whole(id string, attempts map[string]int) {
	s.t.Helper()
	job := s.end(id, 3*time.Minute)
	if job.State != gen.StateSucceeded {
		s.t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		return
	}
	if status := s.ping(job.Site); status != http.StatusOK {
		s.t.Errorf("%s answers %d", job.Site, status)
	}
	for name, most := range attempts {
		if got := s.record(id).step(name); got.Attempts > most {
			s.t.Errorf("%s: %s took %d attempts, want at most %d", job.Site, name, got.Attempts, most)
		}
	}
}

// idle checks that only this number of runners of this stack runs on the bench, and no
// thread of its sites or of its worker's account in MariaDB.
func (s *dockerStack) idle(runners int) {
	s.t.Helper()
	ours := "nx" + s.install()
	query := "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND (user LIKE '" + ours + "%' OR db LIKE '" + ours +
		"%' OR info LIKE '%" + ours + "%' OR user='" + s.account() + "')"
	eventually(s.t, 45*time.Second, "nothing of ours runs on the bench", func() bool {
		busy := s.box.Sh(s.t, "ps -eo args | grep -c -e '[b]ench_helper' -e '[n]"+ours[1:]+"' || true")
		up := s.box.Sh(s.t, "ps -eo args | grep -c '[r]unner.py' || true")
		n, _ := strconv.Atoi(up)
		return busy == "0" && n <= runners && s.box.SQL(s.t, query) == "0"
	})
}

// account is the worker's account in MariaDB.
func (s *dockerStack) account() (name string) {
	for _, setting := range s.env {
		if value, ok := strings.CutPrefix(setting, "NEXUS_DB_ACCOUNT="); ok {
			name = value
		}
	}
	return name
}
