package client_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestJobIsNotAHotLoop holds that a server, or a proxy, that does not wait cannot
// make a caller ask at full speed.
func TestJobIsNotAHotLoop(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"not modified at once": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"the same again": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"4"`)
			_, _ = w.Write([]byte(`{"id":"a"}`))
		},
	} {
		var asked atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			answer(w, r)
		}))
		c := client.New(server.URL, "")
		c.SetPause(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		for ctx.Err() == nil {
			if _, etag, _, err := c.Job(ctx, "a", `"4"`, 20*time.Second); err == nil && etag != `"4"` {
				t.Errorf("%s: the tag is %q", name, etag)
			}
		}
		cancel()
		if n := asked.Load(); n < 1 || n > 5 {
			t.Errorf("%s: asked %d times", name, n)
		}
		c.Close()
		server.Close()
	}
}

// TestCallsEnd: a server that takes a call and says nothing does not hold its caller;
// one that was asked to wait may take that time besides.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" { // asked to wait
			w.WriteHeader(http.StatusNotModified)
			return
		}
		select {
		case <-silent:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(silent)
	c := client.New(server.URL, "")
	defer c.Close()
	c.SetLimit(50 * time.Millisecond)
	c.SetPause(100 * time.Millisecond)
	if _, err := c.Tenant(t.Context(), "acme.localhost"); nexus.CodeOf(err) != nexus.Unavailable {
		t.Errorf("a silent server: %v", err)
	}
	if _, _, _, err := c.Job(t.Context(), "a", `"4"`, time.Second); err != nil {
		t.Errorf("a wait: %v", err)
	}
}
