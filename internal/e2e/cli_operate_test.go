//go:build service

package e2e_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCLIOperate runs an operator's commands on one tenant, from the signup to the
// removal.
func TestCLIOperate(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	done := s.signup("acme", "jane@example.com").JobId
	s.end(done, time.Minute)
	failed := s.signup("fails", "fail-apps@example.com").JobId
	s.end(failed, time.Minute)
	s.golden("jobs",
		call{args: words("jobs list")},
		call{args: words("jobs list --state failed -o json")},
		call{args: words("jobs list --state lost"), code: 2},
		call{args: words("jobs list --state canceled")},
		call{args: words("jobs list --limit 1")},
		call{args: words("jobs list --limit 0"), code: 2},
		call{args: words("jobs list --jq .jobs[].kind")},
		call{args: words("jobs list --jq .jobs["), code: 2},
		call{args: words("jobs show " + done)},
		call{args: words("jobs watch " + done)},
		call{args: words("jobs watch " + failed), code: 1},
		call{args: words("jobs watch 0123"), code: 1},
		call{args: words("jobs cancel " + done), code: 1},
		call{args: words("jobs resume " + failed), code: 1},
		call{args: words("jobs show"), code: 2},
		call{args: words("jobs lst"), code: 2},
		call{args: words("jobs list"), env: []string{"NEXUS_API_TOKEN="}, code: 1},
		call{args: words("jobs list"), env: []string{"NEXUS_API_TOKEN=not-a-token-of-it"}, code: 1},
		call{args: words("jobs list -o xml"), code: 2},
		call{args: words("__complete tenants rm ")},
	)
	s.golden("tenants",
		call{args: words("tenants list")},
		call{args: words("tenants show acme")},
		call{args: words("tenants show acme.localhost -o json")},
		call{args: words("tenants show nobody"), code: 1},
		call{args: words("tenants rm acme"), code: 2},
		call{args: words("tenants rm acme --yes")},
		call{args: words("tenants list --state suspended")},
		call{args: words("__complete tenants restore ")},
		call{args: words("__complete tenants keys rotate ")},
		call{args: words("tenants restore acme")},
		call{args: words("tenants restore acme"), code: 1},
		call{args: words("tenants keys rotate acme")},
		call{args: words("tenants keys rotate nobody"), code: 1},
		call{args: words("tenants rm acme --now --yes")},
		call{args: words("tenants list -o json")},
	)
	s.golden("bench",
		call{args: words("bench list")},
		call{args: words("bench pause sandbox")},
		call{args: words("bench drain sandbox -o json")},
		call{args: words("bench resume sandbox")},
		call{args: words("bench resume nowhere"), code: 1},
		call{args: words("bench pause"), code: 2},
	)
}

// TestCLIPool shows, drains and fills a shelf that a worker keeps.
func TestCLIPool(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_TEMPLATES=plain", "NEXUS_POOL=2")
	shelved := func(want string) {
		t.Helper()
		eventually(t, 5*time.Minute, want+" copies are ready", func() bool {
			out, _, _ := s.cli(call{args: words("pool show --jq .shelves[]|[.shelved,.making,.reaping]")})
			return out == "["+want+",0,0]\n"
		})
	}
	shelved("2")
	s.golden("pool",
		call{args: words("pool show")},
		call{args: words("pool show -o json")},
		call{args: words("pool fill --members 0"), code: 1},
		call{args: words("pool fill --for 1s"), code: 1},
		call{args: words("pool fill --bench nowhere"), code: 1},
		call{args: words("pool fill all"), code: 2},
		call{args: words("__complete pool fill --template ")},
	)
	if out, errs, code := s.cli(call{args: words("pool drain")}); code != 0 || !strings.Contains(out, "drained by an operator") {
		t.Errorf("drain: exit %d\n%s%s", code, out, errs)
	}
	shelved("0")
	if out, errs, code := s.cli(call{args: words("pool fill --members 3")}); code != 0 || !strings.Contains(out, "at least 3 until") {
		t.Errorf("fill: exit %d\n%s%s", code, out, errs)
	}
	shelved("3")
}

// TestCLICancel cancels a job while another command watches it.
func TestCLICancel(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	slow := s.signup("slow", "slow-site@example.com").JobId
	log := &logs{also: s.log}
	watcher := start(t, log, []string{"NEXUS_API_URL=" + s.api}, filepath.Join(binaries, "nexus"), "jobs", "watch", slow)
	eventually(t, 20*time.Second, "the watcher sees the site being made", func() bool {
		return strings.Contains(strings.Join(log.all(), "\n"), "site      started")
	})
	if out, errs, code := s.cli(call{args: []string{"jobs", "cancel", slow, "-o", "json"}}); code != 0 || !strings.Contains(out, slow) {
		t.Errorf("cancel: exit %d\n%s%s", code, out, errs)
	}
	select {
	case <-watcher.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the watcher does not see the end")
	}
	if code := watcher.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("watch: exit %d, want 1", code)
	}
	eventually(t, 5*time.Second, "the watcher says how it ended", func() bool { return strings.Contains(strings.Join(log.all(), "\n"), "canceled") })
}

// TestCLIRestart restarts the API while a command watches a job: the watch goes on.
func TestCLIRestart(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	log := &logs{also: s.log}
	env := append(slices.Clone(s.env), "NEXUS_HTTP_ADDR="+freeAddr(t)) // that nobody takes while the API is away
	api := start(t, log, env, filepath.Join(binaries, "api"))
	base := listening(t, log, "api started", "api")
	slow := s.signup("slow", "slow-site@example.com").JobId
	seen := &logs{also: s.log}
	watcher := start(t, seen, []string{"NEXUS_API_URL=" + base}, filepath.Join(binaries, "nexus"), "jobs", "watch", slow)
	eventually(t, 20*time.Second, "the watcher sees the site being made", func() bool {
		return strings.Contains(strings.Join(seen.all(), "\n"), "site      started")
	})
	api.end(syscall.SIGKILL)
	eventually(t, 20*time.Second, "the watcher says that nobody answers", func() bool {
		return strings.Contains(strings.Join(seen.all(), "\n"), "no answer from the API")
	})
	start(t, log, env, filepath.Join(binaries, "api"))
	select {
	case <-watcher.done:
	case <-time.After(60 * time.Second):
		t.Fatal("the watcher does not see the end")
	}
	if code := watcher.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("watch: exit %d\n%s", code, strings.Join(seen.all(), "\n"))
	}
}

// TestCLIPages lists more than one page.
func TestCLIPages(t *testing.T) {
	t.Parallel()
	const many = 53
	s := newStack(t, 1, "NEXUS_CONCURRENCY=32")
	for _, a := range s.signupAll(many, "page") {
		s.end(a.JobId, time.Minute)
	}
	for _, what := range []string{"jobs", "tenants"} {
		out, errs, code := s.cli(call{args: []string{what, "list"}})
		if lines := strings.Count(out, "\n"); code != 0 || lines != 51 || !strings.Contains(errs, "--all") {
			t.Errorf("%s list: exit %d, %d lines\n%s", what, code, lines, errs)
		}
		out, errs, code = s.cli(call{args: []string{what, "list", "--all"}})
		if lines := strings.Count(out, "\n"); code != 0 || lines != many+1 || errs != "" {
			t.Errorf("%s list --all: exit %d, %d lines\n%s", what, code, lines, errs)
		}
	}
}

// TestCLITrial runs nexus test-provisioning: it passes, it fails, and it cannot begin;
// against a server and with --local.
func TestCLITrial(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	s.golden("test-provisioning",
		call{args: words("test-provisioning")},
		call{args: words("test-provisioning"), env: []string{"NEXUS_VERIFY_ADDR=" + s.sites}},
		call{args: words("test-provisioning --keep"), env: []string{"NEXUS_API_TOKEN="}},
		call{args: words("test-provisioning --email fail-apps@example.com"), code: 1},
		call{args: words("test-provisioning"), env: []string{"NEXUS_VERIFY_ADDR=127.0.0.1:1"}, code: 1},
		call{args: words("test-provisioning"), env: []string{"NEXUS_API_TOKEN="}, code: 1},
		call{args: words("test-provisioning"), env: []string{"NEXUS_API_URL=http://127.0.0.1:1"}, code: 3},
	)
	// --local does not use the server, Redis and bench in the environment.
	elsewhere := []string{"NEXUS_API_URL=http://127.0.0.1:1", "REDIS_URL=redis://127.0.0.1:1/0", "NEXUS_BENCH=docker", "NEXUS_VERIFY_ADDR=127.0.0.1:1"}
	s.golden("local",
		call{args: words("test-provisioning --local"), env: elsewhere},
		call{args: words("test-provisioning --local --keep"), code: 2},
		call{args: provisionArgs("acme", "jane@example.com", "Test123!", "Acme", "--local"), env: elsewhere},
		call{args: provisionArgs("acme", "fail-apps@example.com", "Test123!", "Acme", "--local"), env: elsewhere, code: 1},
		call{args: provisionArgs("acme", "jane@example.com", "weak", "Acme", "--local"), env: elsewhere, code: 1},
	)
	if out, errs, code := s.cli(call{args: provisionArgs("acme", "jane@example.com", "Test123!", "Acme", "--local", "--verbose")}); code != 0 || !strings.Contains(errs, `"msg":"step done"`) {
		t.Errorf("--verbose: exit %d, and no log\n%s%s", code, out, errs)
	}
}

// TestCLICanary runs the canary: a run that succeeds; a run that fails; the removal of
// what a crashed run left, but not of what another run is using; and the loop with its
// metrics.
func TestCLICanary(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	for name, email := range map[string]string{"canary-0a1b2c": "canary+0a1b2c@example.com", "canary-3d4e5f": "canary+3d4e5f@example.com",
		"canary-6a7b8c": "jane@example.com", "canary-yellow": "jane@example.com"} { // two are customers
		s.end(s.signup(name, email).JobId, time.Minute)
	}
	for _, old := range []string{"canary-0a1b2c", "canary-6a7b8c", "canary-yellow"} {
		if err := s.rdb.HSet(t.Context(), "{nexus}:tenant:"+old+".localhost", "createdAt", time.Now().Add(-2*time.Hour).UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.golden("canary",
		call{args: words("canary")},
		call{args: words("tenants list --all")}, // sites of customers, or too young, are kept
		call{args: words("canary --email fail-apps@example.com"), code: 1},
		call{args: words("canary"), env: []string{"NEXUS_VERIFY_ADDR=127.0.0.1:1"}, code: 1},
		call{args: words("canary"), env: []string{"NEXUS_API_TOKEN="}, code: 1},
		call{args: words("canary --metrics-addr 127.0.0.1:0"), code: 2},
		call{args: words("tenants list --all")}, // every run has removed its site
	)
	log := &logs{also: s.log}
	p := start(t, log, []string{"NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, filepath.Join(binaries, "nexus"),
		"canary", "--every", "200ms", "--metrics-addr", "127.0.0.1:0")
	eventually(t, 30*time.Second, "two runs are over", func() bool { return strings.Count(strings.Join(log.all(), "\n"), `"ok":true`) >= 2 })
	_, address, _ := strings.Cut(log.all()[0], "metrics: ")
	for _, want := range []string{`nexus_canary_runs_total{result="failed"} 0`, `nexus_canary_runs_total{result="ok"} `,
		"nexus_canary_last_success_timestamp_seconds 1.", "nexus_canary_seconds_count "} {
		if text := fetch(t, address); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	p.end(syscall.SIGTERM)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("told to stop, it leaves with %d", code)
	}
}

func fetch(t testing.TB, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCLIInit writes a .env, once, and starts the API with it.
func TestCLIInit(t *testing.T) {
	t.Parallel()
	s := bareStack(t)
	s.golden("init",
		call{args: words("init")},
		call{args: words("init"), code: 1},
		call{args: words("init --file no/such/folder/.env"), code: 1},
	)
	file := filepath.Join(s.dir, ".env")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it may be read by others: %v, %v", info.Mode(), err)
	}
	if out, errs, code := s.cli(call{args: words("init --force")}); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) == string(first) {
		t.Fatalf("--force did not write it anew: %v", err)
	}
	s.env = []string{"REDIS_URL=" + s.redis, "NEXUS_HTTP_ADDR=127.0.0.1:0"}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			s.env = append(s.env, line)
		}
	}
	s.startAPI()
	if out, errs, code := s.cli(call{args: words("tenants list"), env: s.env}); code != 0 {
		t.Errorf("the token of the file: exit %d\n%s%s", code, out, errs)
	}
}
