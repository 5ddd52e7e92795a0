package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// hasTag tells whether an If-None-Match names a tag: in a list, as * for any, and
// weak or strong, since a proxy that compresses makes tags weak (RFC 9110 §13.1.2).
func hasTag(match, tag string) bool {
	opaque := func(text string) string { return strings.TrimPrefix(strings.TrimSpace(text), "W/") }
	for each := range strings.SplitSeq(match, ",") { // none of ours has a comma
		if each = opaque(each); each == "*" || each != "" && each == opaque(tag) {
			return true
		}
	}
	return false
}

// joined makes one line of a header that may come in several (RFC 9110 §5.3).
func joined(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Request().Header
		for _, name := range []string{"If-None-Match", "Prefer"} {
			if lines := h.Values(name); len(lines) > 1 {
				h.Set(name, strings.Join(lines, ", "))
			}
		}
		return next(c)
	}
}

// compressed compresses what grows: lists, the contract and the page. Answers with
// a secret in them are left alone, and a stream has to leave at once.
func compressed() echo.MiddlewareFunc {
	big := []string{"/jobs", "/tenants", "/benches", "/openapi.yaml", "/choices", "/", "/ui/*"}
	return middleware.GzipWithConfig(middleware.GzipConfig{MinLength: 1400, Skipper: func(c echo.Context) bool {
		return c.Request().Method != http.MethodGet || !slices.Contains(big, c.Path()) || !takesGzip(c.Request().Header.Get("Accept-Encoding"))
	}})
}

// takesGzip reads an Accept-Encoding; "gzip;q=0" is a no.
func takesGzip(accept string) bool {
	for each := range strings.SplitSeq(accept, ",") {
		coding, weight, weighted := strings.Cut(each, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.ReplaceAll(weight, " ", ""), "q="), 64)
		return !weighted || err == nil && q > 0
	}
	return false
}
