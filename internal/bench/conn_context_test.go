package bench_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConnContextEnds: an operation whose context ends is canceled at the runner; if its
// answer comes in time, that answer counts.
func TestConnContextEnds(t *testing.T) {
	t.Parallel()
	const grace = 5 * time.Second
	for _, tc := range []struct {
		name  string
		cause error
		last  string // what follows the id in the runner's last answer; empty: no answer
		note  string
		code  nexus.Code
		after time.Duration
	}{
		{name: "done before the word came", cause: nexus.ErrCanceled, last: `"ok":true,"result":{"note":"done"}`, note: "done"},
		{name: "done before the time was over", cause: nexus.ErrStepTimeout, last: `"ok":true,"result":{"note":"done"}`, note: "done"},
		{name: "canceled", cause: nexus.ErrCanceled, last: `"ok":false,"error":{"code":"canceled","message":"m"}`, code: nexus.CodeCanceled},
		{name: "timed out", cause: nexus.ErrStepTimeout, last: `"ok":false,"error":{"code":"canceled","message":"m"}`, code: nexus.Timeout},
		{name: "broken by the cancel", cause: nexus.ErrCanceled, last: `"ok":false,"error":{"code":"internal","message":"m"}`, code: nexus.CodeCanceled},
		{name: "progress is no last word", cause: nexus.ErrCanceled, last: `"event":"progress","message":"m"`, code: nexus.CodeCanceled, after: grace},
		{name: "no word after a cancel", cause: nexus.ErrCanceled, code: nexus.CodeCanceled, after: grace},
		{name: "no word after a step's timeout", cause: nexus.ErrStepTimeout, code: nexus.Timeout, after: grace},
		{name: "no word after a deadline", cause: context.DeadlineExceeded, code: nexus.Timeout, after: grace},
		{name: "no word after a fence", cause: nexus.ErrFenced, code: nexus.CodeCanceled, after: grace},
		{name: "no word in a drain", cause: nexus.ErrDraining, code: nexus.CodeCanceled, after: grace},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRunner(t, true, func(r *runner) {
				ctx, cancel := context.WithCancelCause(r.t.Context())
				id, out := r.ask(ctx, inspect)
				other, still := r.ask(r.t.Context(), inspect)
				start := time.Now()
				cancel(tc.cause)
				if line := <-r.asked; line["op"] != "cancel" || line["id"] != id {
					r.t.Errorf("sent %v, want the cancel of %s", line, id)
				}
				if tc.last != "" {
					r.say(`{"id":%q,%s}`+"\n", id, tc.last)
				}
				got := r.want(out, tc.note, tc.code)
				if got.err != nil && !errors.Is(got.err, tc.cause) {
					r.t.Errorf("the cause %v is not in %v", tc.cause, got.err)
				}
				if took := got.at.Sub(start); took != tc.after {
					r.t.Errorf("it took %s, want %s", took, tc.after)
				}
				r.say(`{"id":%q,"ok":true,"result":{"note":"too late"}}`+"\n", id)
				r.say(`{"id":%q,"ok":true,"result":{"note":"unharmed"}}`+"\n", other)
				r.want(still, "unharmed", "")
			})
		})
	}
}

func TestConnLost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		cut  func(*runner)
	}{
		{"the runner leaves", func(r *runner) { _ = r.pipe.Close() }},
		{"in the middle of a line", func(r *runner) {
			r.say(`{"id":"1","ok":tr`)
			_ = r.pipe.Close()
		}},
		{"the driver is closed", func(r *runner) { _ = r.driver.Close() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRunner(t, true, func(r *runner) {
				var outs []<-chan outcome
				for range 3 {
					_, out := r.ask(r.t.Context(), inspect)
					outs = append(outs, out)
				}
				ctx, cancel := context.WithCancelCause(r.t.Context())
				_, leaving := r.ask(ctx, inspect)
				cancel(nexus.ErrCanceled)
				<-r.asked // its cancel
				tc.cut(r)
				for _, out := range outs {
					got := r.want(out, "", nexus.Unavailable)
					if e, ok := errors.AsType[*nexus.Error](got.err); !ok || e.Wait != nexus.WaitBench || e.Msg == "" || e.Err == nil {
						r.t.Errorf("answered %+v", e)
					}
				}
				r.want(leaving, "", nexus.CodeCanceled) // only after its context ended, since that decides how it ends
				<-r.conn.Done()
				r.conn.Wait()
			})
		})
	}
}

// wantSilence waits until a connection is closed for silence, and checks the time since
// the runner's last line: the limit is 15 s, checked every 5 s.
func wantSilence(r *runner, spoke time.Time, out <-chan outcome) {
	r.t.Helper()
	select {
	case <-r.conn.Done():
		if took := time.Since(spoke); took < 15*time.Second || took > 20*time.Second {
			r.t.Errorf("given up after %s", took)
		}
	case <-time.After(60 * time.Second):
		r.t.Error("never given up")
		_ = r.pipe.Close()
	}
	got := r.want(out, "", nexus.Unavailable)
	if e, ok := errors.AsType[*nexus.Error](got.err); !ok || e.Wait != nexus.WaitBench {
		r.t.Errorf("answered %+v", e)
	}
}

// TestConnImports: a runner that imports Frappe may be silent for longer.
func TestConnImports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		driver, conn, err := bench.Attach(t.Context(), bench.DockerOptions{Service: "none", Log: slog.New(slog.DiscardHandler)}, ours, true)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		<-time.After(50 * time.Second)
		go func() { _, _ = io.WriteString(theirs, `{"event":"hello","protocol":1}`+"\n") }()
		select {
		case <-conn.Hello():
		case <-conn.Done():
			t.Error("given up while it imports")
		}
		_ = theirs.Close()
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestConnSilence(t *testing.T) {
	t.Parallel()
	t.Run("says nothing", func(t *testing.T) {
		t.Parallel()
		onRunner(t, true, func(r *runner) {
			spoke := time.Now()
			_, out := r.ask(r.t.Context(), inspect)
			wantSilence(r, spoke, out)
		})
	})
	t.Run("falls silent", func(t *testing.T) {
		t.Parallel()
		onRunner(t, true, func(r *runner) {
			_, out := r.ask(r.t.Context(), inspect)
			for range 10 { // any line counts as a sign of life, also junk
				<-time.After(14 * time.Second)
				r.say("still here\n")
			}
			wantSilence(r, time.Now(), out)
			if pings := len(r.pings); pings < 28 || pings > 32 { // one each 5 s
				r.t.Errorf("heard %d pings", pings)
			}
		})
	})
	t.Run("reads no more", func(t *testing.T) {
		t.Parallel()
		onRunner(t, false, func(r *runner) {
			spoke := time.Now()
			out := make(chan outcome, 1)
			go func() {
				result, err := r.driver.Run(r.t.Context(), inspect)
				out <- outcome{result: result, err: err}
			}()
			if _, err := bufio.NewReader(r.pipe).ReadString('\n'); err != nil {
				r.t.Fatal(err)
			}
			wantSilence(r, spoke, out)
		})
	})
}
