package api

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// ListTenants lists tenants by name.
func (s *Server) ListTenants(c echo.Context, params gen.ListTenantsParams) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	state := value(params.State)
	if state != "" && !state.Valid() {
		return invalid("state", "There is no such state; /openapi.yaml lists them.")
	}
	if err := checkLimit(params.Limit); err != nil {
		return err
	}
	tenants, next, err := s.Store.Tenants(c.Request().Context(), store.TenantFilter{State: nexus.TenantState(state),
		Cursor: value(params.Cursor), Limit: value(params.Limit)})
	if err != nil {
		return err
	}
	list := gen.TenantList{Tenants: make([]gen.Tenant, len(tenants)), Next: optional(next)}
	for i, tenant := range tenants {
		list.Tenants[i] = s.tenant(tenant)
	}
	return c.JSON(http.StatusOK, list)
}

// ShowTenant answers with one tenant.
func (s *Server) ShowTenant(c echo.Context, site string) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	tenant, err := s.Store.Tenant(c.Request().Context(), nexus.SiteName(strings.ToLower(site)))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, s.tenant(tenant))
}

// DeleteTenant records a teardown; the site is closed and removed at once.
func (s *Server) DeleteTenant(c echo.Context, site string, params gen.DeleteTenantParams) error {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return err
	}
	sub := store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindTeardown, Site: nexus.SiteName(strings.ToLower(site)),
		Actor: actor, Steps: tasks.Steps(nexus.KindTeardown), KeyID: s.Keys.ID(), GiveUpAfter: s.Timeout}
	if params.IdempotencyKey != nil {
		if !printable(*params.IdempotencyKey, 128) {
			return invalid("Idempotency-Key", "The Idempotency-Key must be 1 to 128 printable characters without spaces.")
		}
		sub.IdempotencyKey = actor + "/" + *params.IdempotencyKey
		sub.Fingerprints = s.Keys.Fingerprints([]byte("delete " + sub.Site))
	}
	job, _, err := s.Store.Submit(c.Request().Context(), sub)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", statusURL(job.ID))
	c.Response().Header().Set("Retry-After", "1")
	return c.JSON(http.StatusAccepted, s.job(job))
}

func (s *Server) tenant(t nexus.Tenant) gen.Tenant {
	return gen.Tenant{Site: string(t.Site), Url: s.url(t.Site), State: gen.TenantState(t.State), Plan: string(t.Plan),
		Email: t.Email, Bench: t.Bench, MadeBy: optional(string(t.MadeBy)), Job: optional(string(t.Job)), CreatedAt: t.CreatedAt}
}
