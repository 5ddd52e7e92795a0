package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api"
)

// TestSlowBody sends half a body. Every path answers soon and closes the connection,
// whether its handler reads the body or not. The deadline of a complete body does not end a
// long poll.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	s := newServer(t, func(o *api.Options) { o.Slowest = patience })
	for _, tc := range []struct {
		method, path, kind string
		want               int
	}{
		{"POST", "/signup", "application/json", http.StatusRequestTimeout},
		{"POST", "/signup", "text/plain", http.StatusUnsupportedMediaType},
		{"POST", "/jobs/x/cancel", "application/json", http.StatusUnauthorized},
		{"POST", "/jobs/x/credentials", "application/json", http.StatusNotFound},
		{"GET", "/healthz", "application/json", http.StatusOK},
		{"POST", "/nowhere", "application/json", http.StatusNotFound},
	} {
		t.Run(tc.method+" "+tc.path+" "+tc.kind, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(20 * patience))
			fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Type: %s\r\nContent-Length: 500\r\n\r\n{\"email\":", tc.method, tc.path, tc.kind)
			reader := bufio.NewReader(conn)
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			if answer.StatusCode != tc.want {
				t.Errorf("%d, want %d", answer.StatusCode, tc.want)
			}
			if _, err := io.Copy(io.Discard, reader); err != nil {
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
	t.Run("a long poll outlives the body's time", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"polled"}`), "Prefer", "wait=1")
		if took := time.Since(began); status != http.StatusAccepted || took < 3*patience {
			t.Errorf("%d after %s: %v", status, took, body)
		}
	})
}

// TestPollsEndAtLeave: long polls do not keep a process from stopping; they get the present
// state of the job.
func TestPollsEndAtLeave(t *testing.T) {
	t.Parallel()
	leaving := make(chan struct{})
	s := newServer(t, func(o *api.Options) { o.Leaving = leaving })
	_, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"left"}`))
	job, _ := body["jobId"].(string)
	_, header, _ := s.ask("GET", "/jobs/"+job, "")
	began := time.Now()
	close(leaving)
	if status, _, _ := s.ask("GET", "/jobs/"+job+"?wait=30s", "", "If-None-Match", header.Get("ETag")); status != http.StatusNotModified {
		t.Errorf("a poll: %d", status)
	}
	if status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"late"}`), "Prefer", "wait=30"); status != http.StatusAccepted {
		t.Errorf("a signup that waits: %d %v", status, body)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("they kept it for %s", took)
	}
}

// askHalf sends half a body and waits for the answer.
func (s *server) askHalf(method, path string, headers ...string) (status int) {
	s.t.Helper()
	body, more := io.Pipe()
	defer func() { _ = more.Close() }()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	request.ContentLength = 500
	request.Header.Set("Content-Type", "application/json")
	go func() { _, _ = more.Write([]byte(`{"email":`)) }() // ends when the pipe is closed
	status, _, _ = s.exchange(request, headers)
	return status
}
