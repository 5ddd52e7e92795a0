package api

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

const requestIDHeader = "X-Request-Id"

// observe gives every request an id, logs one line and counts it. It never logs the query
// or the body.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		started, r := time.Now(), c.Request()
		id := r.Header.Get(requestIDHeader)
		if !printable(id, 64) {
			id = strings.ToLower(rand.Text())
		}
		c.Response().Header().Set(requestIDHeader, id)
		about := &subject{}
		ctx := context.WithValue(r.Context(), subjectKey{}, about)
		c.SetRequest(r.WithContext(nexus.WithLog(ctx, slog.String(nexus.LogRequest, id))))
		if err := next(c); err != nil {
			c.Error(err)
		}
		route, took := c.Path(), time.Since(started)
		if route == "" || route == "/*" {
			route = "none"
		}
		status := c.Response().Status
		s.requests.WithLabelValues(route, method(r.Method), strconv.Itoa(status)).Observe(took.Seconds())
		if status >= http.StatusInternalServerError && route != "/readyz" { // its 503 is not an error
			s.errors.Inc()
		}
		level := slog.LevelInfo
		if r.Method == http.MethodGet && status < http.StatusBadRequest { // there are too many polls
			level = slog.LevelDebug
		}
		if s.Log.Enabled(c.Request().Context(), level) {
			attrs := append(about.attrs(c), slog.String("method", r.Method), slog.String("route", route),
				slog.Int("status", status), slog.Int64(nexus.LogDur, took.Milliseconds()))
			s.Log.LogAttrs(c.Request().Context(), level, "request done", attrs...)
		}
		return nil
	}
}

// subject is the job that a request recorded, for its log line.
type (
	subject struct {
		job  nexus.JobID
		site nexus.SiteName
	}
	subjectKey struct{}
)

// record submits a job. The job keeps the request's id, for the workers' log, and the
// request's log line gets the job's id.
func (s *Server) record(ctx context.Context, sub store.Submission) (nexus.Job, error) {
	sub.TraceParent = nexus.LogText(ctx, nexus.LogRequest)
	job, _, err := s.Store.Submit(ctx, sub)
	if about, ok := ctx.Value(subjectKey{}).(*subject); ok && err == nil {
		about.job, about.site = job.ID, job.Site
	}
	return job, err
}

// attrs are the ids of job and site for the log: those that were recorded, else those in
// the path if they are valid. Other text of a caller is not logged.
func (about *subject) attrs(c echo.Context) (out []slog.Attr) {
	job, site := about.job, string(about.site)
	if id := nexus.JobID(c.Param("id")); job == "" && id.Valid() {
		job = id
	}
	if name := c.Param("site"); site == "" && siteName.MatchString(name) {
		site = name
	}
	if job != "" {
		out = append(out, slog.String(nexus.LogJob, string(job)))
	}
	if site != "" {
		out = append(out, slog.String(nexus.LogTenant, site))
	}
	return out
}

var siteName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,252}$`)

// method is the label of a method. An unknown one must not make a new series.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return name
	}
	return "other"
}

func requestID(c echo.Context) string { return c.Response().Header().Get(requestIDHeader) }

// printable reports whether a text is of 1 to limit printable ASCII characters.
func printable(text string, limit int) bool {
	return text != "" && len(text) <= limit &&
		!strings.ContainsFunc(text, func(r rune) bool { return r < 0x21 || r > 0x7e })
}
