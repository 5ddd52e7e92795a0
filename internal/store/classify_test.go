package store_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestRedisAnswers: an error of Redis that passes is unavailable, so callers try again; an
// error of a script is internal.
func TestRedisAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		answer string
		want   nexus.Code
	}{
		{"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", nexus.Unavailable},
		{"NOAUTH Authentication required.", nexus.Unavailable},
		{"WRONGPASS invalid username-password pair or user is disabled.", nexus.Unavailable},
		{"TRYAGAIN Multiple keys request during rehashing of slot", nexus.Unavailable},
		{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", nexus.Unavailable},
		{"READONLY You can't write against a read only replica.", nexus.Unavailable},
		{"OOM command not allowed when used memory > 'maxmemory'. script: 1d2c, on @user_script:9.", nexus.Unavailable},
		{"LOADING Redis is loading the dataset in memory", nexus.Unavailable},
		{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", nexus.Unavailable},
		{"CLUSTERDOWN The cluster is down", nexus.Unavailable},
		{"NOREPLICAS Not enough good replicas to write.", nexus.Unavailable},
		{"ERR max number of clients reached", nexus.Unavailable},
		{"ERR user_script:12: attempt to index a nil value script: 1d2c, on @user_script:12.", nexus.Internal},
		{"WRONGTYPE Operation against a key holding the wrong kind of value", nexus.Internal},
	} {
		t.Run(tc.answer, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1})
			defer rdb.Close() //nolint:errcheck // only a test
			s := store.New(rdb, store.Options{Embedded: true})
			sub := submission("acme.localhost")
			if _, _, err := s.Submit(t.Context(), sub); err != nil { // opens the connection and loads the script
				t.Fatal(err)
			}
			m.SetError(tc.answer)
			_, _, submitErr := s.Submit(t.Context(), submission("next.localhost"))
			_, _, _, takeErr := s.Take(t.Context(), sub.ID, 1, nil)
			_, jobErr := s.Job(t.Context(), sub.ID)
			_, tickErr := s.Tick(t.Context(), true)
			for op, err := range map[string]error{"submit": submitErr, "take": takeErr, "job": jobErr, "tick": tickErr, "ping": s.Ping(t.Context())} {
				if got := nexus.CodeOf(err); got != tc.want {
					t.Errorf("%s: %q, want %q", op, got, tc.want)
				}
			}
			m.SetError("")
			if job, err := s.Job(t.Context(), sub.ID); err != nil || job.Taken != 0 {
				t.Errorf("afterwards: taken %d, %v", job.Taken, err)
			}
		})
	}
}
