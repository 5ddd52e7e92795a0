package api_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// text gets a path, as a browser or Prometheus does.
func (s *server) text(method, path, user, password string) (status int, header http.Header, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	all, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(all)
}

func TestMetricsShowTheSystem(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.ask("POST", "/signup", signupBody(""))
	for _, err := range []error{s.store.AnnounceBench(t.Context(), "main"), s.store.SetBench(t.Context(), "main", nexus.BenchPaused, "op")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, body := s.text("GET", "/metrics", "", "")
	for _, line := range []string{
		"nexus_redis_up 1", "nexus_workers 0", "nexus_jobs_parked 0", "nexus_http_errors_total 0", `nexus_queue_pending_tasks{queue="provision"} 1`,
		`nexus_bench_mode{bench="main",mode="paused"} 1`, `nexus_bench_mode{bench="main",mode="open"} 0`,
		`nexus_bench_slots{bench="main"} 64`, `route="/signup",status="202"`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(body, "jane") || strings.Contains(body, "mueller") {
		t.Error("a tenant's name is in the metrics")
	}
	s.redis.SetError("LOADING the server starts")
	if status, _, _ := s.text("GET", "/readyz", "", ""); status != 503 {
		t.Errorf("readiness with Redis away: %d", status)
	}
	if status, _, _ := s.text("GET", "/jobs/"+string(nexus.NewJobID()), "", ""); status != 503 {
		t.Errorf("a job with Redis away: %d", status)
	}
	if status, _, body := s.text("GET", "/metrics", "", ""); status != 200 || !strings.Contains(body, "nexus_redis_up 0") || !strings.Contains(body, "nexus_http_errors_total 1") || strings.Contains(body, "nexus_bench_mode{") {
		t.Errorf("with Redis away: %d", status)
	}
}

func TestReadyzWarnsOfAPausedBench(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, err := range []error{s.store.Announce(t.Context(), store.Presence{Role: "worker", Name: "w", Keys: s.keys.IDs()}),
		s.store.AnnounceBench(t.Context(), "main"), s.store.SetBench(t.Context(), "main", nexus.BenchPaused, "anna")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	status, _, answer := s.ask("GET", "/readyz", "")
	warnings, _ := answer["warnings"].([]any)
	if status != 200 || len(warnings) != 1 || !strings.Contains(warnings[0].(string), "paused by anna") {
		t.Errorf("%d %v", status, answer)
	}
}

func TestQueuesNeedAToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) {
		o.Queues = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the queues") })
	})
	for _, password := range []string{"", "wrong", signer} {
		status, header, body := s.text("GET", api.QueuesPath, "anna", password)
		if status != 401 || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic ") || strings.Contains(body, "the queues") {
			t.Errorf("with %q: %d %s", password, status, body)
		}
	}
	for _, path := range []string{api.QueuesPath, api.QueuesPath + "/api/queues"} {
		if status, _, body := s.text("GET", path, "anna", reader); status != 200 || body != "the queues" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, _ := s.text("POST", api.QueuesPath+"/api/queues/x:pause", "anna", operator); status != 405 {
		t.Errorf("a change: %d", status)
	}
}

// TestLimitsCountTheRightCaller checks which address a signup is charged to.
func TestLimitsCountTheRightCaller(t *testing.T) {
	t.Parallel()
	proxied := func(o *api.Options) {
		o.Limits = api.Limits{Address: 1}
		o.Proxies = networks(t, "127.0.0.0/8", "::1/128")
	}
	direct := func(o *api.Options) { o.Limits = api.Limits{Address: 1} }
	for _, tc := range []struct {
		name          string
		change        func(*api.Options)
		first, second []string
		want          int
	}{
		{"the same address", direct, nil, nil, 429},
		{"a header nobody vouches for", direct, []string{"X-Forwarded-For", "9.9.9.1"}, []string{"X-Forwarded-For", "9.9.9.2"}, 429},
		{"two people behind our proxy", proxied, []string{"X-Forwarded-For", "9.9.9.1"}, []string{"X-Forwarded-For", "9.9.9.2"}, 202},
		{"one person behind our proxy", proxied, []string{"X-Forwarded-For", "9.9.9.1"}, []string{"X-Forwarded-For", "1.1.1.1, 9.9.9.1"}, 429},
		{"two addresses of one IPv6 network", proxied, []string{"X-Forwarded-For", "2001:db8::1"}, []string{"X-Forwarded-For", "2001:db8::ffff:2"}, 429},
		{"two IPv6 networks", proxied, []string{"X-Forwarded-For", "2001:db8::1"}, []string{"X-Forwarded-For", "2001:db8:0:1::1"}, 202},
		{"one person whose proxy writes ports", proxied, []string{"X-Forwarded-For", "9.9.9.1:5012"}, []string{"X-Forwarded-For", "9.9.9.1:6077"}, 429},
		{"two people whose proxy writes ports", proxied, []string{"X-Forwarded-For", "9.9.9.1:5012"}, []string{"X-Forwarded-For", "9.9.9.2:5012"}, 202},
		{"two IPv6 networks with ports", proxied, []string{"X-Forwarded-For", "[2001:db8::1]:5012"}, []string{"X-Forwarded-For", "[2001:db8:0:1::1]:5012"}, 202},
		{"one IPv6 address, with and without brackets", proxied, []string{"X-Forwarded-For", "[2001:db8::1]"}, []string{"X-Forwarded-For", "2001:db8::1"}, 429},
		{"an IPv4 address written as IPv6", proxied, []string{"X-Forwarded-For", "::ffff:9.9.9.1"}, []string{"X-Forwarded-For", "9.9.9.1"}, 429},
		{"behind our proxy, not an address", proxied, []string{"X-Forwarded-For", "9.9.9.1, unknown"}, []string{"X-Forwarded-For", "9.9.9.2, unknown"}, 429},
		{"two users of a backend behind our proxy", proxied, append(bearer(signer), "X-Forwarded-For", "9.9.9.1, 5.5.5.5"), append(bearer(signer), "X-Forwarded-For", "9.9.9.2, 5.5.5.5"), 202},
		{"one user of a backend behind our proxy", proxied, append(bearer(signer), "X-Forwarded-For", "9.9.9.1, 5.5.5.5"), append(bearer(signer), "X-Forwarded-For", "9.9.9.1:99, 5.5.5.5"), 429},
		{"a backend behind our proxy that names no users", proxied, append(bearer(signer), "X-Forwarded-For", "5.5.5.5"), append(bearer(signer), "X-Forwarded-For", "5.5.5.5"), 202},
		{"one person, by a backend and directly", direct, append(bearer(signer), "X-Forwarded-For", "127.0.0.1"), nil, 202},
		{"a backend with a token", direct, bearer(signer), bearer(signer), 202},
		{"one user of a backend with a token", direct, append(bearer(signer), "X-Forwarded-For", "9.9.9.1"), append(bearer(signer), "X-Forwarded-For", "9.9.9.1"), 429},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tc.change)
			if status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"one-site"}`), tc.first...); status != 202 {
				t.Fatalf("the first: %d %v", status, body)
			}
			status, header, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"two-sites"}`), tc.second...)
			if status != tc.want || status == 429 && (header.Get("Retry-After") == "" || !strings.HasPrefix(header.Get("RateLimit"), `"address";r=0;t=3`)) ||
				header.Get("RateLimit-Policy") != `"address";q=1;w=3600` {
				t.Errorf("the second: %d %v", status, body)
			}
		})
	}
}

func TestLimitPerEmail(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Limits = api.Limits{Email: 1} })
	s.ask("POST", "/signup", signupBody(`{"subdomain":"one-site","email":"Jane@example.com"}`))
	if status, _, _ := s.ask("POST", "/signup", signupBody(`{"subdomain":"two-sites","email":"jane@EXAMPLE.com"}`)); status != 429 {
		t.Errorf("the same address, spelt otherwise: %d", status)
	}
	if status, _, _ := s.ask("POST", "/tenants", signupBody(`{"subdomain":"two-sites"}`), bearer(operator)...); status != 202 {
		t.Errorf("an operator: %d", status)
	}
	for key, value := range map[string]string{"plain": "jane@example.com", "name": "jane"} {
		for _, stored := range s.redis.Keys() {
			if strings.HasPrefix(stored, "{nexus}:rate:") && strings.Contains(stored, value) {
				t.Errorf("%s address in a key: %s", key, stored)
			}
		}
	}
}

func networks(t *testing.T, texts ...string) (out []*net.IPNet) {
	t.Helper()
	for _, text := range texts {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, network)
	}
	return out
}

// TestRequestIsJoinedToItsJob: the log line of a request names the job that it recorded, or
// that in its path, and the job keeps the request's id for the log of the workers.
func TestRequestIsJoinedToItsJob(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, header, answer := s.ask("POST", "/signup", signupBody(""))
	id, _ := answer["jobId"].(string)
	job, err := s.store.Job(t.Context(), nexus.JobID(id))
	if err != nil || job.TraceParent == "" || job.TraceParent != header.Get("X-Request-Id") {
		t.Errorf("the job keeps the request %q of %q: %v", job.TraceParent, header.Get("X-Request-Id"), err)
	}
	s.ask("POST", "/jobs/"+id+"/cancel", "")                   // refused: no token
	s.ask("DELETE", "/tenants/No-Name!secret-of-somebody", "") // refused, and no site's name
	s.ask("DELETE", "/tenants/acme.example.com", "")           // refused: no token
	s.ask("POST", "/jobs/no-job-but-a-secret/cancel", "")      // refused, and no job's id
	s.http.Close()                                             // the lines are written after the answers
	for _, want := range []string{
		`"msg":"request done","job":"` + id + `","tenant":"` + string(job.Site) + `","method":"POST","route":"/signup"`,
		`"msg":"request done","job":"` + id + `","method":"POST","route":"/jobs/:id/cancel"`,
		`"msg":"request done","tenant":"acme.example.com","method":"DELETE"`,
	} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log does not have %s:\n%s", want, s.log.String())
		}
	}
	if strings.Contains(s.log.String(), "secret") {
		t.Errorf("the log has what somebody typed into a path:\n%s", s.log.String())
	}
}
