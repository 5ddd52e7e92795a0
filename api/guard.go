package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// rule is what a route requires before its parameters are read.
type rule struct {
	scope Scope    // of the token; empty: the handler checks it
	query []string // the query parameters it has
	keyed bool     // an Idempotency-Key is required
}

// routes are the contract's routes, as Echo writes them. A test compares them with the
// contract.
func routes() map[string]rule {
	return map[string]rule{
		"POST /signup":                   {},
		"GET /subdomains/:name":          {},
		"GET /choices":                   {},
		"GET /jobs":                      {scope: ScopeRead, query: []string{"state", "kind", "cursor", "limit"}},
		"GET /jobs/:id":                  {query: []string{"wait"}},
		"GET /jobs/:id/events":           {},
		"POST /jobs/:id/credentials":     {keyed: true},
		"POST /jobs/:id/cancel":          {},
		"POST /jobs/:id/resume":          {scope: ScopeOperate},
		"GET /tenants":                   {scope: ScopeRead, query: []string{"state", "cursor", "limit"}},
		"POST /tenants":                  {scope: ScopeOperate},
		"GET /tenants/:site":             {scope: ScopeRead},
		"DELETE /tenants/:site":          {scope: ScopeOperate, query: []string{"purge"}},
		"POST /tenants/:site/restore":    {scope: ScopeOperate},
		"POST /tenants/:site/keys":       {scope: ScopeOperate},
		"POST /tenants/:site/adopt":      {scope: ScopeOperate},
		"GET /benches":                   {scope: ScopeRead},
		"POST /benches/:name/:verb":      {scope: ScopeOperate},
		"POST /benches/:name/pool/:verb": {scope: ScopeOperate},
		"GET /templates":                 {scope: ScopeRead},
		"POST /templates":                {scope: ScopeOperate},
	}
}

// guard checks the token first, so that a caller without one learns nothing else. Then it
// refuses unknown query parameters: a misspelled purge=now must not be ignored.
func (s *Server) guard(rules map[string]rule) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			method := c.Request().Method
			if method == http.MethodHead {
				method = http.MethodGet
			}
			r, ok := rules[method+" "+c.Path()]
			if !ok {
				return next(c)
			}
			if r.scope != "" {
				if _, err := s.need(c, r.scope); err != nil {
					return err
				}
			}
			for name := range c.QueryParams() {
				if !slices.Contains(r.query, name) {
					return unknownParameter(name, r.query)
				}
			}
			if err := shortHeaders(c.Request().Header); err != nil {
				return err
			}
			if r.keyed && !printable(c.Request().Header.Get("Idempotency-Key"), 128) {
				return invalid("Idempotency-Key", "Send an Idempotency-Key of 1 to 128 printable characters; a second call with the same one gets the same answer.")
			}
			return next(c)
		}
	}
}

func unknownParameter(name string, known []string) error {
	takes := "this call takes none"
	if len(known) > 0 {
		takes = "this call takes " + strings.Join(known, ", ")
	}
	return invalid(shorten(name), fmt.Sprintf("There is no query parameter %s; %s.", shorten(name), takes))
}

// shorten cuts a name that a caller has sent, for use in an answer.
func shorten(name string) string {
	const most = 60
	if runes := []rune(strings.ToValidUTF8(name, "?")); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return strings.ToValidUTF8(name, "?")
}

// shortHeaders refuses a header that is longer than the contract allows.
func shortHeaders(h http.Header) error {
	const most = 1000
	for _, name := range []string{"If-None-Match", "Last-Event-ID", "Prefer"} {
		if len(h.Get(name)) > most {
			return invalid(name, fmt.Sprintf("The header %s is too long: %d characters at most.", name, most))
		}
	}
	return nil
}

// bounded limits the size of a body, for the methods that read one.
func bounded() echo.MiddlewareFunc {
	return middleware.BodyLimitWithConfig(middleware.BodyLimitConfig{Limit: "64K", Skipper: func(c echo.Context) bool {
		return c.Request().Method == http.MethodGet || c.Request().Method == http.MethodHead
	}})
}

// withHead registers HEAD wherever GET is registered (RFC 9110 §9.3.2).
type withHead struct{ *echo.Echo }

// GET registers a handler for both methods.
func (w withHead) GET(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) *echo.Route {
	w.HEAD(path, h, m...)
	return w.Echo.GET(path, h, m...)
}
