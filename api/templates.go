package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// ListTemplates lists the templates of all benches, newest first; those that are not frozen
// come before the others.
func (s *Server) ListTemplates(c echo.Context) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	all, err := s.Store.Templates(c.Request().Context())
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b store.BenchTemplate) int {
		if a.MadeAt.IsZero() != b.MadeAt.IsZero() {
			return map[bool]int{true: -1, false: 1}[a.MadeAt.IsZero()]
		}
		return cmp.Or(b.MadeAt.Compare(a.MadeAt), cmp.Compare(a.Bench, b.Bench), cmp.Compare(a.Name, b.Name))
	})
	list := gen.TemplateList{Templates: make([]gen.Template, len(all))}
	for i, t := range all {
		list.Templates[i] = template(t)
	}
	return c.JSON(http.StatusOK, list)
}

// BuildTemplate records a job that builds a template.
func (s *Server) BuildTemplate(c echo.Context, params gen.BuildTemplateParams) error {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return err
	}
	if s.Single {
		return &nexus.Error{Code: nexus.Forbidden, Op: "api.templates", Msg: "Here signups become users of one site, so there are no templates."}
	}
	var body gen.TemplateRequest
	if err := readJSON(c, &body); err != nil {
		return err
	}
	spec, err := s.templateSpec(cmp.Or(value(body.Template), string(nexus.TemplatePlain)))
	if err != nil {
		return err
	}
	bench, err := s.templateBench(c.Request().Context(), value(body.Bench))
	if err != nil {
		return err
	}
	sub := store.BuildTemplate(bench, spec, s.Apps, actor, tasks.Steps(nexus.KindTemplate), s.Timeout)
	if err := s.idempotent(&sub, actor, params.IdempotencyKey, []byte("template "+string(spec)+" "+bench)); err != nil {
		return err
	}
	job, err := s.record(c.Request().Context(), sub)
	if err != nil {
		return err
	}
	return s.recorded(c, job, true)
}

// templateBench returns the bench that a template is built on: the one that was asked for,
// or the only one. Empty: no worker has served one yet, so any builds it.
func (s *Server) templateBench(ctx context.Context, asked string) (string, error) {
	all, err := s.Store.Benches(ctx)
	if err != nil {
		return "", err
	}
	names := make([]string, len(all))
	for i, b := range all {
		names[i] = b.Name
	}
	switch {
	case asked != "" && !slices.Contains(names, asked):
		return "", &nexus.Error{Code: nexus.NotFound, Op: "api.templates", Msg: "No worker has served a bench of this name; nexus bench list shows them."}
	case asked == "" && len(names) > 1:
		return "", invalid("bench", "There are several benches; name one of: "+strings.Join(names, ", ")+".")
	case asked == "" && len(names) == 1:
		return names[0], nil
	}
	return asked, nil
}

func template(t store.BenchTemplate) gen.Template {
	out := gen.Template{Name: string(t.Name), Bench: t.Bench, Template: string(t.Spec), Apps: append([]string{}, t.Apps...), Job: string(t.Job),
		Offered: t.Offered, Renew: t.Renew, Problem: optional(t.Problem)}
	if !t.MadeAt.IsZero() {
		out.MadeAt = &t.MadeAt
	}
	return out
}

// templateSpec reads what templates are for. Sites without nexus.CompanyApp have no company.
func (s *Server) templateSpec(text string) (nexus.TemplateSpec, error) {
	spec, err := nexus.ParseTemplateSpec(text)
	switch {
	case err != nil:
		return "", invalid("template", nexus.MessageOf(err))
	case spec.Country() != "" && !slices.Contains(s.Apps, nexus.CompanyApp):
		return "", invalid("template", "Sites here do not have the app "+nexus.CompanyApp+", so they have no company; the template is plain.")
	}
	return spec, nil
}
