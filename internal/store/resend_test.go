package store_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// resends are the ways in which a submission may arrive twice with the same job id:
// unchanged, or with the next name, if the caller took the first name for taken.
var resends = []struct {
	name, key string
	again     nexus.SiteName
}{
	{name: "as it was", again: "acme.localhost"},
	{name: "under a key", key: "jane/once", again: "acme.localhost"},
	{name: "with the next name", again: "acme-2.localhost"},
	{name: "with the next name under a key", key: "jane/once", again: "acme-2.localhost"},
}

// TestSubmitTwiceIsOneJob: a submission that arrives again while its job runs returns the
// job and changes nothing.
func TestSubmitTwiceIsOneJob(t *testing.T) {
	t.Parallel()
	for _, tc := range resends {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				sub := submission("acme.localhost")
				sub.Limits = []store.Limit{{Bucket: "all:x", Max: 1}} // a second charge would be refused
				if tc.key != "" {
					sub.IdempotencyKey, sub.Fingerprints = tc.key, []string{"k1=aa"}
				}
				f.submit(t, sub)
				lease, job := f.take(t, sub.ID)
				job.Steps[0].State = nexus.StepDone
				if _, err := lease.Checkpoint(t.Context(), &job, "one", nexus.Event{Step: "one"}); err != nil {
					t.Fatal(err)
				}
				want, before := f.job(t, sub.ID), f.dump(t)
				sub.Site = tc.again
				got, _, err := f.Submit(t.Context(), sub)
				if err != nil {
					t.Fatalf("sent again: %v", err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("sent again, it answers with another record:\n%s", diff)
				}
				if diff := cmp.Diff(before, f.dump(t)); diff != "" {
					t.Errorf("sent again, it wrote:\n%s", diff)
				}
			})
		})
	}
}

// losing is a connection that loses the next answer once it is armed.
type losing struct {
	net.Conn
	armed *atomic.Bool
}

// Read reads; if armed, it drops the data and closes the connection.
func (c losing) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.armed.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// TestSubmitWhoseAnswerIsLost: Redis has recorded the job, and the connection breaks before
// the answer arrives, so the client sends the script again.
func TestSubmitWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, tc := range resends {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				var armed atomic.Bool
				rdb := redis.NewClient(&redis.Options{Addr: f.rdb.Options().Addr, DB: f.rdb.Options().DB, MaxRetries: 1, PoolSize: 1,
					Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, addr)
						return losing{c, &armed}, err
					}})
				defer rdb.Close() //nolint:errcheck // only a test
				s := store.New(rdb, store.Options{Slots: 2, Embedded: true})
				warm := submission("warm.localhost") // loads the script, so that only one answer is lost
				if _, _, err := s.Submit(t.Context(), warm); err != nil {
					t.Fatal(err)
				}
				sub := submission("acme.localhost")
				if tc.key != "" {
					sub.IdempotencyKey, sub.Fingerprints = tc.key, []string{"k1=aa"}
				}
				armed.Store(true)
				first, _, err := s.Submit(t.Context(), sub)
				if err != nil || first.ID != sub.ID || first.Site != "acme.localhost" || armed.Load() {
					t.Fatalf("%s for %s, %v (an answer was lost: %t)", first.ID, first.Site, err, !armed.Load())
				}
				sub.Site = tc.again
				if second, _, err := s.Submit(t.Context(), sub); err != nil || second.Site != "acme.localhost" {
					t.Errorf("asked once more: %s, %v", second.Site, err)
				}
				tenants, _, err := f.Tenants(t.Context(), store.TenantFilter{})
				if err != nil || len(tenants) != 2 || tenants[0].Site != "acme.localhost" || tenants[0].Job != sub.ID || tenants[0].MadeBy != sub.ID {
					t.Errorf("one row for each of two jobs, and no more: %+v, %v", tenants, err)
				}
			})
		})
	}
}

// twice sends each script twice, as the client does when the first answer is lost.
type twice struct{ noHook }

func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := next(ctx, cmd); err != nil || cmd.Name() != "evalsha" && cmd.Name() != "eval" {
			return err
		}
		return next(ctx, cmd)
	}
}

// TestCancelWhoseAnswerIsLost: a cancel that has ended a job succeeds when it is sent again,
// and writes nothing then.
func TestCancelWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("acme.localhost")).ID
		f.rdb.AddHook(twice{})
		job, err := f.Cancel(t.Context(), id, "anna")
		if err != nil || job.State != nexus.Canceled || job.Rev != 2 {
			t.Errorf("%s at rev %d, %v", job.State, job.Rev, err)
		}
	})
}

// TestResumeWhoseAnswerIsLost: a job is resumed once, and the operator is told that it is.
func TestResumeWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []nexus.Kind{nexus.KindSuspend, nexus.KindTeardown} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				const site = "acme.localhost"
				f.active(t, site)
				id := f.submit(t, on(kind, site)).ID
				f.ended(t, id, nexus.RollbackFailed)
				before := f.job(t, id)
				f.rdb.AddHook(twice{})
				job, err := f.Resume(t.Context(), id, "anna")
				if err != nil || job.State == nexus.RollbackFailed || job.Rev != before.Rev+1 {
					t.Errorf("%s at rev %d after %d, %v", job.State, job.Rev, before.Rev, err)
				}
			})
		})
	}
}
