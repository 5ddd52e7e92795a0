//go:build service

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api/gen"
)

var update = flag.Bool("update", false, "write the golden files anew")

// call is one call of the command line, and the exit code that is expected.
type call struct {
	args  []string
	input string
	env   []string
	code  int
}

func words(line string) []string { return strings.Split(line, " ") }

// cli runs the command line with an environment of its own.
func (s *stack) cli(c call) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, "nexus"), c.args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, c.env...)
	cmd.Dir = s.dir
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.input), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// golden runs calls one after the other and compares their output with a file. What
// differs from run to run is replaced.
func (s *stack) golden(name string, calls ...call) {
	s.t.Helper()
	var b strings.Builder
	for _, c := range calls {
		out, errs, code := s.cli(c)
		if strings.Contains(strings.Join(c.args, " "), "fail-") || strings.Contains(errs, "Nothing was left behind.") {
			out, errs = anyStep.ReplaceAllString(out, ""), anyStep.ReplaceAllString(errs, "")
		}
		if code != c.code {
			s.t.Errorf("%s: exit %d, want %d\n%s%s", strings.Join(c.args, " "), code, c.code, out, errs)
		}
		fmt.Fprintf(&b, "$ %snexus", strings.Join(append(c.env, ""), " "))
		for _, arg := range c.args {
			if arg == "" || strings.ContainsAny(arg, " *'") {
				arg = "'" + arg + "'"
			}
			b.WriteString(" " + arg)
		}
		fmt.Fprintf(&b, "\n%s", out)
		if errs != "" {
			fmt.Fprintf(&b, "--- standard error\n%s", errs)
		}
		fmt.Fprintf(&b, "--- exit %d\n\n", code)
	}
	compare(s.t, name, redact(b.String()))
}

func compare(t testing.TB, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "cli", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what it was (-update writes it anew):\n%s", name, diff)
	}
}

// anyStep matches a line about a step. A poll may miss that a step was done before it is
// undone.
var anyStep = regexp.MustCompile(`(?m)^  ([\d:]{8}  )?\w+ +(started|done|failed|undone)\b.*\n`)

var changing = []struct {
	what *regexp.Regexp
	as   string
}{
	// A poll may miss that a step began, and progress is reported twice a second at most.
	{regexp.MustCompile(`(?m)^  ([\d:]{8}  )?\w+ +(started|failed|undone)\b.*\n`), ""},
	{regexp.MustCompile(`(?m)^ *"percent": \d+,\n`), ""},
	{regexp.MustCompile(`(?m)^Browsers and curl resolve .*\n`), ""}, // not on every system
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<64 hex>"},
	{regexp.MustCompile(`\b[0-9a-f]{48}\b`), "<48 hex>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "<32 hex>"},
	{regexp.MustCompile(`\b(plain|de-skr\d+)-[0-9a-f]{8}\b`), "$1-<8 hex>"},
	{regexp.MustCompile(`k1:[A-Za-z0-9+/]{43}=`), "k1:<key>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "<time>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d`), "<local date + time + zone>"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "<clock>"},
	{regexp.MustCompile(` +\d+\.\ds\b`), " <s>"},
	{regexp.MustCompile(`\(\d+\.\d s\)`), "(<s>)"},
	{regexp.MustCompile(`"seconds":[\d.]+`), `"seconds":<s>`},
	{regexp.MustCompile(`Try again in [0-9hms]+`), "Try again in <time>"},
	{regexp.MustCompile(`(request |"requestId": ")\w{26}`), "${1}<request>"},
	{regexp.MustCompile(`(127\.0\.0\.1|localhost):\d{4,5}`), "$1:<port>"},
	{regexp.MustCompile(`\b(test|canary)([-+])[0-9a-f]{6}\b`), "$1$2<6 hex>"},
	{regexp.MustCompile(`\+[0-9a-f]{6}@`), "+<6 hex>@"},
}

func redact(text string) string {
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.as)
	}
	return text
}

func provisionArgs(site, email string, more ...string) []string {
	return append([]string{"provision", site, email, "Jane Doe"}, more...)
}

// TestCLIProvision makes sites, and calls nexus provision in every wrong way.
func TestCLIProvision(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_RATE_LIMIT=on")
	jane := func(site string, more ...string) []string { return provisionArgs(site, "jane@example.com", more...) }
	s.golden("provision",
		call{args: []string{"provision", "--help"}},
		call{args: jane("test-manual", "Test123!", "Test Org")},
		call{args: jane("by-stdin", "Test Org", "--password-stdin"), input: "Test123!\n"},
		call{args: jane("by-pipe", "Test Org", "--plan", "starter", "--timezone", "Europe/Berlin"), input: "Test123!\n"},
		call{args: []string{"provision", "--email", "jane@example.com", "--name", "Jane Doe", "--organization", "By Flags"}, input: "Test123!\n"},
		call{args: jane("large", "Test Org", "--plan", "enterprise", "--jq", ".site"), input: "Test123!\n"},
		call{args: words("tenants show large --jq .plan")},
		call{args: words("__complete provision --plan ")},
	)
	for i := range 5 {
		s.signup(fmt.Sprintf("often-%d", i), "often@example.com")
	}
	s.golden("provision-refused",
		call{args: provisionArgs("often", "often@example.com", "Test123!", "Test Org"), code: 1},
		call{args: jane("test-manual", "Test123!", "Test Org"), code: 1},
		call{args: jane("weak", "secret", "Test Org"), code: 1},
		call{args: provisionArgs("No_Name", "nobody", "Test123!", "Test Org", "--plan", "golden"), code: 1},
		call{args: jane("token", "Test123!", "Test Org"), env: []string{"NEXUS_API_TOKEN=not-a-token-of-it"}, code: 1},
		call{args: provisionArgs("fails", "fail-apps@example.com", "Test123!", "Test Org"), code: 1},
	)
	s.golden("provision-wrong",
		call{args: []string{"provision"}, code: 2},
		call{args: []string{"provision", "acme", "jane@example.com", "Jane", "Doe", "Test123!", "Acme"}, code: 2},
		call{args: jane("acme", "Acme"), code: 2},
		call{args: jane("acme", "Acme", "--email", "jane@example.com"), code: 2},
		call{args: jane("acme", "Test123!", "Acme", "--password-stdin"), code: 2},
		call{args: jane("acme", "Test123!", "Acme", "--pasword-stdin"), code: 2},
		call{args: jane("acme", "Test123!", "Acme", "--server", "127.0.0.1"), code: 2},
		call{args: jane("acme", "Test123!", "Acme", "-o", "xml"), code: 2},
		call{args: words("tenants keys rotate acme --jq .["), code: 2},
		call{args: words("tenants keys rotate"), code: 2},
		call{args: words("tenants keys rotate acme --forever"), code: 2},
		call{args: words("adopt"), code: 2},
	)
	s.golden("provision-away",
		call{args: jane("acme", "Test123!", "Acme"), env: []string{"NEXUS_API_URL=http://127.0.0.1:1"}, code: 3},
		call{args: words("tenants list"), env: []string{"NEXUS_API_URL=http://127.0.0.1:1"}, code: 3},
	)
}

// TestCLIKey: the key that provision prints opens the site, the same idempotency key
// gets the same pair again, and standard error contains no secret.
func TestCLIKey(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	provision := call{args: provisionArgs("acme", "jane@example.com", "Acme", "--idempotency-key", "once"), input: "Test123!\n"}
	out, errs, code := s.cli(provision)
	var pair gen.Credentials
	if err := json.Unmarshal([]byte(out), &pair); err != nil || code != 0 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if got := logged(t, "http://"+s.sites, pair.Site, pair); got != http.StatusOK {
		t.Errorf("the key answers with %d", got)
	}
	for _, secret := range []string{"Test123!", pair.ApiKey, pair.ApiSecret} {
		if strings.Contains(errs, secret) {
			t.Error("a secret was printed beside the answer")
		}
	}
	if again, _, _ := s.cli(provision); again != out {
		t.Errorf("the same key again gets another answer: %s", again)
	}
	out, _, code = s.cli(call{args: words("tenants keys rotate acme")})
	var fresh gen.Credentials
	if err := json.Unmarshal([]byte(out), &fresh); err != nil || code != 0 {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	if old, now := logged(t, "http://"+s.sites, pair.Site, pair), logged(t, "http://"+s.sites, pair.Site, fresh); old != 401 || now != 200 {
		t.Errorf("after the rotation the old key is answered with %d, the fresh one with %d", old, now)
	}
}

// TestCLIInterrupted ends the wait with Ctrl-C, sent twice as npm does. The command says
// that the job goes on, and a second call with the same idempotency key gets the pair.
func TestCLIInterrupted(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	log := &logs{also: s.log}
	env := []string{"NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator} // idempotency keys are per token
	args := provisionArgs("slow", "slow-site@example.com", "Test123!", "Acme", "--idempotency-key", "mine")
	p := start(t, log, env, filepath.Join(binaries, "nexus"), args...)
	eventually(t, 20*time.Second, "the job is told", func() bool { return strings.Contains(strings.Join(log.all(), "\n"), "reserve") })
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.end(syscall.SIGINT)
	if code := p.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit %d, want 3", code)
	}
	id := regexp.MustCompile(`[0-9a-f]{32}`).FindString(strings.Join(log.all(), "\n"))
	eventually(t, 5*time.Second, "it says where to look", func() bool {
		text := strings.Join(log.all(), "\n")
		return strings.Contains(text, `"code": "interrupted"`) && strings.Contains(text, "nexus jobs watch "+id) && strings.Contains(text, "--idempotency-key mine")
	})
	if out, errs, code := s.cli(call{args: args}); code != 0 || !strings.Contains(out, `"success": true`) {
		t.Errorf("the same key again: exit %d\n%s%s", code, out, errs)
	}
	if out, _, code := s.cli(call{args: []string{"jobs", "watch", id}}); code != 0 || !strings.Contains(out, "succeeded") {
		t.Errorf("watch: exit %d\n%s", code, out)
	}
}
