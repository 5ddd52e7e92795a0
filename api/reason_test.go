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

// TestReasons drives a program's way to each reason of the contract: refusals of one
// code and status are told apart without reading sentences.
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
	// A replay that waits comes too late, too: in the contract, with its own status.
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
