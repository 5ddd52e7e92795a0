package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	goleak.VerifyTestMain(m)
}

const (
	operator = "operator-token-123"
	reader   = "reader-token-12345"
	signer   = "signup-token-12345"
)

// server is the API on a miniredis. Every exchange with it is checked against the contract.
type server struct {
	t      *testing.T
	redis  *miniredis.Miniredis
	rdb    *redis.Client
	store  *store.Store
	keys   *nexus.Keyring
	http   *httptest.Server
	router routers.Router
	doc    *openapi3.T
	mu     sync.Mutex
	seen   map[string]bool // "POST /signup 202"
	log    bytes.Buffer
}

func newServer(t *testing.T, change func(*api.Options)) *server {
	t.Helper()
	s := &server{t: t, redis: miniredis.RunT(t), seen: map[string]bool{}}
	s.redis.SetTime(fixed)
	s.rdb = redis.NewClient(&redis.Options{Addr: s.redis.Addr(), MaxRetries: -1})
	s.store = store.New(s.rdb, store.Options{Embedded: true})
	s.keys, _ = nexus.NewKeyring()
	tokens, err := api.ParseTokens("op:operate:" + operator + ",eye:read:" + reader + ",shop:signup:" + signer)
	if err != nil {
		t.Fatal(err)
	}
	o := api.Options{Store: s.store, Keys: s.keys, Tokens: tokens, Domain: "example.com", SiteURL: "https://{site}",
		Apps: []string{"erpnext"}, Log: slog.New(slog.NewJSONHandler(&lockedWriter{w: &s.log}, nil))}
	if change != nil {
		change(&o)
	}
	s.http = httptest.NewServer(api.New(o).Handler())
	loader := openapi3.NewLoader()
	if s.doc, err = loader.LoadFromFile("openapi.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := s.doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.doc.Servers = nil
	if s.router, err = gorillamux.NewRouter(s.doc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.http.Close()
		_ = s.rdb.Close()
	})
	return s
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// ask sends a request and checks the answer against the contract.
func (s *server) ask(method, path, body string, headers ...string) (status int, header http.Header, out map[string]any) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	status, header, text := s.exchange(request, headers)
	_ = json.Unmarshal(text, &out)
	return status, header, out
}

// exchange sends a request with headers, and checks the answer against the contract.
func (s *server) exchange(request *http.Request, headers []string) (status int, header http.Header, body []byte) {
	s.t.Helper()
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err = io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	s.hold(request, response, body)
	return response.StatusCode, response.Header, body
}

func (s *server) hold(request *http.Request, response *http.Response, body []byte) {
	s.t.Helper()
	clean := request.Clone(context.Background())
	clean.URL.Scheme, clean.URL.Host, clean.Host = "", "", ""
	route, params, err := s.router.FindRoute(clean)
	if err != nil {
		return // not in the contract: the caller checks that it is a problem
	}
	s.mu.Lock()
	s.seen[fmt.Sprintf("%s %s %d", request.Method, route.Path, response.StatusCode)] = true
	s.mu.Unlock()
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: clean, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(s.t.Context(), input); err != nil {
		s.t.Errorf("%s %s → %d breaks the contract: %v\n%s", request.Method, request.URL.Path, response.StatusCode, err, body)
	}
}

func signupBody(change string) string {
	body := map[string]any{"email": "jane@Example.com", "password": "Passw0rdXyz", "fullName": "Jane O'Neill", "organizationName": "Müller & Söhne"}
	if change != "" {
		var more map[string]any
		if err := json.Unmarshal([]byte(change), &more); err != nil {
			panic(err)
		}
		for name, value := range more {
			body[name] = value
		}
	}
	text, _ := json.Marshal(body)
	return string(text)
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// finish takes a job and ends it, as a worker does.
func (s *server) finish(id string, state nexus.State) {
	s.t.Helper()
	ctx := s.t.Context()
	job, err := s.store.Job(ctx, nexus.JobID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	lease, job, taken, err := s.store.Take(ctx, job.ID, job.Dispatch, nil)
	if err != nil || taken != store.TakeOK {
		s.t.Fatalf("take: %s, %v", taken, err)
	}
	sealed, err := s.keys.Seal(job.ID, nexus.PurposeCredentials, []byte(`{"apiKey":"the-key","apiSecret":"the-secret"}`))
	if err == nil {
		_, _, err = lease.Seal(ctx, &job, "", sealed)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if state != nexus.Succeeded {
		job.Error = &nexus.Failure{Code: nexus.NotFound, Step: "apps", Message: "The app is not there.", Action: "Ask the operator."}
	}
	job.State = state
	if err := lease.Finish(ctx, &job, "", nexus.Event{}); err != nil {
		s.t.Fatal(err)
	}
}

// TestContract calls every route until it has given every answer in the contract, and fails
// if one is missing. Answers that need a broken server are listed here.
func TestContract(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	driveSignup(s)
	driveJobs(s)
	driveTenants(s)
	driveLife(s)
	driveBenches(s)
	driveTemplates(s)
	drivePool(s)
	driveUnknown(s)
	s.ask("GET", "/healthz", "")
	s.ask("GET", "/readyz", "")
	if err := s.store.Announce(t.Context(), store.Presence{Role: "worker", Name: "w", Keys: s.keys.IDs()}); err != nil {
		t.Fatal(err)
	}
	s.ask("GET", "/readyz", "")
	s.ask("GET", "/metrics", "")
	s.ask("GET", "/openapi.yaml", "")
	limited := newServer(t, func(o *api.Options) { o.Limits = api.Limits{All: 1} })
	limited.seen = s.seen
	limited.ask("POST", "/signup", signupBody(`{"subdomain":"first"}`))
	limited.ask("POST", "/signup", signupBody(`{"subdomain":"second"}`))
	slow := newServer(t, func(o *api.Options) { o.Slowest = 50 * time.Millisecond })
	slow.seen = s.seen
	for _, path := range []string{"/signup", "/tenants", "/tenants/a.example.com/adopt", "/templates", "/benches/main/pool/fill"} {
		if status := slow.askHalf("POST", path, bearer(operator)...); status != http.StatusRequestTimeout {
			t.Errorf("half a request to %s: %d", path, status)
		}
	}
	greedy := newServer(t, func(o *api.Options) { o.Streams = api.Streams{Each: 1, Heartbeat: time.Hour} })
	greedy.seen = s.seen
	watched := greedy.signup("watched")
	greedy.watch(t.Context(), greedy.http.URL, watched).expect("snapshot", watched)
	greedy.ask("GET", "/jobs/"+watched+"/events", "")
	driveLarge(s)
	driveBroken(s, "LOADING the server starts", http.StatusServiceUnavailable)
	driveBroken(s, "ERR what nobody expects", http.StatusInternalServerError)
	for path, item := range s.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				if key := fmt.Sprintf("%s %s %s", method, path, status); !s.seen[key] {
					t.Errorf("never seen: %s", key)
				}
			}
		}
	}
}

// driveBroken makes each call that needs Redis, while Redis answers with an error.
func driveBroken(s *server, answer string, want int) {
	s.t.Helper()
	s.redis.SetError(answer)
	defer s.redis.SetError("")
	for _, call := range []string{"GET /jobs", "GET /tenants", "POST /tenants", "GET /tenants/a.example.com", "DELETE /tenants/a.example.com",
		"POST /signup", "GET /subdomains/acme", "GET /jobs/" + strings.Repeat("a", 32), "GET /jobs/" + strings.Repeat("a", 32) + "/events", "POST /jobs/" + strings.Repeat("a", 32) + "/cancel",
		"POST /jobs/" + strings.Repeat("a", 32) + "/resume", "POST /jobs/" + strings.Repeat("a", 32) + "/credentials",
		"POST /tenants/a.example.com/restore", "POST /tenants/a.example.com/keys", "POST /tenants/a.example.com/adopt",
		"GET /benches", "POST /benches/main/pause", "GET /templates", "POST /templates", "POST /benches/main/pool/fill"} {
		method, path, _ := strings.Cut(call, " ")
		body := ""
		if strings.HasSuffix(path, "/adopt") {
			body = `{"email":"jane@example.com"}`
		}
		if (path == "/templates" || strings.HasSuffix(path, "/fill")) && method == "POST" {
			body = "{}"
		}
		if path == "/signup" || path == "/tenants" && method == "POST" {
			body = signupBody(`{"subdomain":"acme-x"}`)
		}
		if status, header, _ := s.ask(method, path, body, append(bearer(operator), "Idempotency-Key", "away")...); status != want || want == 503 && header.Get("Retry-After") == "" {
			s.t.Errorf("%s with %s from Redis: %d", call, answer, status)
		}
	}
}

// driveLarge sends a body that is too large to each call that has a body.
func driveLarge(s *server) {
	for path, item := range s.doc.Paths.Map() {
		for method := range item.Operations() {
			if method == http.MethodGet {
				continue
			}
			if status, _, _ := s.ask(method, realPath(path), strings.Repeat(" ", 70000), append(bearer(operator), "Idempotency-Key", "large")...); status != 413 {
				s.t.Errorf("%s %s with 70,000 bytes: %d", method, path, status)
			}
		}
	}
}

func realPath(path string) string {
	return strings.NewReplacer("{id}", strings.Repeat("a", 32), "{site}", "a.example.com", "{name}", "main", "{verb}", "pause").Replace(path)
}

func driveSignup(s *server) {
	s.ask("POST", "/signup", signupBody(""))
	s.ask("POST", "/signup", signupBody(`{"email":"no"}`))
	s.ask("POST", "/signup", signupBody(""), bearer("wrong")...)
	s.ask("POST", "/signup", signupBody(""), bearer(reader)...)
	s.ask("POST", "/signup", signupBody(`{"subdomain":"mueller-and-soehne"}`))
	s.ask("POST", "/signup", signupBody(`{"country":"`+strings.Repeat("x", 70000)+`"}`))
	s.ask("POST", "/signup", "plain", "Content-Type", "text/plain")
	s.ask("POST", "/signup", signupBody(`{"subdomain":"key-one"}`), "Idempotency-Key", "one")
	s.ask("POST", "/signup", signupBody(`{"subdomain":"key-two"}`), "Idempotency-Key", "one")
	s.ask("GET", "/subdomains/www", "")
	s.ask("GET", "/choices", "")
	s.ask("GET", "/choices?country=DE", "")
	_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"ready"}`), "Idempotency-Key", "ready")
	s.finish(job["jobId"].(string), nexus.Succeeded)
	s.ask("POST", "/signup", signupBody(`{"subdomain":"ready"}`), "Idempotency-Key", "ready", "Prefer", "respond-async, wait=5")
	_, _, job = s.ask("POST", "/signup", signupBody(`{"subdomain":"broken"}`), "Idempotency-Key", "broken")
	s.finish(job["jobId"].(string), nexus.Failed)
	s.ask("POST", "/signup", signupBody(`{"subdomain":"broken"}`), "Idempotency-Key", "broken", "Prefer", "wait=5")
}

func driveJobs(s *server) {
	_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"watched"}`), "Idempotency-Key", "watched")
	id, claim := job["jobId"].(string), job["claimToken"].(string)
	path := "/jobs/" + id
	_, header, _ := s.ask("GET", path, "")
	s.ask("GET", path, "", "If-None-Match", header.Get("ETag"))
	s.ask("GET", path+"?wait=soon", "")
	s.ask("GET", "/jobs/unknown", "")
	s.ask("GET", "/jobs/unknown/events", "")
	creds := path + "/credentials"
	s.ask("POST", creds, "{}", append(bearer(claim), "Idempotency-Key", "me")...)
	s.ask("POST", creds, "{}", append(bearer("x"), "Idempotency-Key", "me")...)
	s.ask("POST", creds, "{}", bearer(claim)...)
	s.ask("POST", path+"/resume", "", bearer(operator)...)
	s.finish(id, nexus.Succeeded)
	told := s.events(id)
	s.ask("GET", "/jobs/"+id+"/events", "", "Last-Event-ID", told[len(told)-1].id)
	twice := s.watch(s.t.Context(), s.http.URL, id, "Last-Event-ID", "1", "Last-Event-ID", "2")
	problem, _ := io.ReadAll(twice.b)
	s.hold(twice.Request, twice.Response, problem)
	s.ask("POST", creds, "{}", append(bearer(claim), "Idempotency-Key", "me")...)
	s.ask("POST", creds, "{}", append(bearer(claim), "Idempotency-Key", "you")...)
	s.ask("POST", "/signup", signupBody(`{"subdomain":"watched"}`), "Idempotency-Key", "watched", "Prefer", "wait=1")
	for _, deed := range []string{"/cancel", "/resume"} {
		s.ask("POST", path+deed, "")
		s.ask("POST", path+deed, "", bearer(reader)...)
		s.ask("POST", path+deed, "", bearer(operator)...)
		s.ask("POST", "/jobs/unknown"+deed, "", bearer(operator)...)
	}
	_, _, job = s.ask("POST", "/signup", signupBody(`{"subdomain":"canceled"}`))
	s.ask("POST", "/jobs/"+job["jobId"].(string)+"/cancel", "", bearer(job["claimToken"].(string))...)
	_, _, job = s.ask("POST", "/signup", signupBody(`{"subdomain":"parked"}`))
	s.finish(job["jobId"].(string), nexus.RollbackFailed)
	s.ask("POST", "/jobs/"+job["jobId"].(string)+"/resume", "", bearer(operator)...)
	for _, query := range []string{"", "?state=queued&kind=provision&limit=2", "?limit=0", "?state=no"} {
		s.ask("GET", "/jobs"+query, "", bearer(reader)...)
	}
	s.ask("GET", "/jobs", "")
	s.ask("GET", "/jobs", "", bearer(signer)...)
}

func driveTenants(s *server) {
	s.ask("GET", "/tenants", "")
	s.ask("GET", "/tenants", "", bearer(signer)...)
	s.ask("GET", "/tenants?limit=1", "", bearer(reader)...)
	s.ask("GET", "/tenants?cursor=!", "", bearer(reader)...)
	body := signupBody(`{"subdomain":"big","plan":"enterprise"}`)
	s.ask("POST", "/tenants", body)
	s.ask("POST", "/tenants", body, bearer(reader)...)
	s.ask("POST", "/tenants", signupBody(""), bearer(operator)...)
	s.ask("POST", "/tenants", body, append(bearer(operator), "Idempotency-Key", "big")...)
	s.ask("POST", "/tenants", body, bearer(operator)...)
	s.ask("POST", "/tenants", signupBody(`{"subdomain":"bigger"}`), append(bearer(operator), "Idempotency-Key", "big")...)
	s.ask("POST", "/tenants", signupBody(`{"country":"`+strings.Repeat("x", 70000)+`"}`), bearer(operator)...)
	s.ask("POST", "/tenants", "x", append(bearer(operator), "Content-Type", "text/plain")...)
	for _, method := range []string{"GET", "DELETE"} {
		s.ask(method, "/tenants/ready.example.com", "")
		s.ask(method, "/tenants/ready.example.com", "", bearer(signer)...)
		s.ask(method, "/tenants/none.example.com", "", bearer(operator)...)
	}
	s.ask("GET", "/tenants/ready.example.com", "", bearer(reader)...)
	s.ask("DELETE", "/tenants/ready.example.com", "", append(bearer(operator), "Idempotency-Key", strings.Repeat("k", 129))...)
	s.ask("DELETE", "/tenants/ready.example.com", "", append(bearer(operator), "Idempotency-Key", "gone")...)
	s.ask("DELETE", "/tenants/ready.example.com", "", bearer(operator)...)
	s.ask("DELETE", "/tenants/watched.example.com", "", append(bearer(operator), "Idempotency-Key", "gone")...)
}

// driveLife suspends, restores and adopts tenants, and rotates their keys.
func driveLife(s *server) {
	op := bearer(operator)
	_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"lives"}`))
	path := "/tenants/lives.example.com"
	keyed := func(key string) []string { return append(bearer(operator), "Idempotency-Key", key) }
	s.finish(job["jobId"].(string), nexus.Succeeded)
	for _, deed := range []string{"/restore", "/keys"} {
		s.ask("POST", path+deed, "")
		s.ask("POST", path+deed, "", bearer(reader)...)
		s.ask("POST", "/tenants/none.example.com"+deed, "", op...)
	}
	s.ask("POST", path+"/restore", "", op...) // it is not suspended
	s.ask("POST", path+"/keys", "", keyed(strings.Repeat("k", 129))...)
	_, _, job = s.ask("POST", path+"/keys", "", keyed("fresh")...)
	s.ask("POST", path+"/keys", "", op...) // a job is on it
	s.ask("POST", "/tenants/ready.example.com/keys", "", keyed("fresh")...)
	s.finish(job["jobId"].(string), nexus.Succeeded)
	s.ask("DELETE", path+"?purge=later", "", op...)
	_, _, job = s.ask("DELETE", path, "", op...)
	s.finish(job["id"].(string), nexus.Succeeded)
	if _, _, tenant := s.ask("GET", path, "", op...); tenant["state"] != "suspended" || tenant["purgeAt"] == nil {
		s.t.Errorf("deleted with grace: %v", tenant)
	}
	s.ask("POST", path+"/restore", "", keyed(strings.Repeat("k", 129))...)
	_, _, job = s.ask("POST", path+"/restore", "", keyed("open")...)
	s.ask("POST", "/tenants/ready.example.com/restore", "", keyed("open")...)
	s.finish(job["id"].(string), nexus.Succeeded)
	if _, _, tenant := s.ask("GET", path, "", op...); tenant["state"] != "active" || tenant["purgeAt"] != nil {
		s.t.Errorf("restored: %v", tenant)
	}
	_, _, job = s.ask("DELETE", path+"?purge=now", "", op...)
	if job["kind"] != "teardown" || job["actor"] != "op" {
		s.t.Errorf("removed at once: %v", job)
	}
	adopt := "/tenants/old.example.com/adopt"
	s.ask("POST", adopt, `{"email":"jane@example.com"}`)
	s.ask("POST", adopt, `{"email":"jane@example.com"}`, bearer(reader)...)
	s.ask("POST", adopt, `{"email":"jane"}`, op...)
	s.ask("POST", adopt, "x", append(bearer(operator), "Content-Type", "text/plain")...)
	s.ask("POST", adopt, `{"plan":"`+strings.Repeat("x", 70000)+`"}`, op...)
	s.ask("POST", adopt, `{"email":"jane@example.com","newKey":true}`, keyed("old")...)
	s.ask("POST", adopt, `{"email":"jane@example.com"}`, keyed("old")...)
	s.ask("POST", adopt, `{"email":"jane@example.com"}`, op...)
}

// driveUnknown sends each call an unknown parameter.
func driveUnknown(s *server) {
	for path, item := range s.doc.Paths.Map() {
		for method := range item.Operations() {
			if slices.Contains([]string{"/healthz", "/readyz", "/metrics", "/openapi.yaml"}, path) { // these ignore parameters
				if status, _, _ := s.ask(method, path+"?%zz", ""); status != 400 {
					s.t.Errorf("%s %s with a malformed address: %d", method, path, status)
				}
				continue
			}
			if status, _, body := s.ask(method, realPath(path)+"?nonsense=1", "", bearer(operator)...); status != 400 || !strings.Contains(fmt.Sprint(body["errors"]), "nonsense") {
				s.t.Errorf("%s %s with a parameter that it does not have: %d %v", method, path, status, body)
			}
		}
	}
}

func driveBenches(s *server) {
	s.ask("GET", "/benches", "")
	s.ask("GET", "/benches", "", bearer(signer)...)
	if err := s.store.AnnounceBench(s.t.Context(), "main"); err != nil {
		s.t.Fatal(err)
	}
	s.ask("GET", "/benches", "", bearer(reader)...)
	s.ask("POST", "/benches/main/pause", "")
	s.ask("POST", "/benches/main/pause", "", bearer(reader)...)
	s.ask("POST", "/benches/main/stop", "", bearer(operator)...)
	s.ask("POST", "/benches/none/pause", "", bearer(operator)...)
	if _, _, b := s.ask("POST", "/benches/main/drain", "", bearer(operator)...); b["mode"] != "drained" || b["by"] != "op" {
		s.t.Errorf("drained: %v", b)
	}
	if _, _, b := s.ask("POST", "/benches/main/resume", "", bearer(operator)...); b["mode"] != "open" {
		s.t.Errorf("resumed: %v", b)
	}
}

// TestRoutes: every route is in the contract, except those of the page.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, path := range []string{"/nothing", "/jobs/a/b/c", "/ui/nothing.js"} {
		status, header, body := s.ask("GET", path, "")
		if status != 404 || header.Get("Content-Type") != "application/problem+json" || body["code"] != "not_found" {
			t.Errorf("%s: %d %v", path, status, body)
		}
	}
	if status, _, body := s.ask("PUT", "/signup", "{}"); status != 405 || body["detail"] == "" {
		t.Errorf("PUT /signup: %d %v", status, body)
	}
	if known := s.doc.Paths.InMatchingOrder(); !slices.Contains(known, "/signup") {
		t.Errorf("the contract has %v", known)
	}
}
