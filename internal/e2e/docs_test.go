//go:build service

package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The types of the manual's code blocks:
//
//	sh        its lines are run in order, in a folder of their own and in the set-up that
//	          the page describes; each ends with 0, or with N if "# exit N" is behind it
//	sh bench  needs a real bench, root or Docker Compose: only the commands and flags of
//	          nexus, the files and the make targets in it are checked
//	console   a sample session with its output
var otherBlocks = []string{"", "console", "yaml", "nginx", "promql", "json"}

// command is one line of a block, with the lines that a backslash joins to it.
type command struct {
	where, info, text string
	code              string // it must end with
}

var (
	exits = regexp.MustCompile(`# exit (\d+)$`)
	typed = regexp.MustCompile(`^(\$ )?(nexus|make|docker|curl|go|npm|redis-cli|scripts/[a-z-]+) `)
)

// commands reads the commands of a document. A command in an indented block, or in a
// block without a type, is an error, since no test would see it.
func commands(t *testing.T, file string) (all []command) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read-only
	info, inside, joined := "", false, false
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, where := strings.TrimSpace(lines.Text()), fmt.Sprintf("%s:%d", file, n)
		if mark, fence := strings.CutPrefix(line, "```"); fence {
			if inside = !inside; inside {
				info = mark
				if !strings.HasPrefix(info, "sh") && !slices.Contains(otherBlocks, info) {
					t.Errorf("%s: there is no kind of block %q", where, info)
				}
			}
			continue
		}
		shell := inside && (info == "sh" || info == "sh bench")
		if !shell && (!inside && strings.HasPrefix(lines.Text(), "    ") || inside && info == "") && typed.MatchString(line) {
			t.Errorf("%s: a command in a block that nothing checks: %s", where, line)
		}
		if !shell || line == "" || strings.HasPrefix(line, "#") {
			joined = false
			continue
		}
		if joined {
			all[len(all)-1].text += "\n" + line
		} else {
			all = append(all, command{where: where, info: info, text: line, code: "0"})
		}
		if found := exits.FindStringSubmatch(line); found != nil {
			all[len(all)-1].code = found[1]
		}
		joined = strings.HasSuffix(line, "\\")
	}
	return all
}

// documents are the pages of the manual, relative to the repository's root.
func documents(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range found {
			names = append(names, strings.TrimPrefix(filepath.ToSlash(name), "../../"))
		}
	}
	return names
}

// TestDocsCommands runs the commands of the manual.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	for _, file := range documents(t) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var script strings.Builder
			ran, read := 0, 0
			for _, c := range commands(t, file) {
				if c.info == "sh bench" {
					lookUp(t, c)
					read++
					continue
				}
				fmt.Fprintf(&script, "%s\nended '%s' %s $?\n", c.text, c.where, c.code)
				ran++
			}
			t.Logf("%d commands run, %d looked up", ran, read)
			switch {
			case ran == 0:
			case slices.Contains(operated, file):
				dir := t.TempDir()
				follow(t, dir, script.String(), operatorShell(t, dir))
			default:
				home := t.TempDir()
				beside(t, home)
				follow(t, home, script.String(), nil)
			}
		})
	}
}

// operated are the pages whose reader has the environment of a worker, and the API's
// address and token. The reader of any other page runs "nexus dev" in another shell, and
// has set up nothing but what the page says.
var operated = []string{"docs/OPERATIONS.md"}

// operatorShell starts separate processes, and returns the environment of their
// operator, with their log in the file nexus.log.
func operatorShell(t *testing.T, dir string) []string {
	t.Helper()
	s := newStack(t, 1)
	file, err := os.Create(filepath.Join(dir, "nexus.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.log.copyTo(file)
	eventually(t, 20*time.Second, "the worker and its bench are known", func() bool {
		benches, err := s.client.Benches(t.Context())
		return err == nil && len(benches.Benches) == 1
	})
	return append([]string{"NEXUS_API_URL=" + s.api, "NEXUS_API_TOKEN=" + operator}, s.env...)
}

// beside starts "nexus dev" as make run does, but on other ports, and waits for its
// output.
func beside(t *testing.T, home string) {
	t.Helper()
	log := &logs{}
	dev := start(t, log, []string{"HOME=" + home, "NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_SANDBOX_ADDR=127.0.0.1:0"}, filepath.Join(binaries, "nexus"), "dev")
	t.Cleanup(func() {
		dev.end(syscall.SIGTERM)
		if t.Failed() {
			t.Log(strings.Join(log.all(), "\n"))
		}
	})
	eventually(t, 20*time.Second, "nexus dev runs", func() bool {
		return slices.ContainsFunc(log.all(), func(line string) bool { return strings.Contains(line, "Stop it with Ctrl-C") })
	})
}

// follow runs the lines of a document in one shell, in a folder of its own.
func follow(t *testing.T, dir, script string, env []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	const head = "set -uo pipefail\nended() { [ \"$3\" = \"$2\" ] && return; echo \"$1: exit $3, want $2\"; exit 99; }\n"
	cmd := exec.CommandContext(ctx, "bash", "-c", head+script)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

var (
	called = regexp.MustCompile(`(?:^|[\s(;&|/])nexus((?:\s+[^|;&<>()#\n]+)?)`)
	target = regexp.MustCompile(`(?:^|&& )make ([a-z-]+)`)
	inTree = regexp.MustCompile(`(?:^|\s)((?:\./)?(?:scripts|\.ci|cmd|tools|internal|docs|api)/[\w./-]*\w)`)
)

// lookUp checks that what a command names exists, without running it.
func lookUp(t *testing.T, c command) {
	t.Helper()
	for _, found := range called.FindAllStringSubmatch(c.text, -1) {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "nexus "+found[1]+" --help")
		cmd.Env = []string{"PATH=" + binaries + ":" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: nexus%s: %v\n%s", c.where, found[1], err, out)
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range target.FindAllStringSubmatch(c.text, -1) {
		if !strings.Contains("\n"+string(makefile), "\n"+found[1]+":") {
			t.Errorf("%s: the Makefile has no target %s", c.where, found[1])
		}
	}
	for _, found := range inTree.FindAllStringSubmatch(c.text, -1) {
		if _, err := os.Stat(filepath.Join("..", "..", strings.TrimSuffix(found[1], "/..."))); err != nil {
			t.Errorf("%s: %v", c.where, err)
		}
	}
}

// TestDocsQuickReference: each command of nexus is in the quick reference, with each of
// its flags.
func TestDocsQuickReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/QUICKREF.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range leaves(t, nil) {
		name := "`nexus " + strings.Join(path, " ") + "`"
		_, row, found := strings.Cut(string(text), "\n| "+name+" |")
		row, _, _ = strings.Cut(row, "\n")
		if !found {
			t.Errorf("docs/QUICKREF.md has no line for %s", name)
			continue
		}
		for _, flag := range ownFlags(t, path) {
			count++
			if !strings.Contains(row, "`"+flag+"`") {
				t.Errorf("docs/QUICKREF.md: %s has no %s", name, flag)
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d flags found", count)
	}
}

func say(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(binaries, "nexus"), args...).Output()
	if err != nil {
		t.Fatalf("nexus %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// leaves finds the commands without subcommands below a path, by completion.
func leaves(t *testing.T, path []string) (out [][]string) {
	t.Helper()
	if !strings.Contains(say(t, append(slices.Clone(path), "--help")...), " [command]") || slices.Equal(path, []string{"completion"}) {
		return [][]string{path}
	}
	for line := range strings.Lines(say(t, append(append([]string{"__complete"}, path...), "")...)) {
		if name, _, ok := strings.Cut(line, "\t"); ok && name != "help" && !strings.HasPrefix(name, ":") {
			out = append(out, leaves(t, append(slices.Clone(path), name))...)
		}
	}
	return out
}

var flagLine = regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`)

func ownFlags(t *testing.T, path []string) (out []string) {
	t.Helper()
	_, text, _ := strings.Cut(say(t, append(slices.Clone(path), "--help")...), "\nFlags:\n")
	text, _, _ = strings.Cut(text, "\nGlobal Flags:")
	for _, found := range flagLine.FindAllStringSubmatch(text, -1) {
		if found[1] != "--help" {
			out = append(out, found[1])
		}
	}
	return out
}
