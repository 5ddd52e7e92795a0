package api

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const requestIDHeader = "X-Request-Id"

// observe gives every request an id, and leaves one log line and one figure of
// it. Neither query nor body is ever logged.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		started, r := time.Now(), c.Request()
		id := r.Header.Get(requestIDHeader)
		if !printable(id, 64) {
			id = strings.ToLower(rand.Text())
		}
		c.Response().Header().Set(requestIDHeader, id)
		c.SetRequest(r.WithContext(nexus.WithLog(r.Context(), slog.String(nexus.LogRequest, id))))
		if err := next(c); err != nil {
			c.Error(err)
		}
		route, took := c.Path(), time.Since(started)
		if route == "" || route == "/*" {
			route = "none"
		}
		status := c.Response().Status
		s.requests.WithLabelValues(route, method(r.Method), strconv.Itoa(status)).Observe(took.Seconds())
		level := slog.LevelInfo
		if r.Method == http.MethodGet && status < http.StatusBadRequest { // polls would drown the rest
			level = slog.LevelDebug
		}
		s.Log.Log(c.Request().Context(), level, "request done", "method", r.Method, "route", route,
			"status", status, nexus.LogDur, took.Milliseconds())
		return nil
	}
}

// method is a label: what is none of ours must not make a series of its own.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return name
	}
	return "other"
}

func requestID(c echo.Context) string { return c.Response().Header().Get(requestIDHeader) }

// printable tells whether a text is 1–max printable ASCII characters.
func printable(text string, limit int) bool {
	return text != "" && len(text) <= limit &&
		!strings.ContainsFunc(text, func(r rune) bool { return r < 0x21 || r > 0x7e })
}
