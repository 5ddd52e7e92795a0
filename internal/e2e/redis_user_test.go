//go:build service

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
)

// TestRedisUserWithFewRights makes a site with exactly the rights in Redis that the
// manual lists, and checks that no process starts without one of them.
func TestRedisUserWithFewRights(t *testing.T) {
	t.Parallel()
	s := bareStack(t, "NEXUS_APPS=erpnext")
	text, err := os.ReadFile("../../docs/SETUP.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER nexus on '>[^']*' (.*)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("docs/SETUP.md lists no rights")
	}
	rights := strings.Fields(strings.ReplaceAll(string(line[1]), "'", ""))
	grant := func(rights []string) {
		args := []any{"ACL", "SETUSER", "nexus", "reset", "on", ">a/b"}
		for _, right := range rights {
			args = append(args, right)
		}
		if err := s.rdb.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.env[0] = "REDIS_URL=" + strings.Replace(s.redis, "//", "//nexus:a%2Fb@", 1)
	s.env = append(s.env, "NEXUS_SANDBOX_DIR="+filepath.Join(s.dir, "sandbox"))
	for _, missing := range []string{"~asynq:*", "&{nexus}:*", "+@write"} {
		grant(slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == missing }))
		for _, program := range []string{"api", "worker"} {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			cmd := exec.CommandContext(ctx, filepath.Join(binaries, program))
			cmd.Env = append(s.env, "PATH="+os.Getenv("PATH"))
			said, _ := cmd.CombinedOutput()
			stop()
			if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), "lacks rights in Redis") {
				t.Errorf("%s without %s: exit %d, %s", program, missing, cmd.ProcessState.ExitCode(), said)
			}
		}
	}
	grant(rights)
	s.server = start(t, s.log, append(s.env, "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(binaries, "nexus"), "sandbox")
	s.sites = listening(t, s.log, "nexus sandbox started", "sandbox")
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+s.sites)
	s.startAPI()
	s.startWorkers(1)
	if job := s.end(s.signup("few", "jane@example.com").JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("it is %s: %+v", job.State, job.Error)
	}
	eventually(t, 30*time.Second, "the api is ready", func() bool { return s.call("GET", "/readyz", "").status == 200 })
	for _, path := range []string{"/metrics", "/jobs?limit=5", "/tenants", "/benches"} {
		if a := s.call("GET", path, "", "Authorization", "Bearer "+operator); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if n := fromRedis(t, s.rdb.ACLLog(t.Context(), 10)); len(n) > 0 && slices.ContainsFunc(s.log.all(), func(line string) bool { return strings.Contains(line, "NOPERM") }) {
		t.Errorf("a right was missing: %+v", n[0])
	}
	s.sound()
}
