package store_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// ownRedis starts a redis-server that only this test uses, and returns a client with all
// rights; nil if redis-server is not in PATH.
func ownRedis(t *testing.T, more ...string) *redis.Client {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(path, append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "",
		"--appendonly", "yes", "--appendfsync", "no"}, more...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: 50, MinRetryBackoff: 20 * time.Millisecond, MaxRetryBackoff: 200 * time.Millisecond})
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return rdb
}

// as returns a store, and its client, that connects as this user.
func as(t *testing.T, admin *redis.Client, user, password string) (*store.Store, *redis.Client) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: admin.Options().Addr, Username: user, Password: password, MaxRetries: -1, PoolSize: 2})
	t.Cleanup(func() { _ = rdb.Close() })
	return store.New(rdb, store.Options{}), rdb
}

func do(t *testing.T, rdb *redis.Client, args ...any) {
	t.Helper()
	if err := rdb.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// words splits a command for Do at its spaces; a colon becomes a space within a word.
func words(text string) (out []any) {
	for _, word := range strings.Fields(text) {
		out = append(out, strings.ReplaceAll(word, ":", " "))
	}
	return out
}

// TestRealAnswers: while a real server cannot take writes, no script writes a part of its
// changes, the error tells the caller to try later, and readiness says what is wrong.
func TestRealAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, ill string
		say       string // what readiness says
		fit       bool   // whether a process may start
	}{
		{"full", "CONFIG SET maxmemory 1", "used all of its maxmemory", true},
		{"a replica", "REPLICAOF 127.0.0.1 1", "is a replica and takes no writes", true},
		{"a replica without its primary", "CONFIG SET replica-serve-stale-data no|REPLICAOF 127.0.0.1 1", "lost its primary", true},
		{"without replicas", "CONFIG SET min-replicas-to-write 1", "fewer replicas", true},
		{"evicts", "CONFIG SET maxmemory-policy allkeys-lru", "maxmemory-policy allkeys-lru", true},
		{"keeps nothing", "CONFIG SET appendonly no", "appendonly no", true},
		{"a save that fails", "CONFIG SET save 900:1|SET x 1|gone|BGSAVE", "cannot write to its disk", true},
		{"another password", "ACL SETUSER default resetpass >other", "does not know the user and password", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			admin := ownRedis(t, "--enable-protected-configs", "yes", "--stop-writes-on-bgsave-error", "yes")
			if admin == nil {
				return
			}
			well, _ := as(t, admin, "", "secret")
			if problems := well.Ready(t.Context()).Problems; !slices.Equal(problems, []string{"No worker is running; start one with: worker"}) {
				t.Fatalf("before: %q", problems)
			}
			for step := range strings.SplitSeq(tc.ill, "|") {
				if step == "gone" { // remove the folder to which the server saves
					gone := filepath.Join(t.TempDir(), "gone")
					if err := os.Mkdir(gone, 0o700); err != nil {
						t.Fatal(err)
					}
					do(t, admin, "CONFIG", "SET", "dir", gone)
					if err := os.RemoveAll(gone); err != nil {
						t.Fatal(err)
					}
					continue
				}
				do(t, admin, words(step)...)
			}
			s, rdb := as(t, admin, "", "secret")
			said := func() string {
				s, _ := as(t, admin, "", "secret")
				problems := s.Ready(t.Context()).Problems
				return strings.Join(problems, "\n")
			}
			until(t, tc.say, func() bool { return strings.Contains(said(), tc.say) })
			if err := s.Fit(t.Context()); (err == nil) != tc.fit {
				t.Errorf("fit: %v", err)
			}
			_, _, err := s.Submit(t.Context(), submission("acme.localhost"))
			if tc.name == "evicts" || tc.name == "keeps nothing" {
				return
			}
			if got := nexus.CodeOf(err); got != nexus.Unavailable {
				t.Errorf("submit: %q (%v)", got, err)
			}
			if keys, err := rdb.Keys(t.Context(), "{nexus}:job*").Result(); len(keys) > 0 {
				t.Errorf("written: %q, %v", keys, err)
			}
		})
	}
}

// TestTakeFromAFullRedis: while Redis has no memory no job starts, and none goes on. A run
// could not write its journal, and would lose its lease.
func TestTakeFromAFullRedis(t *testing.T) {
	t.Parallel()
	admin := ownRedis(t)
	if admin == nil {
		return
	}
	s, rdb := as(t, admin, "", "")
	for _, bench := range []string{"", "main"} {
		job, _, err := s.Submit(t.Context(), submission(nexus.SiteName("x"+bench+".localhost")))
		if err != nil {
			t.Fatal(err)
		}
		key := "{nexus}:job:" + string(job.ID)
		do(t, rdb, "HSET", key, "bench", bench)
		before := rdb.HGetAll(t.Context(), key).Val()
		do(t, admin, "CONFIG", "SET", "maxmemory", "1")
		_, _, taken, err := s.Take(t.Context(), job.ID, job.Dispatch, nil)
		if nexus.CodeOf(err) != nexus.Unavailable {
			t.Errorf("on bench %q: %q, %v", bench, taken, err)
		}
		if diff := cmp.Diff(before, rdb.HGetAll(t.Context(), key).Val()); diff != "" {
			t.Errorf("on bench %q the record was changed:\n%s", bench, diff)
		}
		do(t, admin, "CONFIG", "SET", "maxmemory", "0")
	}
}

// until waits until a condition is true, 30 s at most.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
