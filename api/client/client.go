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
	limit time.Duration // of one call
	pause time.Duration // after a wait that was answered at once although nothing has changed
}

// New makes a client of the server at base; an empty token sends none.
func New(base string, token nexus.Secret) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), token: token, pause: time.Second, limit: callLimit, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext}}}
}

// callLimit is the longest time of a call, in addition to the wait that it asks for. A
// server that accepts a call and never answers must not block the caller.
const callLimit = 30 * time.Second

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Signup signs up for a site. The call can be repeated with the same idempotency key.
func (c *Client) Signup(ctx context.Context, body gen.SignupRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/signup", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Create makes a site as an operator, who may give any plan and ask for a road.
func (c *Client) Create(ctx context.Context, body gen.TenantRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Subdomain asks whether an address is free. The answer has the full name of the site too.
func (c *Client) Subdomain(ctx context.Context, name string) (out gen.Subdomain, err error) {
	err = c.do(ctx, call{method: "GET", path: "/subdomains/" + url.PathEscape(name)}, &out)
	return out, err
}

// Job reads a job. It needs no token; an operator's token shows more. Known is the ETag of
// what the caller has, or empty. With wait the server answers at the next change; if known
// is empty, at the end of the job. Ok is false if the job has not changed. If such an answer
// comes at once, Job waits a second, so that a caller's loop is not a busy one, whatever a
// proxy does.
func (c *Client) Job(ctx context.Context, id, known string, wait time.Duration) (job gen.Job, etag string, ok bool, err error) {
	path := "/jobs/" + url.PathEscape(id)
	if wait > 0 {
		path += "?wait=" + wait.String()
	}
	started := time.Now()
	response := call{method: "GET", path: path, match: known, etag: &etag, wait: wait, token: c.token}
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

// Credentials picks up the key and secret. The call can be repeated with the same bind.
func (c *Client) Credentials(ctx context.Context, id string, claim nexus.Secret, bind string) (out gen.Credentials, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/credentials", body: struct{}{}, key: bind, token: claim}, &out)
	return out, err
}

// Cancel cancels a job, with its claim token or a token of an operator.
func (c *Client) Cancel(ctx context.Context, id string, token nexus.Secret) (out gen.Job, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/cancel", token: token}, &out)
	return out, err
}

// Resume continues a parked job.
func (c *Client) Resume(ctx context.Context, id string) (out gen.Job, err error) {
	err = c.do(ctx, call{method: "POST", path: "/jobs/" + url.PathEscape(id) + "/resume", token: c.token}, &out)
	return out, err
}

// Delete suspends a tenant, which is removed after the grace period; with now it is removed
// at once. It returns the job.
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

// RotateKey gives a tenant's admin a new key. The credentials are picked up as after a
// signup. The call can be repeated with the same idempotency key.
func (c *Client) RotateKey(ctx context.Context, site, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants/" + url.PathEscape(site) + "/keys", key: key, token: c.token}, &out)
	return out, err
}

// Adopt makes a tenant of a site that Nexus did not make.
func (c *Client) Adopt(ctx context.Context, site string, body gen.AdoptRequest, key string) (out gen.Accepted, err error) {
	err = c.do(ctx, call{method: "POST", path: "/tenants/" + url.PathEscape(site) + "/adopt", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Jobs lists jobs, newest first. An empty filter matches all; size 0 is the server's
// default.
func (c *Client) Jobs(ctx context.Context, state, kind, cursor string, size int) (out gen.JobList, err error) {
	query := url.Values{"state": {state}, "kind": {kind}, "cursor": {cursor}, "limit": {number(size)}}
	err = c.do(ctx, call{method: "GET", path: "/jobs" + filters(query), token: c.token}, &out)
	return out, err
}

// Tenants lists tenants by name. An empty state matches all; size 0 is the server's
// default.
func (c *Client) Tenants(ctx context.Context, state, cursor string, size int) (out gen.TenantList, err error) {
	query := url.Values{"state": {state}, "cursor": {cursor}, "limit": {number(size)}}
	err = c.do(ctx, call{method: "GET", path: "/tenants" + filters(query), token: c.token}, &out)
	return out, err
}

// Benches lists the benches.
func (c *Client) Benches(ctx context.Context) (out gen.BenchList, err error) {
	err = c.do(ctx, call{method: "GET", path: "/benches", token: c.token}, &out)
	return out, err
}

// SetBench pauses, drains or resumes a bench.
func (c *Client) SetBench(ctx context.Context, name, verb string) (out gen.Bench, err error) {
	err = c.do(ctx, call{method: "POST", path: "/benches/" + url.PathEscape(name) + "/" + verb, token: c.token}, &out)
	return out, err
}

// SetPool fills or drains the shelves of a bench.
func (c *Client) SetPool(ctx context.Context, bench, verb string, request gen.PoolRequest) (out gen.Bench, err error) {
	err = c.do(ctx, call{method: "POST", path: "/benches/" + url.PathEscape(bench) + "/pool/" + verb, body: request, token: c.token}, &out)
	return out, err
}

// Templates lists the templates that new sites are copied from, newest first.
func (c *Client) Templates(ctx context.Context) (out gen.TemplateList, err error) {
	err = c.do(ctx, call{method: "GET", path: "/templates", token: c.token}, &out)
	return out, err
}

// BuildTemplate records a job that builds a template on a bench; an empty template is the
// server's default, an empty bench the only one. The call can be repeated with the same
// idempotency key.
func (c *Client) BuildTemplate(ctx context.Context, template, bench, key string) (out gen.Job, err error) {
	body := gen.TemplateRequest{}
	if template != "" {
		body.Template = &template
	}
	if bench != "" {
		body.Bench = &bench
	}
	err = c.do(ctx, call{method: "POST", path: "/templates", body: body, key: key, token: c.token}, &out)
	return out, err
}

// Workers counts the workers that take jobs. Known is false if the server does not answer,
// or its answer has no count.
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

// filters is the query of a list, without empty parameters.
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

// Tenant reads a tenant.
func (c *Client) Tenant(ctx context.Context, site string) (out gen.Tenant, err error) {
	err = c.do(ctx, call{method: "GET", path: "/tenants/" + url.PathEscape(site), token: c.token}, &out)
	return out, err
}

// Refusal has the details of a server's answer. Every error that a server has answered
// with, and no other, wraps one.
type Refusal struct {
	Status    string // such as "409 Conflict"
	RequestID string // names the call in the server's log
	JobID     string // the job it is about, if any
}

// Error returns the text for operators.
func (r *Refusal) Error() string { return r.Status + ", request " + r.RequestID }

type call struct {
	method, path, key, match string
	body                     any
	token                    nexus.Secret
	etag                     *string
	wait                     time.Duration // how long the server may wait
	also                     int           // a status of 300 or more that has a result
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
		return &nexus.Error{Code: nexus.Invalid, Op: "client", Msg: "The server's address is not a URL."} // without the cause, which contains the address and perhaps a password
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
		if u, ok := errors.AsType[*url.Error](err); ok { // it contains the address
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
