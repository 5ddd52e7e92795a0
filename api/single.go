package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const reservedName = "This address is reserved; please choose another."

// protect refuses calls that would change the master site.
func (s *Server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		site, err := url.PathUnescape(c.Param("site"))
		if err != nil {
			return invalid("site", "The site's name in the address is malformed.")
		}
		site = strings.TrimSuffix(site, ".")
		reads := slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, c.Request().Method)
		if reads || s.Master == "" || !strings.EqualFold(site, string(s.Master)) {
			return next(c)
		}
		if _, err := s.need(c, ScopeOperate); err != nil {
			return err
		}
		return &nexus.Error{Code: nexus.Forbidden, Op: "api.protect",
			Msg: string(s.Master) + " is the master site; nothing here makes, changes or removes it."}
	}
}

// PersonSite is the registry's name for the user of the master site with this e-mail. It is
// the same for upper and lower case, since Frappe has one user for them. It is not the name
// of a host; operators find it in the list of tenants.
func PersonSite(email string, master nexus.SiteName) nexus.SiteName {
	sum := sha256.Sum256([]byte(strings.ToLower(email)))
	return nexus.SiteName(hex.EncodeToString(sum[:8])) + "." + master
}

// shownSite is the site to show to people: in single-tenant mode the master site for all.
// Operators see the registry's names instead, since they need them for their calls.
func (s *Server) shownSite(site nexus.SiteName) string {
	if s.Single {
		return string(s.Master)
	}
	return string(site)
}
