//go:build service

package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestCLIJSON: every command with a result can print it as JSON, and --jq reads it.
func TestCLIJSON(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	id := s.signup("acme", "jane@example.com").JobId
	for _, line := range []string{"version", "jobs list", "jobs show " + id, "jobs watch " + id, "tenants list", "tenants show acme", "bench list", "bench check",
		"bench pause sandbox", "bench resume sandbox", "doctor", "cleanup none-* --dry-run", "init", "test-provisioning", "tenants rm acme --yes", "tenants restore acme",
		"tenants keys rotate acme", "templates build", "templates list", "pool show", "canary"} {
		out, errs, code := s.cli(call{args: append(words(line), "-o", "json"), env: append([]string{"NEXUS_VERIFY_ADDR=" + s.sites}, s.env...)})
		last := out[strings.LastIndexByte(strings.TrimSpace(out), '\n')+1:] // watch and canary print a record in each line
		if !json.Valid([]byte(out)) && !json.Valid([]byte(last)) || out == "" || code != 0 {
			t.Errorf("%s: exit %d\n%s%s", line, code, out, errs)
		}
	}
	if out, errs, code := s.cli(call{args: words("test-provisioning --jq .passed"), env: []string{"NEXUS_VERIFY_ADDR=" + s.sites}}); out != "true\n" || code != 0 {
		t.Errorf("--jq: exit %d\n%s%s", code, out, errs)
	}
}
