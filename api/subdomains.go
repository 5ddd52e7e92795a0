package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gosimple/unidecode"
	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// longestWish is the longest text that is checked; an address must be much shorter.
const longestWish = 200

// Subdomain reports whether an address is free. The form asks while a person types.
func (s *Server) Subdomain(c echo.Context, name string) error {
	if utf8.RuneCountInString(name) > longestWish {
		return invalid("name", fmt.Sprintf("This is too long to be an address: %d characters at most.", longestWish))
	}
	name = nexus.Lower(strings.TrimSpace(name))
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

// free returns the first free variant of a name; empty if there is none.
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

// ascii transliterates a name of any script to ASCII, with ae for ä as in German.
func ascii(text string) string {
	text = strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "&", " and ").Replace(text)
	return unidecode.Unidecode(text)
}
