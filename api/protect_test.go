package api_test

import (
	"testing"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestMasterSiteInEverySpelling: the master site is protected however its name is written
// in the path. The name of another site may be written in all these ways.
func TestMasterSiteInEverySpelling(t *testing.T) {
	t.Parallel()
	const adoption = `{"email":"jane@example.com"}`
	calls := []struct{ method, deed, body string }{
		{"POST", "/adopt", adoption}, {"POST", "/keys", ""}, {"POST", "/restore", ""}, {"DELETE", "", ""}, {"DELETE", "?purge=now", ""},
	}
	for _, tc := range []struct{ name, site string }{
		{"plain", "erp.example.com"},
		{"a letter encoded", "%65rp.example.com"},
		{"a capital letter encoded", "%45RP.Example.com"},
		{"a point encoded", "erp%2Eexample.com"},
		{"a point encoded in lower case", "erp%2eexample%2ecom"},
		{"all encoded", "%65%72%70%2e%65%78%61%6d%70%6c%65%2e%63%6f%6d"},
		{"a point at the end", "erp.example.com."},
		{"a point at the end, encoded", "erp.example.com%2E"},
		{"capitals", "ERP.EXAMPLE.COM"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(o *api.Options) { o.Master = "erp.example.com" })
			for _, c := range calls {
				path := "/tenants/" + tc.site + c.deed
				if status, _, body := s.ask(c.method, path, c.body, bearer(operator)...); status != 403 || body["code"] != "forbidden" {
					t.Errorf("%s %s: %d %v", c.method, path, status, body)
				}
				if status, _, body := s.ask(c.method, path, c.body); status != 401 {
					t.Errorf("%s %s without a token: %d %v", c.method, path, status, body)
				}
			}
			jobs, _, err := s.store.Jobs(t.Context(), store.JobFilter{})
			tenants, _, tenantsErr := s.store.Tenants(t.Context(), store.TenantFilter{})
			if err != nil || tenantsErr != nil || len(jobs)+len(tenants) > 0 {
				t.Errorf("something was recorded: %+v, %+v, %v, %v", jobs, tenants, err, tenantsErr)
			}
		})
	}
	t.Run("another site", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(o *api.Options) { o.Master = "erp.example.com" })
		if status, _, body := s.ask("POST", "/tenants/%6fld%2Eexample.com/adopt", adoption, bearer(operator)...); status != 202 {
			t.Errorf("%d %v", status, body)
		}
		if _, err := s.store.Tenant(t.Context(), "old.example.com"); err != nil {
			t.Error(err)
		}
	})
}
