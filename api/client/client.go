package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Client asks one server. Safe for concurrent use.
type Client struct {
	base  string
	token nexus.Secret
	http  *http.Client
	limit time.Duration // of a call
	pause time.Duration // after a wait that was answered at once, though nothing changed
}

// New makes a client of the server at base; an empty token sends none.
func New(base string, token nexus.Secret) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), token: token, pause: time.Second, limit: callLimit, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext}}}
}

// callLimit is the time of a whole call, beside what it asks the server to wait: a
// server that takes the call and says nothing must not hold its caller for ever.
const callLimit = 30 * time.Second

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Signup asks for a site; the key makes a repeated call safe.
func (c *Client) Signup(ctx context.Context, body gen.SignupRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/signup", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Create asks for a site as an operator, who may give any plan. The subdomain is needed.
func (c *Client) Create(ctx context.Context, body gen.SignupRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Subdomain asks whether an address is free; it also tells the full name of a
// site whose first part is known.
func (c *Client) Subdomain(ctx context.Context, name string) (out gen.Subdomain, err error) {
	err = c.do(ctx, call{method: "GET", path: "/subdomains/" + url.PathEscape(name)}, &out)
	return out, err
}

// Job reads a job. Known is the ETag of what the caller has ("" for nothing);
// with wait the server answers at the next change, or at the end of the job if
// nothing is known. An unchanged job comes back as ok false. An answer without
// a change that comes at once is held back a second: whatever stands between, a
// caller's loop must not become a hot one.
func (c *Client) Job(ctx context.Context, id, known string, wait time.Duration) (job gen.Job, etag string, ok bool, err error) {
	path := "/jobs/" + url.PathEscape(id)
	if wait > 0 {
		path += "?wait=" + wait.String()
	}
	started := time.Now()
	response := call{method: "GET", path: path, match: known, etag: &etag, wait: wait}
	err = c.do(ctx, response, &job)
	same := errors.Is(err, errNotModified)
	if same {
		etag, err = known, nil
	}
	if (same || err == nil && etag == known) && wait > 0 && time.Since(started) < min(wait, c.pause) {
		rest := time.NewTimer(c.pause)
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-ctx.Done():
			return job, etag, false, ctx.Err()
		}
	}
	return job, etag, err == nil && !same, err
}

// Credentials picks the key and secret up; bind makes a repeated call safe.
func (c *Client) Credentials(ctx context.Context, id string, claim nexus.Secret, bind string) (out gen.Credentials, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/credentials", body: struct{}{}, key: bind, token: claim}, &out)
	return out, err
}

// Cancel asks for a job's end, with its claim token or an operator's.
func (c *Client) Cancel(ctx context.Context, id string, token nexus.Secret) (out gen.Job, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/cancel", token: token}, &out)
	return out, err
}

// Resume sets a parked job going again.
func (c *Client) Resume(ctx context.Context, id string) (out gen.Job, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/resume", token: c.token}, &out)
	return out, err
}

// Delete suspends a tenant until its grace is over, or with now removes it at
// once; the answer is the job that does it.
func (c *Client) Delete(ctx context.Context, site string, now bool) (out gen.Job, err error) {
	path := "/tenants/" + url.PathEscape(site)
	if now {
		path += "?purge=now"
	}
	err = c.do(ctx, call{method: "DELETE", path: path, token: c.token}, &out)
	return out, err
}

// Restore opens a suspended tenant's site again.
func (c *Client) Restore(ctx context.Context, site string) (out gen.Job, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants/" + url.PathEscape(site) + "/restore", token: c.token}, &out)
	return out, err
}

// RotateKey gives a tenant's admin a fresh key; the credentials are then fetched
// as after a signup. The key makes a repeated call safe.
func (c *Client) RotateKey(ctx context.Context, site, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants/" + url.PathEscape(site) + "/keys", key: key, token: c.token}, &out)
	return out, err
}

// Adopt takes over a site that was made by other means.
func (c *Client) Adopt(ctx context.Context, site string, body gen.AdoptRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants/" + url.PathEscape(site) + "/adopt", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Jobs lists jobs, newest first; empty filters mean any, no size the server's own.
func (c *Client) Jobs(ctx context.Context, state, kind, cursor string, size int) (out gen.JobList, err error) {
	query := url.Values{"state": {state}, "kind": {kind}, "cursor": {cursor}, "limit": {number(size)}}
	err = c.do(ctx, call{method: "GET", path: "/jobs" + filters(query), token: c.token}, &out)
	return out, err
}

// Tenants lists tenants by name; an empty state means any, no size the server's own.
func (c *Client) Tenants(ctx context.Context, state, cursor string, size int) (out gen.TenantList, err error) {
	query := url.Values{"state": {state}, "cursor": {cursor}, "limit": {number(size)}}
	err = c.do(ctx, call{method: "GET", path: "/tenants" + filters(query), token: c.token}, &out)
	return out, err
}

// Benches tells how admission to each bench stands.
func (c *Client) Benches(ctx context.Context) (out gen.BenchList, err error) {
	err = c.do(ctx, call{method: "GET", path: "/benches", token: c.token}, &out)
	return out, err
}

// SetBench tells a bench to pause, drain or resume.
func (c *Client) SetBench(ctx context.Context, name, verb string) (out gen.Bench, err error) {
	err = c.do(ctx, call{method: "POST", path: "/benches/" + url.PathEscape(name) + "/" + verb, token: c.token}, &out)
	return out, err
}

// Workers tells how many workers take jobs; known is false if this server does not
// tell, or does not answer.
func (c *Client) Workers(ctx context.Context) (count int, known bool) {
	var health gen.Health
	if err := c.do(ctx, call{method: "GET", path: "/readyz", also: http.StatusServiceUnavailable}, &health); err != nil || health.Workers == nil {
		return 0, false
	}
	return *health.Workers, true
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// filters is the query of a list, without what is empty.
func filters(query url.Values) string {
	for name, values := range query {
		if values[0] == "" {
			query.Del(name)
		}
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// Tenant reads a tenant's row.
func (c *Client) Tenant(ctx context.Context, site string) (out gen.Tenant, err error) {
	err = c.do(ctx, call{method: "GET", path: "/tenants/" + url.PathEscape(site), token: c.token}, &out)
	return out, err
}

// Refusal is what an answer tells beside its code and its words; it is in the
// chain of every error that a server answered with, and of no other.
type Refusal struct {
	Status    string // such as "409 Conflict"
	RequestID string // names the call in the server's log
	JobID     string // the job it is about, if any
}

// Error is the operator's text.
func (r *Refusal) Error() string { return r.Status + ", request " + r.RequestID }

type call struct {
	method, path, key, match string
	body                     any
	token                    nexus.Secret
	etag                     *string
	wait                     time.Duration // that the server was asked for
	also                     int           // a status that is an answer too
}

var errNotModified = errors.New("not modified")

func (c *Client) do(ctx context.Context, what call, into any) error {
	var body io.Reader
	if what.body != nil {
		text, err := json.Marshal(what.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit+what.wait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, what.method, c.base+what.path, body)
	if err != nil {
		return &nexus.Error{Code: nexus.Invalid, Op: "client", Msg: "The server's address is not a URL."} // the cause repeats it, and it may hold a password
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range map[string]string{"Idempotency-Key": what.key, "If-None-Match": what.match} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	if what.token != "" {
		request.Header.Set("Authorization", "Bearer "+what.token.Reveal())
	}
	response, err := c.http.Do(request)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok { // it repeats the address
			err = u.Err
		}
		return &nexus.Error{Code: nexus.Unavailable, Op: "client", Err: err,
			Msg: fmt.Sprintf("There is no answer from %s; is the server running? (nexus dev starts one)", c.shown())}
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	return read(response, what, into)
}

// shown is the server's address without user, password and query.
func (c *Client) shown() string {
	u, err := url.Parse(c.base)
	if err != nil {
		return "the server"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func read(response *http.Response, what call, into any) error {
	if response.StatusCode == http.StatusNotModified {
		return errNotModified
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return &nexus.Error{Code: nexus.Unavailable, Op: "client", Msg: "The answer broke off; ask again.", Err: err}
	}
	if response.StatusCode < 300 || response.StatusCode == what.also {
		if what.etag != nil {
			*what.etag = response.Header.Get("ETag")
		}
		if err := json.Unmarshal(text, into); err != nil {
			return &nexus.Error{Code: nexus.Internal, Op: "client", Msg: "The server's answer is not understood; is it a Nexus API?", Err: err}
		}
		return nil
	}
	var p gen.Problem
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return &nexus.Error{Code: nexus.Unavailable, Op: "client", Err: errors.New(response.Status),
			Msg: "The server's answer is not understood; is it a Nexus API?"}
	}
	refusal := &Refusal{Status: response.Status, RequestID: p.RequestId}
	if p.JobId != nil {
		refusal.JobID = *p.JobId
	}
	e := &nexus.Error{Code: nexus.Code(p.Code), Op: "client", Err: refusal}
	if p.Detail != nil {
		e.Msg = *p.Detail
	}
	if p.Suggestion != nil {
		e.Suggestion = *p.Suggestion
	}
	if p.RetryAfter != nil {
		e.RetryAfter = time.Duration(*p.RetryAfter) * time.Second
	}
	if p.Errors != nil {
		for _, f := range *p.Errors {
			e.Fields = append(e.Fields, nexus.FieldError{Field: f.Field, Message: f.Message})
		}
	}
	return e
}
