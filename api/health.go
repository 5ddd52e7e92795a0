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

// Readyz reports whether the system works, and in sentences why not. A paused bench is
// only a warning: jobs for it wait, and a load balancer must not remove the API for it.
func (s *Server) Readyz(c echo.Context) error {
	ready := s.Store.Ready(c.Request().Context())
	answer, status := gen.Health{Status: gen.Ok, Workers: ready.Workers}, http.StatusOK
	if len(ready.Problems) > 0 {
		answer.Status, answer.Problems, status = gen.Unready, &ready.Problems, http.StatusServiceUnavailable
	}
	if len(ready.Warnings) > 0 {
		answer.Warnings = &ready.Warnings
	}
	return c.JSON(status, answer)
}

// Openapi serves the contract.
func (s *Server) Openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", document)
}
