package store_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { stopServer(); exit(code) }))
}

// fixture is a store on a Redis whose clock the test can set forward.
type fixture struct {
	*store.Store
	rdb     *redis.Client
	advance func(time.Duration)
}

// onBoth runs a test on miniredis, and on a real redis-server if it is in PATH: the two
// differ in Lua's numbers and empty tables.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, newMini(t))
	})
	if path, err := exec.LookPath("redis-server"); err == nil {
		t.Run("redis", func(t *testing.T) {
			t.Parallel()
			test(t, newReal(t, path))
		})
	}
}

func newMini(t testing.TB) *fixture {
	m := miniredis.RunT(t)
	now := time.Unix(1_790_000_000, 0)
	m.SetTime(now)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return &fixture{Store: store.New(rdb, store.Options{Slots: 2, Embedded: true}), rdb: rdb, advance: func(d time.Duration) {
		now = now.Add(d)
		m.SetTime(now)
		m.FastForward(d)
	}}
}

var server struct {
	once sync.Once
	addr string
	cmd  *exec.Cmd
	err  error
	db   atomic.Int32
}

func newReal(t testing.TB, path string) *fixture {
	server.once.Do(func() { startServer(path) })
	if server.err != nil {
		t.Fatal(server.err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.addr, DB: int(server.db.Add(1))})
	t.Cleanup(func() { _ = rdb.Close() })
	return &fixture{Store: store.New(rdb, store.Options{Slots: 2}), rdb: rdb,
		advance: func(d time.Duration) { shift(t, rdb, d) }}
}

func startServer(path string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		server.err = err
		return
	}
	server.addr = l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(server.addr)
	server.cmd = exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--databases", "512")
	if server.err = server.cmd.Start(); server.err != nil {
		return
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.addr, MaxRetries: 20, MinRetryBackoff: 50 * time.Millisecond})
	server.err = rdb.Ping(context.Background()).Err()
	_ = rdb.Close()
}

func stopServer() {
	if server.cmd != nil && server.cmd.Process != nil {
		_ = server.cmd.Process.Kill()
		_ = server.cmd.Wait()
	}
}

// shift simulates a later time on a real server: it moves all times in the records back.
func shift(t testing.TB, rdb *redis.Client, d time.Duration) {
	ctx, ms := t.Context(), -d.Milliseconds()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	keys, err := rdb.Keys(ctx, "{nexus}:*").Result()
	must(err)
	for _, key := range keys {
		switch name := strings.TrimPrefix(key, "{nexus}:"); {
		case name == "due" || name == "leases" || strings.HasPrefix(name, "slots:") || strings.HasPrefix(name, "waiters:") || strings.HasPrefix(name, "shelf:"):
			members, err := rdb.ZRange(ctx, key, 0, -1).Result()
			must(err)
			for _, member := range members {
				must(rdb.ZIncrBy(ctx, key, float64(ms), member).Err())
			}
		case strings.HasPrefix(name, "job:"):
			for _, field := range []string{"leaseUntil", "nextAt", "askedAt", "giveUpAt"} {
				if text := rdb.HGet(ctx, key, field).Val(); text != "" && text != "0" {
					must(rdb.HIncrBy(ctx, key, field, ms).Err())
				}
			}
		case strings.HasPrefix(name, "tenant:") || strings.HasPrefix(name, "bench:") || strings.HasPrefix(name, "standby:") || strings.HasPrefix(name, "pool:"):
			for _, field := range []string{"purgeAt", "until", "at", "emptyAt", "failedAt"} {
				if rdb.HExists(ctx, key, field).Val() {
					must(rdb.HIncrBy(ctx, key, field, ms).Err())
				}
			}
		case strings.HasPrefix(name, "asking:"):
			for member := range rdb.HGetAll(ctx, key).Val() {
				must(rdb.HIncrBy(ctx, key, member, ms).Err())
			}
		}
		if ttl := rdb.PTTL(ctx, key).Val(); ttl > 0 {
			must(rdb.PExpire(ctx, key, ttl-d).Err())
		}
	}
}

// dump returns all keys of the store with their values, for comparisons.
func (f *fixture) dump(t testing.TB) map[string]string {
	out := map[string]string{}
	keys, err := f.rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	for _, key := range keys {
		switch f.rdb.Type(t.Context(), key).Val() {
		case "hash":
			out[key] = fmt.Sprint(f.rdb.HGetAll(t.Context(), key).Val())
		case "zset":
			out[key] = fmt.Sprint(f.rdb.ZRangeWithScores(t.Context(), key, 0, -1).Val())
		case "stream":
			out[key] = fmt.Sprint(f.rdb.XRange(t.Context(), key, "-", "+").Val())
		case "string":
			out[key] = f.rdb.Get(t.Context(), key).Val()
		}
	}
	return out
}

var steps = []nexus.StepName{"one", "two"}

func submission(site nexus.SiteName) store.Submission {
	return store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindProvision, Site: site, Actor: "signup",
		Spec:  nexus.Spec{Email: "jane@example.com", Plan: "free", Apps: []string{}},
		Steps: steps, Input: "sealed-input", KeyID: "k1", GiveUpAfter: 24 * time.Hour}
}

func (f *fixture) submit(t testing.TB, sub store.Submission) nexus.Job {
	t.Helper()
	job, _, err := f.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (f *fixture) take(t testing.TB, id nexus.JobID) (*store.Lease, nexus.Job) {
	t.Helper()
	job := f.job(t, id)
	lease, job, taken, err := f.Take(t.Context(), id, job.Dispatch, nil)
	if err != nil || taken != store.TakeOK {
		t.Fatalf("take: %q, %v", taken, err)
	}
	return lease, job
}

func (f *fixture) job(t testing.TB, id nexus.JobID) nexus.Job {
	t.Helper()
	job, err := f.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// fataler is the part of testing.T that rapid.T has too.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func (f *fixture) tick(t fataler) {
	t.Helper()
	if _, err := f.Tick(context.Background(), true); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, want nexus.Code) {
	t.Helper()
	if got := nexus.CodeOf(err); got != want {
		t.Fatalf("code %q (%v), want %q", got, err, want)
	}
}

// noHook is a hook of a Redis client that changes nothing, for hooks that change one thing.
type noHook struct{}

func (noHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (noHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (noHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
