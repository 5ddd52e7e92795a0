package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
)

// TestEmbeddedRedis: keys expire by themselves, and a command does not take longer with
// many keys.
func TestEmbeddedRedis(t *testing.T) {
	t.Parallel()
	rdb, stop, err := app.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx := t.Context()
	fill := func(from, to int) {
		pipe := rdb.Pipeline()
		for i := from; i < to; i++ {
			pipe.MSet(ctx, fmt.Sprintf("key:%d", i), "x", fmt.Sprintf("other:%d", i), "x")
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	fastest := func() time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			for range 20 {
				if err := rdb.Get(ctx, "key:1").Err(); err != nil {
					t.Fatal(err)
				}
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	fill(0, 5)
	few := fastest()
	for i := range 8 {
		fill(i*1000, (i+1)*1000)
	}
	if many := fastest(); many > 20*few {
		t.Errorf("20 commands take %s with ten keys and %s with 16,000", few, many)
	}
	if err := rdb.Set(ctx, "short", "x", 500*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !errors.Is(rdb.Get(ctx, "short").Err(), redis.Nil); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("a key outlives its time")
		}
	}
}

// TestOneLogFormat: every line that a deployed process writes is JSON, from a start that
// fails to the lines of the Redis client.
func TestOneLogFormat(t *testing.T) { // alone: go-redis has one logger for the whole process
	for name, environ := range map[string][]string{
		"a configuration that will not do": {"NEXUS_SIGNUP=maybe", "NEXUS_BENCH=other"},
		"a start that fails":               {"NEXUS_SANDBOX_DIR=" + t.TempDir()},
	} {
		var said bytes.Buffer
		if code := app.Process(t.Context(), "worker", app.Parts{Worker: true}, environ, &said, nil); code == 0 {
			t.Errorf("%s: it ended with 0", name)
		}
		allJSON(t, name, said.String(), 1)
	}
	said := &locked{}
	app.LogRedis(app.NewLog(said, 0))
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close() //nolint:errcheck // of a test
	for range 300 {
		short, stop := context.WithTimeout(t.Context(), time.Second)
		_ = rdb.Ping(short)
		stop()
	}
	if lines := allJSON(t, "the client", said.String(), 1); lines > 5 {
		t.Errorf("300 failures are %d lines", lines)
	}
}

// locked is a buffer that may be written and read at once.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func allJSON(t *testing.T, what, said string, least int) (lines int) {
	t.Helper()
	for line := range strings.Lines(said) {
		lines++
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["msg"] == "" || fields["level"] == "" {
			t.Errorf("%s: no line of JSON: %s", what, line)
		}
	}
	if lines < least {
		t.Errorf("%s: %d lines", what, lines)
	}
	return lines
}
