package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// Limits are the most signups in an hour; zero: no limit.
type Limits struct {
	Address int // from one address (IPv6: from one /64)
	Email   int // for one e-mail
	All     int // in all
}

// DefaultLimits are the limits of a public form.
var DefaultLimits = Limits{Address: 20, Email: 5, All: 500}

// addresses extracts the caller's address: the peer's, or, if that is a trusted proxy, the
// last address in X-Forwarded-For that is not one.
func addresses(proxies []*net.IPNet) echo.IPExtractor {
	return func(r *http.Request) string {
		caller, _ := forwarded(r, proxies)
		return caller
	}
}

// forwarded reads X-Forwarded-For from its end, as long as trusted proxies have written it.
// It returns the caller, and the addresses before it, which the caller has written.
func forwarded(r *http.Request, proxies []*net.IPNet) (caller string, before []string) {
	caller = hop(r.RemoteAddr)
	for part := range strings.SplitSeq(strings.Join(r.Header.Values(echo.HeaderXForwardedFor), ","), ",") {
		before = append(before, hop(part))
	}
	trusted := func(ip net.IP) bool {
		return slices.ContainsFunc(proxies, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	for len(before) > 0 && trusted(net.ParseIP(caller)) {
		last := before[len(before)-1]
		if last == "" { // not an address: the proxy counts as the caller
			break
		}
		caller, before = last, before[:len(before)-1]
	}
	return caller, slices.DeleteFunc(before, func(text string) bool { return text == "" })
}

// hop parses one address of X-Forwarded-For, with or without a port, an IPv6 address with
// or without brackets. Empty: it is not an address.
func hop(text string) string {
	text = strings.Trim(strings.TrimSpace(text), `"`)
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().String()
	}
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return ip.Unmap().String()
	}
	return ""
}

// charges returns the limits that a signup is charged to. A caller with a token is a known
// server, whose address all its users share, so it is not charged. If the server sends its
// user's address in X-Forwarded-For, that is charged, for this server alone.
func (s *Server) charges(c echo.Context, email string, who asker) []store.Limit {
	address := network(c.RealIP())
	if who.known {
		address = ""
		if _, users := forwarded(c.Request(), s.Proxies); len(users) > 0 {
			address = who.actor + " " + network(users[0])
		}
	}
	var out []store.Limit
	add := func(kind, text string, limit int) {
		if limit > 0 && text != "" {
			out = append(out, store.Limit{Bucket: kind + ":" + s.Keys.Bucket(text), Max: limit})
		}
	}
	add("address", address, s.Limits.Address)
	add("email", strings.ToLower(email), s.Limits.Email)
	add("all", "all", s.Limits.All)
	return out
}

// announceLimits sets the headers with the limits, and after a refusal with the limit that
// was reached (draft-ietf-httpapi-ratelimit-headers).
func (s *Server) announceLimits(h http.Header, refused error) {
	var policy []string
	for _, l := range []struct {
		name  string
		limit int
	}{{"address", s.Limits.Address}, {"email", s.Limits.Email}, {"all", s.Limits.All}} {
		if l.limit > 0 {
			policy = append(policy, fmt.Sprintf(`"%s";q=%d;w=3600`, l.name, l.limit))
		}
	}
	if len(policy) > 0 {
		h.Set("RateLimit-Policy", strings.Join(policy, ", "))
	}
	if e, ok := errors.AsType[*nexus.Error](refused); ok && errors.Is(refused, store.ErrLimited) {
		h.Set("RateLimit", fmt.Sprintf(`"%s";r=0;t=%d`, e.Limit, int((e.RetryAfter+time.Second-1)/time.Second)))
	}
}

// network returns the part of an address that identifies a caller: a whole IPv4 address,
// or the /64 of an IPv6 address, which one customer gets. Empty: it is not an address.
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
