package api

import (
	"fmt"
	"net/http"

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
	if params.State != nil && !state.Valid() {
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

// ShowTenant returns one tenant.
func (s *Server) ShowTenant(c echo.Context, site string) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	tenant, err := s.Store.Tenant(c.Request().Context(), nexus.SiteName(nexus.Lower(site)))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, s.tenant(tenant))
}

// DeleteTenant closes a site and sets its purge date, or removes it with purge=now.
func (s *Server) DeleteTenant(c echo.Context, site string, params gen.DeleteTenantParams) error {
	kind := nexus.KindSuspend
	if params.Purge != nil {
		if *params.Purge != gen.Now {
			return invalid("purge", "Write purge=now to remove the tenant at once, or leave it out.")
		}
		kind = nexus.KindTeardown
	}
	job, err := s.onTenant(c, site, kind, params.IdempotencyKey, nil)
	if err != nil {
		return err
	}
	return s.recorded(c, job, true)
}

// RestoreTenant opens a suspended tenant's site again.
func (s *Server) RestoreTenant(c echo.Context, site string, params gen.RestoreTenantParams) error {
	job, err := s.onTenant(c, site, nexus.KindRestore, params.IdempotencyKey, nil)
	if err != nil {
		return err
	}
	return s.recorded(c, job, true)
}

// RotateKey gives a tenant's admin a new key and secret.
func (s *Server) RotateKey(c echo.Context, site string, params gen.RotateKeyParams) error {
	tenant := nexus.Tenant{}
	job, err := s.onTenant(c, site, nexus.KindRotateKey, params.IdempotencyKey, func(sub *store.Submission) (err error) {
		if tenant, err = s.Store.Tenant(c.Request().Context(), sub.Site); err == nil {
			sub.Spec = nexus.Spec{Email: tenant.Email, URL: s.url(sub.Site)}
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.accepted(c, job)
}

// AdoptTenant makes a tenant of a site that Nexus did not make.
func (s *Server) AdoptTenant(c echo.Context, site string, params gen.AdoptTenantParams) error {
	job, err := s.onTenant(c, site, nexus.KindAdopt, params.IdempotencyKey, func(sub *store.Submission) error {
		var body gen.AdoptRequest
		if err := readJSON(c, &body); err != nil {
			return err
		}
		who := nexus.Signup{Email: body.Email, Plan: nexus.PlanName(value(body.Plan))}
		who.Normalize()
		if refusals := who.AdoptRefusals(string(sub.Site)); len(refusals) > 0 {
			return &nexus.Error{Code: nexus.Invalid, Op: "api.adopt", Msg: "Please correct the fields named below.", Fields: refusals}
		}
		sub.Spec = nexus.Spec{Email: who.Email, Plan: who.Plan, URL: s.url(sub.Site), Apps: s.Apps, NewKey: value(body.NewKey)}
		return nil
	})
	if err != nil {
		return err
	}
	return s.accepted(c, job)
}

// onTenant records a job on a tenant for an operator. Fill, unless nil, completes the
// submission.
func (s *Server) onTenant(c echo.Context, site string, kind nexus.Kind, key *string, fill func(*store.Submission) error) (nexus.Job, error) {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return nexus.Job{}, err
	}
	sub := store.Submission{ID: nexus.NewJobID(), Kind: kind, Site: nexus.SiteName(nexus.Lower(site)), Actor: actor,
		Steps: tasks.Steps(kind), GiveUpAfter: s.Timeout, PurgeAfter: s.Grace}
	if fill != nil { // the answer has a claim token, and the job may seal a key
		sub.KeyID = s.Keys.ID()
		if err := fill(&sub); err != nil {
			return nexus.Job{}, err
		}
	}
	canonical := fmt.Appendf(nil, "%s %s %s %s %t", kind, sub.Site, sub.Spec.Email, sub.Spec.Plan, sub.Spec.NewKey)
	if err := s.idempotent(&sub, actor, key, canonical); err != nil {
		return nexus.Job{}, err
	}
	return s.record(c.Request().Context(), sub)
}

// recorded answers with 202 and the job.
func (s *Server) recorded(c echo.Context, job nexus.Job, operator bool) error {
	c.Response().Header().Set("Location", statusURL(job.ID))
	c.Response().Header().Set("Retry-After", "1")
	return c.JSON(http.StatusAccepted, recordedJob{s.job(job, operator), string(job.ID), statusURL(job.ID), eventsURL(job.ID)})
}

// recordedJob is a job with the fields of gen.Accepted.
type recordedJob struct {
	gen.Job
	JobID     string `json:"jobId"`
	StatusURL string `json:"statusUrl"`
	EventsURL string `json:"eventsUrl"`
}

func (s *Server) tenant(t nexus.Tenant) gen.Tenant {
	out := gen.Tenant{Site: string(t.Site), Url: s.url(t.Site), State: gen.TenantState(t.State), Plan: string(t.Plan),
		Email: t.Email, Bench: t.Bench, MadeBy: optional(string(t.MadeBy)), Job: optional(string(t.Job)), CreatedAt: t.CreatedAt}
	out.Road, out.Template = s.road(t.Road, t.Template)
	if !t.PurgeAt.IsZero() {
		out.PurgeAt = &t.PurgeAt
	}
	return out
}
