package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Scope is what a token may do.
type Scope string

// The scopes; operate may do what read may.
const (
	ScopeSignup  Scope = "signup"
	ScopeRead    Scope = "read"
	ScopeOperate Scope = "operate"
)

// Tokens are the API's tokens, as digests. The zero value has none.
type Tokens struct{ list []token }

type token struct {
	name   string
	scope  Scope
	digest [sha256.Size]byte
}

// ParseTokens reads "name:scope:token,…". Names must be unique, since they become the
// actors of jobs. An empty text gives no tokens.
func ParseTokens(text nexus.Secret) (*Tokens, error) {
	t := &Tokens{}
	if text == "" {
		return t, nil
	}
	for i, part := range strings.Split(text.Reveal(), ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(part), ":")
		scope, value, ok := strings.Cut(rest, ":")
		switch {
		case !ok || name == "":
			return nil, fmt.Errorf("token %d is not of the form name:scope:token", i+1)
		case !slices.Contains([]Scope{ScopeSignup, ScopeRead, ScopeOperate}, Scope(scope)):
			return nil, fmt.Errorf("token %d: its scope, the second part, is none of signup, read, operate", i+1)
		case len(value) < 16:
			return nil, fmt.Errorf("token %d is too short: 16 characters or more (such as: openssl rand -hex 24)", i+1)
		case slices.ContainsFunc(t.list, func(o token) bool { return o.name == name }):
			return nil, fmt.Errorf("two tokens are named %q", name)
		}
		t.list = append(t.list, token{name: name, scope: Scope(scope), digest: sha256.Sum256([]byte(value))})
	}
	return t, nil
}

// find returns the token with this value. It compares all tokens in constant time.
func (t *Tokens) find(value nexus.Secret) (found token, ok bool) {
	digest := sha256.Sum256([]byte(value))
	for _, each := range t.list {
		if subtle.ConstantTimeCompare(each.digest[:], digest[:]) == 1 {
			found, ok = each, true
		}
	}
	return found, ok
}

func bearer(c echo.Context) nexus.Secret {
	scheme, value, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return nexus.Secret(strings.TrimSpace(value))
}

// need returns the name of the request's token, which must have one of the scopes or
// operate. Unauthenticated: there is no known token. Forbidden: it has another scope.
func (s *Server) need(c echo.Context, scopes ...Scope) (actor string, err error) {
	value := bearer(c)
	t, ok := s.Tokens.find(value)
	switch {
	case value == "":
		return "", &nexus.Error{Code: nexus.Unauthenticated, Op: "api.auth", Msg: "Send a token as: Authorization: Bearer <token>."}
	case !ok:
		return "", &nexus.Error{Code: nexus.Unauthenticated, Op: "api.auth", Msg: "This token is not known; check it, or ask the operator for one."}
	case !slices.Contains(scopes, t.scope) && t.scope != ScopeOperate:
		return "", &nexus.Error{Code: nexus.Forbidden, Op: "api.auth",
			Msg: fmt.Sprintf("The token %s has the scope %s; this call needs %s.", t.name, t.scope, scopes[0])}
	}
	return t.name, nil
}
