package api

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// longest is the longest time that a call may wait.
const longest = 30 * time.Second

// ShowJob returns a job to anybody who knows its id.
func (s *Server) ShowJob(c echo.Context, id gen.JobID, params gen.ShowJobParams) error {
	wait, err := duration(params.Wait)
	if err != nil {
		return err
	}
	_, refused := s.need(c, ScopeRead)
	key, match := shownKey{nexus.JobID(id), refused == nil}, value(params.IfNoneMatch)
	shown, err := s.show(c.Request().Context(), key)
	if err == nil && wait > 0 && (match == "" && !shown.over || shown.known(match)) {
		rev := int64(-1)
		if match != "" {
			rev = shown.version.Rev
		}
		if _, err = s.Store.Watch(c.Request().Context(), key.id, rev, store.Patience{For: wait, Left: s.Leaving}); err == nil {
			shown, err = s.show(c.Request().Context(), key)
		}
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", etag(shown.version.String()))
	if shown.known(match) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.JSONBlob(http.StatusOK, shown.body)
}

// shownKey is a job and how it is shown: operators see more.
type shownKey struct {
	id       nexus.JobID
	operator bool
}

// shownJob is the JSON of a job at one of its revs.
type shownJob struct {
	version store.Version
	over    bool
	body    []byte
}

// known reports whether an If-None-Match names this version of the job. A tag of the rev
// alone, as earlier versions of this API sent, stands for the rev at any time.
func (s shownJob) known(match string) bool {
	return match != "" && (hasTag(match, etag(s.version.String())) || hasTag(match, etag(strconv.FormatInt(s.version.Rev, 10))))
}

// show returns a job as JSON. Pollers ask far more often than a job changes, so the JSON is
// cached by version: if that is the same, a call reads two fields of the record.
func (s *Server) show(ctx context.Context, key shownKey) (shownJob, error) {
	if !key.id.Valid() {
		return shownJob{}, unknownJob()
	}
	version, err := s.Store.Version(ctx, key.id)
	if err != nil {
		return shownJob{}, err
	}
	if kept, ok := s.shown.Get(key); ok && kept.version == version {
		return kept, nil
	}
	job, err := s.Store.Job(ctx, key.id)
	if err != nil {
		return shownJob{}, err
	}
	body, err := json.Marshal(s.job(job, key.operator))
	if err != nil {
		return shownJob{}, err
	}
	fresh := shownJob{version: store.VersionOf(job), over: job.State.Terminal(), body: body}
	s.shown.Add(key, fresh)
	return fresh, nil
}

func unknownJob() error {
	return &nexus.Error{Code: nexus.NotFound, Op: "api.job", Msg: "There is no such job."}
}

// known reads a job; not_found also for a malformed id.
func (s *Server) known(ctx context.Context, id nexus.JobID) (nexus.Job, error) {
	if !id.Valid() {
		return nexus.Job{}, unknownJob()
	}
	return s.Store.Job(ctx, id)
}

// durations is the contract's pattern; a test compares the two.
var durations = regexp.MustCompile(`^([0-9]{1,5}(\.[0-9]{1,9})?|([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h)){0,3})$`)

// duration reads "20s" or "20", 30 s at most.
func duration(text *string) (time.Duration, error) {
	wait := value(text)
	switch {
	case wait == "":
		return 0, nil
	case len(wait) > 40 || !durations.MatchString(wait):
		return 0, invalid("wait", "Give wait as a time such as 20s, 30s at most.")
	case wait[len(wait)-1] <= '9':
		wait += "s"
	}
	d, err := time.ParseDuration(wait)
	return min(d, longest), err
}

// ListJobs lists jobs for operators.
func (s *Server) ListJobs(c echo.Context, params gen.ListJobsParams) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	state, kind := value(params.State), value(params.Kind)
	if params.State != nil && !state.Valid() {
		return invalid("state", "There is no such state of a job; /openapi.yaml lists them.")
	}
	if params.Kind != nil && !kind.Valid() {
		return invalid("kind", "There is no such kind of job; /openapi.yaml lists them.")
	}
	if err := checkLimit(params.Limit); err != nil {
		return err
	}
	jobs, next, err := s.Store.Jobs(c.Request().Context(), store.JobFilter{State: nexus.State(state), Kind: nexus.Kind(kind),
		Cursor: value(params.Cursor), Limit: value(params.Limit)})
	if err != nil {
		return err
	}
	list := gen.JobList{Jobs: make([]gen.Job, len(jobs)), Next: optional(next)}
	for i, job := range jobs {
		list.Jobs[i] = s.job(job, true)
	}
	return c.JSON(http.StatusOK, list)
}

func checkLimit(limit *int) error {
	if limit != nil && (*limit < 1 || *limit > 200) {
		return invalid("limit", "Give a limit from 1 to 200.")
	}
	return nil
}

// CancelJob cancels a job, for the holder of the claim token and for operators.
func (s *Server) CancelJob(c echo.Context, id gen.JobID) error {
	if bearer(c) == "" {
		_, err := s.need(c, ScopeOperate)
		return err
	}
	job, err := s.known(c.Request().Context(), nexus.JobID(id))
	if err != nil {
		return err
	}
	actor, holder := "the holder of the claim token", s.Keys.ClaimEqual(job.KeyID, job.ID, bearer(c))
	if !holder {
		if actor, err = s.need(c, ScopeOperate); err != nil {
			return err
		}
	}
	if job, err = s.Store.Cancel(c.Request().Context(), job.ID, actor); err != nil {
		return err
	}
	return s.recorded(c, job, !holder)
}

// ResumeJob continues a parked job.
func (s *Server) ResumeJob(c echo.Context, id gen.JobID) error {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return err
	}
	job, err := s.known(c.Request().Context(), nexus.JobID(id))
	if err != nil {
		return err
	}
	if job, err = s.Store.Resume(c.Request().Context(), job.ID, actor); err != nil {
		return err
	}
	return s.recorded(c, job, true)
}

// job converts a job. Only operators see its actor, and how its site is made.
func (s *Server) job(j nexus.Job, operator bool) gen.Job {
	out := gen.Job{Id: string(j.ID), Kind: gen.Kind(j.Kind), Site: string(j.Site), Url: s.url(j.Site), State: gen.State(j.State),
		Steps: make([]gen.Step, len(j.Steps)), GiveUpAt: j.GiveUpAt, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt,
		CancelAsked: optional(j.CancelAsked && !j.State.Terminal())}
	for i, step := range j.Steps {
		out.Steps[i] = gen.Step{Name: string(step.Name), State: gen.StepState(step.State), Attempts: step.Attempts,
			StartedAt: millis(step.StartedAt), EndedAt: millis(step.EndedAt), Note: optional(step.Note), Percent: optional(step.Percent)}
	}
	if j.Kind.Machine() { // no request reaches a template or a standby
		out.Url = ""
	}
	if operator {
		out.Actor = optional(j.Actor)
		out.Road, out.Template = s.road(j.Road, j.Template)
	} else {
		out.Site = s.shownSite(j.Site)
	}
	if j.WaitingFor != "" {
		waiting := gen.Wait(j.WaitingFor)
		out.WaitingFor, out.WaitingNote = &waiting, optional(j.WaitNote)
	}
	if !j.NextAt.IsZero() {
		out.NextAt = &j.NextAt
	}
	if f := j.Error; f != nil {
		out.Error = &gen.JobError{Code: string(f.Code), Step: optional(string(f.Step)), Message: f.Message,
			Action: optional(f.Action), RequestId: optional(strings.TrimSpace(f.RequestID))}
	}
	return out
}

// road says how a site was made; a user of the master site has none.
func (s *Server) road(road nexus.Road, template nexus.SiteName) (*string, *string) {
	if s.Single {
		return nil, nil
	}
	return optional(string(road)), optional(string(template))
}

// millis truncates a time to milliseconds, like all other times of a job.
func millis(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	short := t.Truncate(time.Millisecond)
	return &short
}
