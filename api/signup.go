package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// Signup records a job for a person. With Prefer: wait it waits for the end of the job.
func (s *Server) Signup(c echo.Context, params gen.SignupParams) error {
	actor, err := s.mayAsk(c)
	if err != nil {
		return err
	}
	job, err := s.ask(c, asker{actor: actor, known: actor != anonymous}, params.IdempotencyKey)
	s.announceLimits(c.Response().Header(), err)
	if err != nil {
		return err
	}
	if wait := preferred(params.Prefer); wait > 0 {
		c.Response().Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait.Seconds())))
		return s.waited(c, job, wait, value(params.IdempotencyKey))
	}
	return s.accepted(c, job)
}

// CreateTenant records a job for an operator.
func (s *Server) CreateTenant(c echo.Context, params gen.CreateTenantParams) error {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return err
	}
	job, err := s.ask(c, asker{actor: actor, known: true, operator: true}, params.IdempotencyKey)
	if err != nil {
		return err
	}
	return s.accepted(c, job)
}

// mayAsk returns the actor of a signup: the name of the token if one was sent, else
// "signup".
func (s *Server) mayAsk(c echo.Context) (actor string, err error) {
	switch {
	case s.Options.Signup == "closed":
		return "", &nexus.Error{Code: nexus.Forbidden, Reason: nexus.ReasonSignupClosed, Op: "api.signup", Msg: "Signing up is closed here; please ask the operator."}
	case s.Options.Signup == "token" || bearer(c) != "":
		return s.need(c, ScopeSignup)
	}
	return anonymous, nil
}

// anonymous is the actor of a signup without a token.
const anonymous = "signup"

// asker is who asks for a site.
type asker struct {
	actor    string
	known    bool // he has a token
	operator bool // he may give any plan, and has no limits
}

// ask validates a request and records its job. If a derived name is taken, the next variant
// is tried; a name that was asked for is refused.
func (s *Server) ask(c echo.Context, who asker, key *string) (nexus.Job, error) {
	sub, canonical, err := s.readSignup(c, who.operator)
	if err != nil {
		return nexus.Job{}, err
	}
	nexus.FaultPoint("signup: read")
	submission, err := s.submission(sub, who.actor)
	if err != nil {
		return nexus.Job{}, err
	}
	scope := who.actor
	if !who.known { // all callers without a token have the same actor
		scope = strings.ToLower(sub.Email)
	}
	if err := s.idempotent(&submission, scope, key, canonical); err != nil {
		return nexus.Job{}, err
	}
	if !who.operator {
		submission.Limits = s.charges(c, sub.Email, who)
	}
	if s.Single {
		return s.join(c.Request().Context(), submission)
	}
	if sub.Subdomain != "" {
		job, err := s.submit(c.Request().Context(), submission, sub.Subdomain)
		return job, s.suggest(c.Request().Context(), err, sub.Subdomain)
	}
	wish := nexus.DeriveSubdomain(ascii(sub.Organization))
	for name := range nexus.Subdomains(wish) {
		job, err := s.submit(c.Request().Context(), submission, name)
		if nexus.CodeOf(err) != nexus.Conflict || errors.Is(err, store.ErrKeyReused) {
			return job, err
		}
	}
	message := "All addresses that are made from this organization's name are taken; please choose one."
	return nexus.Job{}, &nexus.Error{Code: nexus.Conflict, Reason: nexus.ReasonNameTaken, Op: "api.signup", Msg: message,
		Fields: []nexus.FieldError{{Field: "subdomain", Message: message}}}
}

func (s *Server) submit(ctx context.Context, sub store.Submission, subdomain string) (nexus.Job, error) {
	sub.Site = s.site(subdomain)
	if sub.Site == s.Master {
		return nexus.Job{}, &nexus.Error{Code: nexus.Conflict, Reason: nexus.ReasonNameReserved, Op: "api.submit", Msg: reservedName}
	}
	sub.Spec.URL = s.url(sub.Site)
	return s.record(ctx, sub)
}

// join records a job for a user of the master site. Each e-mail has one name in the
// registry, so it can sign up once. The subdomain has no effect.
func (s *Server) join(ctx context.Context, sub store.Submission) (nexus.Job, error) {
	sub.Site = PersonSite(sub.Spec.Email, s.Master)
	sub.Spec.URL = s.url(s.Master)
	job, err := s.record(ctx, sub)
	e, ok := errors.AsType[*nexus.Error](err)
	if !ok || e.Code != nexus.Conflict || errors.Is(err, store.ErrKeyReused) {
		return job, err
	}
	out := *e
	out.Msg = "Somebody has signed up with this e-mail address already; sign in, or use another address."
	out.Fields = []nexus.FieldError{{Field: "email", Message: out.Msg}}
	return job, &out
}

// submission is a job's submission without the site, with sealed input.
func (s *Server) submission(sub nexus.Signup, actor string) (store.Submission, error) {
	input, err := json.Marshal(tasks.Input{Password: sub.Password.Reveal()})
	if err != nil {
		return store.Submission{}, err
	}
	id := nexus.NewJobID()
	sealed, err := s.Keys.Seal(id, nexus.PurposeInput, input)
	if err != nil {
		return store.Submission{}, err
	}
	return store.Submission{ID: id, Kind: nexus.KindProvision, Actor: actor, Steps: tasks.Steps(nexus.KindProvision),
		Input: sealed, KeyID: s.Keys.ID(), GiveUpAfter: s.Timeout,
		Spec: nexus.Spec{Email: sub.Email, FullName: sub.FullName, Organization: sub.Organization, Plan: sub.Plan,
			Country: sub.Country, Language: sub.Language, TimeZone: sub.TimeZone, Currency: sub.Currency,
			Apps: s.Apps, Roles: s.Roles, Template: sub.Template, Abbreviation: sub.Abbreviation, Road: sub.Road}}, nil
}

// idempotent adds the caller's idempotency key, if one was sent, and the fingerprint of the
// request.
func (s *Server) idempotent(sub *store.Submission, scope string, key *string, canonical []byte) error {
	if key == nil {
		return nil
	}
	if !printable(*key, 128) {
		return invalid("Idempotency-Key", "The Idempotency-Key must be 1 to 128 printable characters without spaces.")
	}
	names := s.Keys.IdempotencyNames(scope, *key)
	sub.IdempotencyKey = names[0]
	sub.FormerKeys = append(names[1:], scope+"/"+*key) // the last one as older versions stored it, in clear, for 24 h
	sub.Fingerprints = s.Keys.Fingerprints(canonical)
	return nil
}

// suggest adds a free name to the error for a name that is taken.
func (s *Server) suggest(ctx context.Context, err error, wish string) error {
	e, ok := errors.AsType[*nexus.Error](err)
	if !ok || e.Code != nexus.Conflict || errors.Is(err, store.ErrKeyReused) {
		return err
	}
	out := *e
	if name, freeErr := s.free(ctx, wish); freeErr == nil && name != "" {
		out.Suggestion = name
	}
	out.Fields = []nexus.FieldError{{Field: "subdomain", Message: e.Msg}}
	return &out
}

// readSignup reads a signup, in the spelling of the benches. Canonical is its text for the
// fingerprint, as it was sent, so that it does not change with the lists of a bench.
func (s *Server) readSignup(c echo.Context, operator bool) (sub nexus.Signup, canonical []byte, err error) {
	if sub, err = readRequest(c, operator); err != nil {
		return sub, nil, err
	}
	sub.Normalize()
	canonical = sub.Canonical()
	sub.Country = cmp.Or(sub.Country, s.Country)
	refusals := sub.Fit(s.lists.get(c.Request().Context()), sub.Refusals(operator))
	if s.Single { // it has no effect, so it is not checked
		refusals = slices.DeleteFunc(refusals, func(f nexus.FieldError) bool { return f.Field == "subdomain" })
	}
	if s.Single && sub.Road != "" {
		refusals = append(refusals, nexus.FieldError{Field: "road", Message: "Leave it out: no sites are made here, and users have no road."})
	}
	if len(refusals) == 0 && !s.Single && sub.Subdomain == "" && nexus.DeriveSubdomain(ascii(sub.Organization)) == "" {
		refusals = append(refusals, nexus.FieldError{Field: "subdomain",
			Message: "No address can be made from this organization's name; please choose one."})
	}
	if len(refusals) > 0 {
		return sub, nil, &nexus.Error{Code: nexus.Invalid, Op: "api.signup", Msg: "Please correct the fields named below.", Fields: refusals}
	}
	return sub, canonical, nil
}

// readRequest reads a signup as it was sent. Only an operator's may have a road.
func readRequest(c echo.Context, operator bool) (nexus.Signup, error) {
	var body gen.TenantRequest
	var err error
	if operator {
		err = readJSON(c, &body)
	} else {
		var public gen.SignupRequest
		err = readJSON(c, &public)
		body = public.Tenant()
	}
	return nexus.Signup{Email: body.Email, Password: nexus.Secret(body.Password), FullName: body.FullName,
		Organization: body.OrganizationName, Subdomain: body.Subdomain, Plan: nexus.PlanName(value(body.Plan)),
		Country: value(body.Country), Abbreviation: value(body.Abbreviation), Language: value(body.Language), TimeZone: value(body.Timezone),
		Currency: value(body.Currency), Road: nexus.Road(value(body.Road))}, err
}

func (s *Server) accepted(c echo.Context, job nexus.Job) error {
	nexus.FaultPoint("signup: before the answer")
	c.Response().Header().Set("Location", statusURL(job.ID))
	c.Response().Header().Set("Retry-After", "1")
	claim := ""
	if s.Keys.Holds(job.KeyID) {
		claim = s.Keys.Claim(job.KeyID, job.ID).Reveal()
	}
	return c.JSON(http.StatusAccepted, gen.Accepted{JobId: string(job.ID), Site: s.shownSite(job.Site), Url: s.url(job.Site),
		StatusUrl: statusURL(job.ID), EventsUrl: eventsURL(job.ID), ClaimToken: claim})
}

// waited answers when the job is over, or after the given time. The pick-up of the
// credentials is bound to the request's key; without one it cannot be repeated.
func (s *Server) waited(c echo.Context, job nexus.Job, wait time.Duration, key string) error {
	now, err := s.Store.Watch(c.Request().Context(), job.ID, -1, store.Patience{For: wait, Left: s.Leaving})
	if err != nil {
		return err
	}
	switch now.State {
	case nexus.Succeeded:
		if key == "" {
			key = string(nexus.NewJobID())
		}
		pair, err := s.credentials(c.Request().Context(), now, key)
		if err != nil {
			return problemError{error: err, jobID: job.ID}
		}
		return c.JSON(http.StatusCreated, pair)
	case nexus.Failed, nexus.Canceled, nexus.RollbackFailed:
		return failure(now)
	}
	return s.accepted(c, job)
}

// failure is the answer to a request that waited for a job that failed. The request was
// valid, so the status is not a 4xx, except for a canceled job and a conflict.
func failure(job nexus.Job) error {
	f := job.Error
	if f == nil {
		f = &nexus.Failure{Code: nexus.Internal, Message: nexus.MessageOf(nil)}
	}
	status := http.StatusInternalServerError
	switch f.Code {
	case nexus.CodeCanceled, nexus.Conflict:
		status = http.StatusConflict
	case nexus.Unavailable, nexus.Timeout:
		status = http.StatusServiceUnavailable
	}
	return problemError{jobID: job.ID, status: status,
		error: &nexus.Error{Code: f.Code, Op: "api.signup", Action: f.Action, Msg: strings.TrimSpace(f.Message + " " + f.Action)}}
}

// preferred reads "wait=N", 30 s at most, from a Prefer header. Names may be in any case,
// and each preference may have parameters (RFC 7240).
func preferred(prefer *string) time.Duration {
	for part := range strings.SplitSeq(value(prefer), ",") {
		preference, _, _ := strings.Cut(part, ";")
		name, text, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		if n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(text), `"`)); err == nil && n > 0 {
			return min(time.Duration(min(n, 3600))*time.Second, longest)
		}
		return 0 // the first one counts
	}
	return 0
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
