package api_test

import (
	"fmt"
	"testing"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestAskedRoad: an operator may ask for a road, which is recorded; nobody else may, and there is
// none for a user of the master site.
func TestAskedRoad(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	schema := document(t).Components.Schemas["TenantRequest"].Value.Properties["road"].Value
	n := 0
	for road, want := range map[string]int{"standby": 202, "clone": 202, "new-site": 202, "": 202, "walk": 400, " clone": 400, "Clone": 400} {
		n++
		body := signupBody(fmt.Sprintf(`{"subdomain":"site-%d","road":%q}`, n, road))
		status, _, out := s.ask("POST", "/tenants", body, bearer(operator)...)
		if fits := schema.VisitJSON(road) == nil; status != want || fits != (want == 202) {
			t.Errorf("the road %q: %d, want %d; it fits the contract: %t", road, status, want, fits)
		}
		if status == 400 {
			wantField(t, out, "road")
			continue
		}
		id, _ := out["jobId"].(string)
		job, err := s.store.Job(t.Context(), nexus.JobID(id))
		if err != nil || job.Spec.Road != nexus.Road(road) {
			t.Errorf("the road %q is recorded as %q, %v", road, job.Spec.Road, err)
		}
	}
	body := signupBody(`{"subdomain":"acme","road":"clone"}`)
	for _, token := range []string{operator, signer} {
		status, _, out := s.ask("POST", "/signup", body, bearer(token)...)
		if status != 400 {
			t.Errorf("a signup with a road and the token %s: %d", token, status)
		}
		wantField(t, out, "road")
		want := map[string]int{operator: 202, signer: 403}[token]
		if status, _, _ := s.ask("POST", "/tenants", body, bearer(token)...); status != want {
			t.Errorf("a tenant with a road and the token %s: %d", token, status)
		}
	}
	if status, _, _ := s.ask("POST", "/signup", body); status != 400 {
		t.Errorf("a signup with a road and no token: %d", status)
	}

	again := append(bearer(operator), "Idempotency-Key", "again")
	for i, want := range [][2]any{{"clone", 202}, {"clone", 202}, {"new-site", 422}} {
		if status, _, _ := s.ask("POST", "/tenants", signupBody(fmt.Sprintf(`{"subdomain":"again","road":%q}`, want[0])), again...); status != want[1] {
			t.Errorf("call %d with the same key: %d, want %v", i, status, want)
		}
	}

	single := newServer(t, func(o *api.Options) { o.Single, o.Master = true, "erp.example.com" })
	status, _, out := single.ask("POST", "/tenants", signupBody(`{"subdomain":"user","road":"clone"}`), bearer(operator)...)
	if status != 400 {
		t.Errorf("a user with a road: %d", status)
	}
	wantField(t, out, "road")
}

// wantField checks that a problem is about one field.
func wantField(t *testing.T, problem map[string]any, field string) {
	t.Helper()
	fields, _ := problem["errors"].([]any)
	if len(fields) == 1 {
		if first, _ := fields[0].(map[string]any); first["field"] == field {
			return
		}
	}
	t.Errorf("the problem is %v, want it about %s", problem, field)
}
