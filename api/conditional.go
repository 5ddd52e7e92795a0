package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// etag makes a strong tag of a text.
func etag(text string) string { return `"` + text + `"` }

// hasTag reports whether an If-None-Match matches a tag: in a list, as *, and by the weak
// comparison, since a proxy that compresses makes tags weak (RFC 9110 §13.1.2).
func hasTag(match, tag string) bool {
	opaque := func(text string) string { return strings.TrimPrefix(strings.TrimSpace(text), "W/") }
	for each := range strings.SplitSeq(match, ",") { // this server's tags have no comma
		if each = opaque(each); each == "*" || each != "" && each == opaque(tag) {
			return true
		}
	}
	return false
}

// joined joins the lines of a header that may come in several (RFC 9110 §5.3).
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

// compressed compresses large answers: lists, the contract and the page. It does not
// compress answers with secrets, nor streams, which must be sent at once.
func compressed() echo.MiddlewareFunc {
	big := []string{"/jobs", "/tenants", "/benches", "/templates", "/openapi.yaml", "/choices", "/", "/ui/*"}
	return middleware.GzipWithConfig(middleware.GzipConfig{MinLength: 1400, Skipper: func(c echo.Context) bool {
		return c.Request().Method != http.MethodGet || !slices.Contains(big, c.Path()) || !takesGzip(c.Request().Header.Get("Accept-Encoding"))
	}})
}

// takesGzip reports whether an Accept-Encoding accepts gzip; "gzip;q=0" does not.
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
