package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// verifier checks sites over HTTP at the bench's internal address, as a client would;
// the Host header names the site.
type verifier struct {
	addr   string
	client *http.Client
}

func newVerifier(addr string) *verifier {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
		ResponseHeaderTimeout: 15 * time.Second, DialContext: dial}
	return &verifier{addr: addr, client: &http.Client{Transport: transport,
		// A redirect is an answer: a login page, or a proxy that is not ours.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// dial connects to this machine for *.localhost, as browsers do (RFC 6761 §6.3) and most
// resolvers do not.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
}

// close closes idle connections.
func (v *verifier) close() { v.client.CloseIdleConnections() }

// run checks whose key this is on the site, and that it can read a list.
func (v *verifier) run(ctx context.Context, site nexus.SiteName, args nexus.Verify) (nexus.Result, error) {
	docType := args.DocType
	if docType == "" {
		docType = "User"
	}
	token := "token " + args.Key.Reveal() + ":" + args.Secret.Reveal()
	err := together(func() error {
		var who struct{ Message string }
		if err := v.ask(ctx, site, "/api/method/frappe.auth.get_logged_user", token, &who); err != nil {
			return err
		}
		if !strings.EqualFold(who.Message, args.Email) {
			return wrong("the key belongs to %q", who.Message)
		}
		return nil
	}, func() error {
		var list struct{ Data []json.RawMessage }
		if err := v.ask(ctx, site, "/api/resource/"+url.PathEscape(docType)+"?limit_page_length=1", token, &list); err != nil {
			return err
		}
		if list.Data == nil {
			return wrong("the list of %s has no data", docType)
		}
		return nil
	})
	if err != nil {
		return nexus.Result{}, err
	}
	if v.same(site, args.PublicURL) {
		return nexus.Result{}, nil
	}
	return nexus.Result{Note: v.public(ctx, args.PublicURL)}, nil
}

// together makes two calls at once, since the first requests of a new site take long. If one
// has failed it is made once more, alone: two first requests of a user both note when it was
// seen, and MariaDB may refuse one of them (1020).
func together(first, second func() error) error {
	var err, other error
	var both sync.WaitGroup
	both.Go(func() { err = first() })
	both.Go(func() { other = second() })
	both.Wait()
	switch {
	case err != nil && other != nil:
		return err
	case err != nil:
		return first()
	case other != nil:
		return second()
	}
	return nil
}

// Answers checks the address at which workers check new sites: an open site must answer
// there; without one, any HTTP answer will do. The error is a message for users.
func Answers(ctx context.Context, addr string, site nexus.SiteName) error {
	v := newVerifier(addr)
	defer v.close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	host := site
	if host == "" {
		host = "no-such-site.invalid"
	}
	var pong struct{ Message string }
	status, err := v.get(ctx, host, "/api/method/ping", "", &pong)
	switch {
	case status == 0:
		return fmt.Errorf("nothing answers at %s (%s)", addr, reason(err))
	case site == "" && status < http.StatusInternalServerError:
		return nil
	case err != nil:
		return fmt.Errorf("%s answers, but not as the site %s does (%w)", addr, host, err)
	case site != "" && pong.Message != "pong":
		return fmt.Errorf("%s answers, but not as the site %s does (its ping was answered with %q)", addr, host, pong.Message)
	}
	return nil
}

// same reports whether a public address is the internal one that was just checked:
// below localhost, on the bench's port.
func (v *verifier) same(site nexus.SiteName, base string) bool {
	host, port, err := net.SplitHostPort(v.addr)
	return err == nil && host == "127.0.0.1" && strings.HasSuffix(string(site), ".localhost") && base == "http://"+net.JoinHostPort(string(site), port)
}

// ask does one request. An answer that an outage explains is unavailable, any other
// than the expected one is internal.
func (v *verifier) ask(ctx context.Context, site nexus.SiteName, path, token string, into any) error {
	status, err := v.get(ctx, site, path, token, into)
	switch {
	case err == nil:
		return nil
	case status == 0 || status >= 500 || status == http.StatusNotFound || status == http.StatusTooManyRequests:
		// A bench answers 404 if it does not know the host (yet).
		return away(ctx, err)
	}
	return wrong("%w", err)
}

// get does one request. The status is 0 unless the whole answer was read; anything but a
// 200 with JSON is an error.
func (v *verifier) get(ctx context.Context, site nexus.SiteName, path, token string, into any) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.addr+path, nil)
	if err != nil {
		return http.StatusBadRequest, fmt.Errorf("the address %q cannot be asked: %w", v.addr, err)
	}
	request.Host = string(site)
	request.Header.Set("Accept", "application/json")
	if token != "" {
		request.Header.Set("Authorization", token)
	}
	response, err := v.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, fmt.Errorf("%s was answered with status %d", path, response.StatusCode)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return response.StatusCode, fmt.Errorf("%s was not answered in JSON: %w", path, err)
	}
	return response.StatusCode, nil
}

// public checks whether the site answers at its public address too. It yields a note,
// never an error, since DNS and proxies are not part of the bench.
func (v *verifier) public(ctx context.Context, base string) string {
	if base == "" {
		return ""
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(short, http.MethodGet, strings.TrimSuffix(base, "/")+"/api/method/ping", nil)
	if err == nil {
		var response *http.Response
		if response, err = v.client.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return ""
			}
			err = fmt.Errorf("status %d", response.StatusCode)
		}
	}
	return fmt.Sprintf("The site works, but does not answer at %s yet (%s).", base, reason(err))
}

func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

func wrong(format string, args ...any) error {
	return &nexus.Error{Code: nexus.Internal, Op: "bench.verify", Msg: "The new site gave a wrong answer.", Err: fmt.Errorf(format, args...)}
}

func away(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), nexus.ErrStepTimeout) && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return &nexus.Error{Code: nexus.CodeCanceled, Op: "bench.verify", Msg: "The check was ended.", Err: context.Cause(ctx)}
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "bench.verify", Wait: nexus.WaitBench,
		Msg: "The new site does not answer yet; it is asked again.", Err: err}
}
