package store_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// rights returns the rights that the manual lists, in the form of ACL SETUSER.
func rights(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/SETUP.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^ACL SETUSER nexus on '>[^']*' (.*)$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/SETUP.md has no line: ACL SETUSER nexus on '>…' …")
	}
	return strings.Fields(strings.ReplaceAll(string(found[1]), "'", ""))
}

func grant(t *testing.T, admin *redis.Client, rights ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "nexus", "reset", "on", ">secret"}
	for _, right := range rights {
		args = append(args, right)
	}
	do(t, admin, args...)
}

// TestRights: with the rights that the manual lists, everything works. Without any one of
// them no process starts, readiness says why, and no script fails after its first write.
func TestRights(t *testing.T) {
	t.Parallel()
	admin := ownRedis(t)
	if admin == nil {
		return
	}
	all := rights(t)
	grant(t, admin, all...)
	well, _ := as(t, admin, "nexus", "secret")
	if err := well.Fit(t.Context()); err != nil {
		t.Fatalf("with all rights: %v", err)
	}
	if problems := well.Ready(t.Context()).Problems; len(problems) != 1 {
		t.Fatalf("with all rights: %q", problems)
	}
	for i, right := range all {
		if right == "-@dangerous" || right == "+info" || right == "resetchannels" {
			continue // removes rights, or is needed only for readiness
		}
		grant(t, admin, slices.Delete(slices.Clone(all), i, i+1)...)
		s, _ := as(t, admin, "nexus", "secret")
		if right == "+@connection" { // AUTH, HELLO and PING need no right
			continue
		}
		err := s.Fit(t.Context())
		if nexus.CodeOf(err) != nexus.Invalid || !strings.Contains(nexus.MessageOf(err), "lacks rights in Redis") {
			t.Errorf("without %s: %v", right, err)
		}
		problems := s.Ready(t.Context()).Problems
		if !strings.Contains(strings.Join(problems, "\n"), "lacks rights in Redis") {
			t.Errorf("without %s readiness says %q", right, problems)
		}
		before := whole(t, admin)
		sub := submission("acme.localhost")
		_, _, err = s.Submit(t.Context(), sub)
		switch {
		case err == nil: // the due index replaces a lost task, and watchers also poll
			do(t, admin, "FLUSHALL")
		case nexus.CodeOf(err) != nexus.Unavailable:
			t.Errorf("without %s a signup ends with %v", right, err)
		case whole(t, admin) != before:
			t.Errorf("without %s a refused signup left:\n%s", right, whole(t, admin))
		}
	}
}

// TestSubmitNeedsAllItsRights: a submit without all rights writes nothing, since Redis does
// not undo a script that fails.
func TestSubmitNeedsAllItsRights(t *testing.T) {
	t.Parallel()
	admin := ownRedis(t)
	if admin == nil {
		return
	}
	grant(t, admin, append(rights(t), "-xadd")...)
	s, _ := as(t, admin, "nexus", "secret")
	_, _, err := s.Submit(t.Context(), submission("acme.localhost"))
	if left := whole(t, admin); nexus.CodeOf(err) != nexus.Unavailable || left != "" {
		t.Errorf("it ends with %v and leaves %s", err, left)
	}
}

func whole(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	keys, err := rdb.Keys(t.Context(), "{nexus}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// TestWakeUpsMayFail: a script writes all of its changes even if it may not publish.
func TestWakeUpsMayFail(t *testing.T) {
	t.Parallel()
	admin := ownRedis(t)
	if admin == nil {
		return
	}
	grant(t, admin, slices.DeleteFunc(rights(t), func(right string) bool { return right == "&{nexus}:*" })...)
	s, rdb := as(t, admin, "nexus", "secret")
	f := &fixture{Store: s, rdb: rdb}
	job := f.submit(t, submission("acme.localhost"))
	lease, got := f.take(t, job.ID)
	got.State = nexus.Succeeded
	if err := lease.Finish(t.Context(), &got, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	if after := f.job(t, job.ID); after.State != nexus.Succeeded {
		t.Errorf("it is %s", after.State)
	}
}

// TestClusterIsRefused: on a cluster asynq's keys are in other slots than the store's, so
// jobs would be recorded and never delivered.
func TestClusterIsRefused(t *testing.T) {
	t.Parallel()
	admin := ownRedis(t, "--cluster-enabled", "yes")
	if admin == nil {
		return
	}
	do(t, admin, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	until(t, "the cluster is up", func() bool { return strings.Contains(admin.ClusterInfo(t.Context()).Val(), "cluster_state:ok") })
	s := store.New(admin, store.Options{})
	if err := s.Fit(t.Context()); nexus.CodeOf(err) != nexus.Invalid || !strings.Contains(nexus.MessageOf(err), "is a cluster") {
		t.Errorf("fit: %v", err)
	}
	if problems := s.Ready(t.Context()).Problems; !strings.Contains(strings.Join(problems, "\n"), "is a cluster") {
		t.Errorf("readiness: %q", problems)
	}
}

// TestProbeKnowsEveryCommand: the probe checks the right to every command of the scripts and
// of the store. Without INFO a server is taken to be set up well.
func TestProbeKnowsEveryCommand(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("lua/*.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	code, err := filepath.Glob("*.go")
	if err != nil || len(code) == 0 {
		t.Fatal(err)
	}
	code = slices.DeleteFunc(code, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	called := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'|(?:rdb|pipe)\.([A-Z][A-Za-z]+)\(ctx`)
	suffix := regexp.MustCompile(`(WITHSCORES|(ZADD)NX)$`) // of go-redis' names
	probe, err := os.ReadFile("lua/probe.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range slices.Concat(scripts, code) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range called.FindAllSubmatch(text, -1) {
			command := suffix.ReplaceAllString(strings.ToUpper(string(found[1])+string(found[2])), "$2")
			if command != "INFO" && !regexp.MustCompile(`\b`+command+`\b`).Match(probe) {
				t.Errorf("%s calls %s", file, command)
			}
		}
	}
}
