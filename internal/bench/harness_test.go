package bench_test

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
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
