package api_test

import (
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api"
)

// TestGaugesGoWithTheRegistry: while Redis does not answer, metrics that are read from it
// are missing, so that no alarm uses old values.
func TestGaugesGoWithTheRegistry(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.signup("counted")
	s.keep("main", plainShelf, 2)
	shown := regexp.MustCompile(`(?m)^nexus_(due_jobs|due_age_seconds|workers|jobs_parked|queue_\w+|bench_\w+|pool_\w+)[ {].*`)
	if _, _, text := s.text("GET", "/metrics", "", ""); len(shown.FindAllString(text, -1)) < 3 || !strings.Contains(text, "nexus_pool_target") {
		t.Fatalf("with the registry: %s", text)
	}
	s.redis.SetError("LOADING the server starts")
	_, _, text := s.text("GET", "/metrics", "", "")
	if left := shown.FindAllString(text, -1); len(left) > 0 || !strings.Contains(text, "nexus_redis_up 0\n") {
		t.Errorf("without it these stay: %q", left)
	}
}

// TestAnswersAreTaken: the connection of a client that does not read its answers is closed.
func TestAnswersAreTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Sent = 100 * time.Millisecond })
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() //nolint:errcheck // of a test
	_ = connection.(*net.TCPConn).SetReadBuffer(4096)
	_ = connection.SetWriteDeadline(time.Now().Add(20 * time.Second)) // the server must close it long before
	for err == nil {
		_, err = connection.Write([]byte("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // net's own
		t.Errorf("the server holds on to it: %v", err)
	}
}
