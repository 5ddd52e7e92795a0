package bench_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// handler lets a server listen before its handler is there.
var handler handlers

type handlers struct{ sync.Map }

func (h *handlers) ServeHTTP(server *http.Server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if found, ok := h.Load(server); ok {
			found.(http.Handler).ServeHTTP(w, r)
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}
}

func serve(t *testing.T, server *http.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Handler = handler.ServeHTTP(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().String()
}

// ended does an operation and cancels it when it reports progress. It returns the error; nil:
// the operation was done before that.
func ended(t *testing.T, b nexus.Bench, op nexus.Op) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	op.Progress = func(string, int) { cancel(nexus.ErrCanceled) }
	_, err := b.Run(ctx, op)
	if err != nil && nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatalf("ended as %v", err)
	}
	return err
}

// half does an operation on a slow sandbox, and ends it in its middle.
func half(t *testing.T, o bench.SandboxOptions, op nexus.Op) {
	t.Helper()
	o.Delay = time.Hour
	sandbox, err := bench.NewSandbox(o)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	if ended(t, sandbox, op) == nil {
		t.Fatal("it was not ended")
	}
}
