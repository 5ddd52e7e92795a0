package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/gosimple/unidecode"
	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Subdomain says whether an address is free; the form asks as one types.
func (s *Server) Subdomain(c echo.Context, name string) error {
	name = strings.ToLower(strings.TrimSpace(name))
	if s.Single {
		return c.JSON(http.StatusOK, gen.Subdomain{Name: name, Site: string(s.Master), Available: true,
			Reason: optional("All accounts are on " + string(s.Master) + "; an address of one's own has no effect.")})
	}
	answer := gen.Subdomain{Name: name, Site: string(s.site(name))}
	reason := nexus.RefuseSubdomain(name)
	if reason == "" && s.site(name) == s.Master {
		reason = reservedName
	}
	if reason == "" {
		free, err := s.Store.SiteFree(c.Request().Context(), s.site(name))
		if err != nil {
			return err
		}
		if answer.Available = free; !free {
			reason = "This address is taken."
		}
	}
	if !answer.Available {
		suggestion, err := s.free(c.Request().Context(), nexus.DeriveSubdomain(ascii(name)))
		if err != nil {
			return err
		}
		answer.Reason, answer.Suggestion = optional(reason), optional(suggestion)
	}
	return c.JSON(http.StatusOK, answer)
}

// free finds the first variant of a wish that nobody has; empty if there is none.
func (s *Server) free(ctx context.Context, wish string) (string, error) {
	for name := range nexus.Subdomains(wish) {
		if s.site(name) == s.Master {
			continue
		}
		free, err := s.Store.SiteFree(ctx, s.site(name))
		if free || err != nil {
			return name, err
		}
	}
	return "", nil
}

// ascii spells a name in ASCII, from any script; German umlauts the German way.
func ascii(text string) string {
	text = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "&", " and ").Replace(text)
	return unidecode.Unidecode(text)
}

const reservedName = "This address is reserved; please choose another."

// protect refuses calls that would change the master site as if it were a tenant.
func (s *Server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		site := strings.TrimSuffix(c.Param("site"), ".")
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

// PersonSite is the registry's name for the user of the master site with this
// e-mail: one name for all ways to write it, since Frappe has one user for them.
// The name is no host; operators find it in the list of tenants.
func PersonSite(email string, master nexus.SiteName) nexus.SiteName {
	sum := sha256.Sum256([]byte(strings.ToLower(email)))
	return nexus.SiteName(hex.EncodeToString(sum[:8])) + "." + master
}

// oneSite writes answers of single-tenant mode: people are shown the master site,
// where the registry has a name for each of them. Lists and tenants, which
// operators read to address one of them, keep the registry's names.
type oneSite struct {
	echo.DefaultJSONSerializer
	site string
}

// Serialize writes one answer.
func (o oneSite) Serialize(c echo.Context, answer any, indent string) error {
	switch a := answer.(type) {
	case gen.Accepted:
		a.Site, answer = o.site, a
	case gen.Credentials:
		a.Site, answer = o.site, a
	case gen.Job:
		a.Site, answer = o.site, a
	}
	return o.DefaultJSONSerializer.Serialize(c, answer, indent)
}
