package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// QueuesPath is the path of asynq's own view.
const QueuesPath = "/ops/queues"

// serveQueues serves asynq's view to operators. A browser asks for name and password: the
// password is a token with the scope read, the name may be any.
func (s *Server) serveQueues() {
	if s.Queues == nil {
		return
	}
	handler := func(c echo.Context) error {
		_, password, ok := c.Request().BasicAuth()
		t, known := s.Tokens.find(nexus.Secret(password))
		if !ok || !known || t.scope == ScopeSignup {
			c.Response().Header().Set("WWW-Authenticate", `Basic realm="nexus: any name, and a token with the scope read or operate"`)
			return echo.NewHTTPError(http.StatusUnauthorized)
		}
		s.Queues.ServeHTTP(c.Response(), c.Request())
		return nil
	}
	for _, path := range []string{QueuesPath, QueuesPath + "/*"} {
		s.echo.GET(path, handler)
	}
}
