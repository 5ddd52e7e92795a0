package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestReasons causes each reason in the contract, by which programs distinguish refusals
// with the same code and status.
func TestReasons(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Master = "headoffice.example.com" })
	seen := map[string]bool{}
	expect := func(reason string, status int, body map[string]any) {
		t.Helper()
		seen[reason] = true
		if body["reason"] != reason {
			t.Errorf("%d %v, want the reason %s", status, body, reason)
		}
	}
	keyed := func(token, key string) []string { return append(bearer(token), "Idempotency-Key", key) }
	_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"acme"}`), "Idempotency-Key", "k")
	id, claim := job["jobId"].(string), job["claimToken"].(string)
	refused := func(reason, method, path, body string, headers ...string) {
		t.Helper()
		status, _, answer := s.ask(method, path, body, headers...)
		expect(reason, status, answer)
	}
	refused("name_taken", "POST", "/signup", signupBody(`{"subdomain":"acme"}`))
	refused("name_reserved", "POST", "/signup", signupBody(`{"subdomain":"headoffice"}`))
	refused("key_reused", "POST", "/signup", signupBody(`{"subdomain":"acme-2"}`), "Idempotency-Key", "k")
	refused("busy", "POST", "/tenants/acme.example.com/keys", "", bearer(operator)...)
	refused("not_ready", "POST", "/jobs/"+id+"/credentials", "", keyed(claim, "me")...)
	s.finish(id, nexus.Succeeded)
	refused("tenant_state", "POST", "/tenants/acme.example.com/restore", "", bearer(operator)...)
	refused("job_state", "POST", "/jobs/"+id+"/cancel", "", bearer(operator)...)
	s.ask("POST", "/jobs/"+id+"/credentials", "", keyed(claim, "me")...)
	refused("gone", "POST", "/jobs/"+id+"/credentials", "", keyed(claim, "you")...)
	// A replay that waits comes too late too, and gets the same status.
	status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"acme"}`), "Idempotency-Key", "k", "Prefer", "wait=1")
	if expect("gone", status, body); status != 410 || body["code"] != "conflict" || body["jobId"] != id {
		t.Errorf("a replay after the pick-up: %d %v", status, body)
	}
	limited := newServer(t, func(o *api.Options) { o.Limits = api.Limits{All: 1} })
	limited.ask("POST", "/signup", signupBody(`{"subdomain":"first"}`))
	status, _, body = limited.ask("POST", "/signup", signupBody(`{"subdomain":"second"}`))
	expect("rate_limited", status, body)
	closed := newServer(t, func(o *api.Options) { o.Signup = "closed" })
	status, _, body = closed.ask("POST", "/signup", signupBody(""))
	expect("signup_closed", status, body)
	for _, reason := range s.doc.Components.Schemas["Reason"].Value.Enum {
		if !seen[fmt.Sprint(reason)] {
			t.Errorf("no way to the reason %s is known", reason)
		}
	}
	if key := s.doc.Paths.Value("/jobs/{id}/credentials").Post.Parameters; !slices.ContainsFunc(key, func(p *openapi3.ParameterRef) bool {
		return p.Value.Name == "Idempotency-Key" && p.Value.Required
	}) {
		t.Error("the contract does not require the key that the server requires")
	}
}

func TestFailedWaitSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k")
	s.finish(job["jobId"].(string), nexus.Failed)
	_, _, body := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k", "Prefer", "wait=1")
	if body["action"] != "Ask the operator." || !strings.HasSuffix(body["detail"].(string), "Ask the operator.") {
		t.Errorf("%v", body)
	}
}

// TestNamesRunOut: if all addresses of an organization's name are taken, that is a conflict
// and not invalid input.
func TestNamesRunOut(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for name := range nexus.Subdomains("acme") {
		if status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"`+name+`"}`)); status != 202 {
			t.Fatalf("%s: %d %v", name, status, body)
		}
	}
	status, _, body := s.ask("POST", "/signup", signupBody(`{"organizationName":"Acme"}`))
	if status != 409 || body["reason"] != "name_taken" || !strings.Contains(fmt.Sprint(body["errors"]), "subdomain") {
		t.Errorf("after all of them: %d %v", status, body)
	}
}

// TestTooLong: a text that is longer than the contract allows is refused, also if it is of
// spaces, and no answer repeats all of it.
func TestTooLong(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	long := strings.Repeat("x", 5000)
	for what, status := range map[string]int{
		"GET /subdomains/" + strings.Repeat("a", 201):       400,
		"GET /subdomains/" + strings.Repeat("a", 200):       200,
		"GET /jobs/" + long:                                 404,
		"GET /jobs/" + strings.Repeat("a", 32) + "?" + long: 400,
	} {
		method, path, _ := strings.Cut(what, " ")
		if got, _, body := s.ask(method, path, ""); got != status || len(fmt.Sprint(body)) > 2000 {
			t.Errorf("%.60s…: %d %.300v", what, got, body)
		}
	}
	for _, header := range []string{"Prefer", "If-None-Match", "Last-Event-ID"} {
		for _, path := range []string{"/jobs/" + strings.Repeat("a", 32), "/jobs/" + strings.Repeat("a", 32) + "/events"} {
			if got, _, _ := s.ask("GET", path, "", header, strings.Repeat("x", 1001)); got != 400 {
				t.Errorf("a long %s: %d", header, got)
			}
		}
	}
	for _, body := range []string{`{"fullName":"Jane` + strings.Repeat(" ", 140) + `"}`, `{"` + long + `":1}`} {
		if got, _, answer := s.ask("POST", "/signup", signupBody(body)); got != 400 || len(fmt.Sprint(answer)) > 2000 {
			t.Errorf("%.40s…: %d %.300v", body, got, answer)
		}
	}
}

// TestRefusedToAnotherOrigin: a page of an origin in NEXUS_CORS_ORIGINS can read every
// refusal. Without the header its browser would report a failed connection.
func TestRefusedToAnotherOrigin(t *testing.T) {
	t.Parallel()
	const origin = "https://www.example.com"
	s := newServer(t, func(o *api.Options) { o.CORSOrigins, o.Master = []string{origin}, "erp.example.com" })
	job := "/jobs/" + s.signup("other-origin")
	for _, tc := range []struct {
		name, method, path string
		status             int
		headers            []string
	}{
		{"no token", "GET", "/jobs", 401, nil},
		{"another scope", "POST", "/tenants", 403, []string{"Authorization", "Bearer " + reader}},
		{"an unknown parameter", "GET", job + "?wiat=1s", 400, nil},
		{"no Idempotency-Key", "POST", job + "/credentials", 400, nil},
		{"a long header", "GET", job, 400, []string{"If-None-Match", strings.Repeat("x", 1001)}},
		{"a malformed address", "GET", "/subdomains/%ff", 400, nil},
		{"the master site", "DELETE", "/tenants/erp.example.com", 403, []string{"Authorization", "Bearer " + operator}},
		{"an unknown job", "GET", "/jobs/none", 404, nil},
		{"no such address", "GET", "/none", 404, nil},
	} {
		status, header, _ := s.ask(tc.method, tc.path, "", append(tc.headers, "Origin", origin)...)
		if status != tc.status || header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s: %d %v", tc.name, status, header)
		}
	}
}
