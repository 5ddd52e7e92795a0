//go:build service

package e2e_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCLIWithoutWorker: a command that waits for a job ends if no worker runs, and
// prints the job's id and how to watch it. So does one that is stopped with Ctrl-C.
func TestCLIWithoutWorker(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	for _, name := range []string{"closed", "removed", "test-one", "test-two", "rotated"} {
		s.end(s.signup(name, name+"@example.com").JobId, time.Minute)
	}
	s.end(s.signup("kept", "kept@example.com").JobId, time.Minute)
	s.workers[0].end(syscall.SIGTERM)
	bench := s.env // cleanup needs the environment of a worker
	for _, c := range []struct {
		name string
		call call
		says []string
	}{
		{"rm", call{args: words("tenants rm closed --yes"), code: 3}, []string{"No worker is running", "nexus jobs watch "}},
		{"rotate", call{args: words("tenants keys rotate rotated --idempotency-key same"), code: 3}, []string{`"message": "No worker is running`, "nexus jobs watch ", "--idempotency-key same"}},
		{"provision", call{args: provisionArgs("fresh", "jane@example.com", "Acme"), input: "Test123!\n", code: 3}, []string{`"message": "No worker is running`, "nexus jobs watch "}},
		{"cleanup by the API", call{args: words("cleanup test-one --yes"), env: bench, code: 3}, []string{"No worker is running", "nexus jobs watch "}},
		{"cleanup by the registry", call{args: words("cleanup test-two --yes"), env: append([]string{"NEXUS_API_URL="}, bench...), code: 3}, []string{"No worker is running", "nexus jobs watch "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			out, errs, code := s.cli(c.call)
			for _, text := range c.says {
				if !strings.Contains(out+errs, text) {
					t.Errorf("it does not say %q", text)
				}
			}
			if took := time.Since(began); code != c.call.code || took > time.Minute {
				t.Errorf("exit %d after %s", code, took)
			}
			if t.Failed() {
				t.Log(out + errs)
			}
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		log := &logs{also: s.log}
		p := start(t, log, []string{"NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, filepath.Join(binaries, "nexus"), "tenants", "rm", "removed", "--yes")
		eventually(t, 20*time.Second, "it waits", func() bool { return strings.Contains(strings.Join(log.all(), "\n"), "no worker is running") })
		p.end(syscall.SIGINT)
		text := strings.Join(log.all(), "\n")
		if code := p.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(text, "No worker is running") || !strings.Contains(text, "nexus jobs watch ") {
			t.Errorf("exit %d: %s", code, text)
		}
	})
}
