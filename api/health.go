package api

import (
	_ "embed"
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nexus-erp/provisioner/api/gen"
)

//go:embed openapi.yaml
var document []byte

// Healthz says that the process is alive.
func (s *Server) Healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, gen.Health{Status: "ok"})
}

// Readyz says whether the process can do its work, and in sentences why not.
func (s *Server) Readyz(c echo.Context) error {
	problems := s.Store.Ready(c.Request().Context())
	if len(problems) > 0 {
		return c.JSON(http.StatusServiceUnavailable, gen.Health{Status: "unready", Problems: &problems})
	}
	return c.JSON(http.StatusOK, gen.Health{Status: "ok"})
}

// Metrics is for Prometheus.
func (s *Server) Metrics(c echo.Context) error {
	promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}

// Openapi is the contract itself.
func (s *Server) Openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", document)
}
