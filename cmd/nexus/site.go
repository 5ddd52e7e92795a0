package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// site calls a tenant's site, as the tenant's own programs do.
type site struct {
	base   string // URL
	host   string // for the Host header; empty: the host of the URL
	pair   string // "key:secret"
	client *http.Client
}

// newSite calls a site at its own address, or at a host:port (NEXUS_VERIFY_ADDR) with the
// site's name in the Host header.
func newSite(a answer, addr string) *site {
	s := &site{base: strings.TrimSuffix(a.URL, "/"), pair: a.APIKey + ":" + a.APISecret}
	if addr != "" {
		s.base, s.host = "http://"+addr, a.Site
	}
	s.client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DialContext: dialLocalhost, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // a redirect to the login page is an error
	return s
}

// dialLocalhost reaches *.localhost on this machine, as browsers do (RFC 6761
// §6.3) and most resolvers do not.
func dialLocalhost(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
}

func (s *site) close() { s.client.CloseIdleConnections() }

// check is one line of a checklist. Run returns nil if it passes.
type check struct {
	what string
	run  func(context.Context) error
}

// checks test what a key must allow, and what must be refused.
func (s *site) checks(email string) []check {
	return []check{
		{"the site answers a ping", func(ctx context.Context) error {
			text, err := s.message(ctx, "/api/method/ping", "")
			return differs(err, text, "pong")
		}},
		{"the key is that of " + email, func(ctx context.Context) error {
			text, err := s.message(ctx, "/api/method/frappe.auth.get_logged_user", s.pair)
			return differs(err, strings.ToLower(text), strings.ToLower(email))
		}},
		{"the key reads a list", func(ctx context.Context) error {
			var list struct{ Data []json.RawMessage }
			if err := s.get(ctx, "/api/resource/User?limit_page_length=1", s.pair, &list); err != nil {
				return err
			}
			if len(list.Data) == 0 {
				return fmt.Errorf("the list of users is empty")
			}
			return nil
		}},
		{"a wrong secret is refused", func(ctx context.Context) error {
			key, _, _ := strings.Cut(s.pair, ":")
			status, _, err := s.call(ctx, "/api/method/frappe.auth.get_logged_user", key+":"+strings.Repeat("0", 64))
			if err == nil && status != http.StatusUnauthorized && status != http.StatusForbidden {
				err = fmt.Errorf("it was answered with status %d", status)
			}
			return err
		}},
	}
}

func differs(err error, got, want string) error {
	if err == nil && got != want {
		err = fmt.Errorf("the answer is %q, not %q", got, want)
	}
	return err
}

func (s *site) message(ctx context.Context, path, pair string) (string, error) {
	var body struct{ Message string }
	err := s.get(ctx, path, pair, &body)
	return body.Message, err
}

func (s *site) get(ctx context.Context, path, pair string, into any) error {
	status, body, err := s.call(ctx, path, pair)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s%s was answered with status %d", s.base, path, status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s%s was not answered in JSON", s.base, path)
	}
	return nil
}

func (s *site) call(ctx context.Context, path, pair string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Host = s.host
	request.Header.Set("Accept", "application/json")
	if pair != "" {
		request.Header.Set("Authorization", "token "+pair)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, body, err
}
