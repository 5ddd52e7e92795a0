package api

import (
	"net"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/store"
)

// Limits are how many signups an hour are taken; zero: any number.
type Limits struct {
	Address int // from one address (IPv6: from one /64)
	Email   int // for one e-mail
	All     int // in all
}

// DefaultLimits suit a public form.
var DefaultLimits = Limits{Address: 20, Email: 5, All: 500}

// addresses finds the caller's address: the peer's, or what proxies that are
// trusted by name say (the last address in X-Forwarded-For that is none of them).
func addresses(proxies []*net.IPNet) echo.IPExtractor {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, network := range proxies {
		trust = append(trust, echo.TrustIPRange(network))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}

// charges are the limits that a signup counts against. A caller with a token is a
// server of somebody we know: only the address of its own user counts, if it
// passes one in X-Forwarded-For.
func (s *Server) charges(c echo.Context, email string, known bool) []store.Limit {
	address := c.RealIP()
	if known {
		address, _, _ = strings.Cut(c.Request().Header.Get(echo.HeaderXForwardedFor), ",")
	}
	var out []store.Limit
	add := func(kind, text string, limit int) {
		if limit > 0 && text != "" {
			out = append(out, store.Limit{Bucket: kind + ":" + s.Keys.Bucket(text), Max: limit})
		}
	}
	add("address", network(address), s.Limits.Address)
	add("email", strings.ToLower(email), s.Limits.Email)
	add("all", "all", s.Limits.All)
	return out
}

// network is what of an address tells one caller from another: all of an IPv4
// address, and of an IPv6 address the /64 that one customer gets. Empty: none.
func network(address string) string {
	ip, err := netip.ParseAddr(strings.TrimSpace(address))
	if err != nil {
		return ""
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ""
	}
	return prefix.String()
}
