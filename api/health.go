package api

import (
	_ "embed"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
)

//go:embed openapi.yaml
var document []byte

// Healthz says that the process is alive.
func (s *Server) Healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, gen.Health{Status: "ok"})
}

// Readyz says whether the process can do its work, and in sentences why not. A
// bench that takes a break is a warning only: what is asked for meanwhile waits,
// and no balancer shall take the API away for it.
func (s *Server) Readyz(c echo.Context) error {
	ctx := c.Request().Context()
	problems, warnings := s.Store.Ready(ctx)
	answer, status := gen.Health{Status: gen.Ok}, http.StatusOK
	if workers, err := s.Store.Workers(ctx); err == nil {
		answer.Workers = &workers
	}
	if len(problems) > 0 {
		answer.Status, answer.Problems, status = gen.Unready, &problems, http.StatusServiceUnavailable
	}
	if len(warnings) > 0 {
		answer.Warnings = &warnings
	}
	return c.JSON(status, answer)
}

// Openapi is the contract itself.
func (s *Server) Openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", document)
}
