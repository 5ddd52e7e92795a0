package bench_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// newFolder returns a sandbox, its folder, and an operation of an owner. In the end no file of
// the folder may be open.
func newFolder(t *testing.T) (*bench.Sandbox, string, nexus.Op) {
	t.Helper()
	dir := t.TempDir()
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sandbox.Close()
		open, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range open {
			if file, _ := os.Readlink(fd); strings.HasPrefix(file, dir+"/") {
				t.Errorf("still open: %s", file)
			}
		}
	})
	owner := nexus.NewJobID()
	return sandbox, dir, nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: nexus.Gen(time.Now().UnixMicro())}
}

// TestSandboxFence: whatever the fence's file holds, a higher token passes and is then its
// whole content, and a lower one is refused.
func TestSandboxFence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, before string }{
		{"nothing, since the process was killed", ""},
		{"a shorter token", "7"},
		{"a token of the same length", "1000000000000001"},
		{"a longer number that is no token", "9223372036854775807"},
		{"a longer text of a lower token", strings.Repeat("0", 100) + "7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sandbox, dir, op := newFolder(t)
			fence := filepath.Join(dir, "fence", op.DB)
			if err := os.WriteFile(fence, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			op.Args = nexus.NewSite{}
			if _, err := sandbox.Run(t.Context(), op); err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(fence); err != nil || string(after) != fmt.Sprint(op.Gen) {
				t.Errorf("the fence holds %q, %v; want %d", after, err, op.Gen)
			}
			op.Gen--
			if _, err := sandbox.Run(t.Context(), op); nexus.CodeOf(err) != nexus.Fenced {
				t.Errorf("the fence is open: %v", err)
			}
		})
	}
}

// TestSandboxFileSizes: a file is read as a whole, whatever its size, and written as a whole
// although a killed process left a longer temporary file.
func TestSandboxFileSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{200, 1<<10 - 1, 1 << 10, 1<<10 + 1, 2 << 10, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			sandbox, dir, op := newFolder(t)
			state := fmt.Sprintf(`{"Site":%q,"DB":%q,"Job":%q,"Made":true,"Apps":[""]}`, op.Site, op.DB, op.Owner)
			app := strings.Repeat("x", size-len(state))
			path := filepath.Join(dir, "sites", string(op.Site))
			for name, text := range map[string]string{path: strings.Replace(state, `[""]`, `["`+app+`"]`, 1), path + ".new": strings.Repeat("{", 2*size+2000)} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			op.Args = nexus.InstallApp{App: "erpnext"}
			if result, err := sandbox.Run(t.Context(), op); err != nil || !result.Changed {
				t.Fatalf("%+v, %v", result, err)
			}
			op.Args = nexus.Inspect{}
			look, err := sandbox.Run(t.Context(), op)
			if err != nil || len(look.Site.Apps) != 2 || look.Site.Apps[0] != app || look.Site.Apps[1] != "erpnext" {
				t.Errorf("%+v, %v", look.Site, err)
			}
			if _, err := os.Stat(path + ".new"); err == nil {
				t.Error("the temporary file is left")
			}
		})
	}
}

// TestSandboxBrokenFiles: a file that cannot be read or written makes the bench unavailable,
// and the error names the file.
func TestSandboxBrokenFiles(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"locks/acme.localhost", "fence/DB", "sites/acme.localhost", "sites/acme.localhost.new", "intent/acme.localhost"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			sandbox, dir, op := newFolder(t)
			path := filepath.Join(dir, strings.Replace(file, "DB", op.DB, 1))
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			op.Args = nexus.NewSite{}
			_, err := sandbox.Run(t.Context(), op)
			var where *fs.PathError
			if nexus.CodeOf(err) != nexus.Unavailable || !errors.Is(err, syscall.EISDIR) || !errors.As(err, &where) || where.Path != path {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSandboxFenceOfTwoNames: a database that is reached under two names, as that of a standby
// and of the site that it becomes, has one fence: who reads it while another one raises it
// waits, and is then refused.
func TestSandboxFenceOfTwoNames(t *testing.T) {
	t.Parallel()
	sandbox, dir, op := newFolder(t)
	fence, err := os.Create(filepath.Join(dir, "fence", op.DB))
	if err != nil {
		t.Fatal(err)
	}
	defer fence.Close() //nolint:errcheck // closing unlocks
	if err := syscall.Flock(int(fence.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	info, err := fence.Stat()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		op.Args = nexus.Stop{}
		_, err := sandbox.Run(t.Context(), op)
		done <- err
	}()
	waiter := regexp.MustCompile(fmt.Sprintf(`-> FLOCK.*:%d `, info.Sys().(*syscall.Stat_t).Ino)) //nolint:errcheck,forcetypeassert // it is one on Linux
	for locks := ""; !waiter.MatchString(locks); {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
			text, err := os.ReadFile("/proc/locks")
			if err != nil {
				t.Fatal(err)
			}
			locks = string(text)
		}
	}
	if _, err := fmt.Fprint(fence, op.Gen+1); err != nil {
		t.Fatal(err)
	}
	_ = fence.Close()
	if err := <-done; nexus.CodeOf(err) != nexus.Fenced {
		t.Errorf("ended as %v", err)
	}
}

// TestSandboxProbes asks a sandbox at once from several places whether it can write. None of
// them is in the way of another.
func TestSandboxProbes(t *testing.T) {
	t.Parallel()
	sandbox, _, _ := newFolder(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				result, err := sandbox.Run(t.Context(), nexus.Op{Args: nexus.Hello{}})
				if err != nil || result.Hello == nil || len(result.Hello.Problems) > 0 {
					t.Errorf("%+v, %v", result.Hello, err)
					return
				}
			}
		})
	}
	all.Wait()
}
