package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/ui"
)

// policy allows the page to load from and connect to this server only.
const policy = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// servePage serves the signup page at / and its files below /ui/.
func (s *Server) servePage() {
	file := func(c echo.Context) error {
		name := c.Param("*")
		if name == "" {
			name = "index.html"
		}
		body, err := fs.ReadFile(ui.Files, name)
		if err != nil {
			return echo.NewHTTPError(http.StatusNotFound)
		}
		if name == "index.html" {
			domain := s.Domain
			if s.Single { // accounts have no address of their own
				domain = ""
			}
			fill := strings.NewReplacer("{{domain}}", domain, "{{signup}}", cmp.Or(s.Options.Signup, "open"))
			body = []byte(fill.Replace(string(body)))
		}
		sum := sha256.Sum256(body)
		h := c.Response().Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")                    // cached, but revalidated
		h.Set("ETag", "W/"+etag(hex.EncodeToString(sum[:8]))) // weak: it may be compressed
		if hasTag(strings.Join(c.Request().Header.Values("If-None-Match"), ","), h.Get("ETag")) {
			return c.NoContent(http.StatusNotModified)
		}
		return c.Blob(http.StatusOK, mime.TypeByExtension(path.Ext(name)), body)
	}
	for _, path := range []string{"/", "/ui/*"} {
		withHead{s.echo}.GET(path, file)
	}
}
