package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Submission is a job to be recorded.
type Submission struct {
	ID    nexus.JobID
	Kind  nexus.Kind
	Site  nexus.SiteName
	Actor string
	Spec  nexus.Spec
	Steps []nexus.StepName

	Build    string         // of a machine job: the key of what it makes; one live job builds each template on a bench
	Bench    string         // of a machine job: where
	DB       string         // of a standby's job: the database that it makes
	Template nexus.SiteName // of a standby's job: what it will probably copy
	Most     int            // of a standby's job: the most standbys that its shelf then has

	Input string // sealed; empty: none
	KeyID string // id of the key that Input and the claim token are made with

	IdempotencyKey string   // scoped to the caller, and hashed if it names a person; empty: none
	FormerKeys     []string // IdempotencyKey as former versions and older sealing keys write it
	Fingerprints   []string // of the request, one for each sealing key; the current key's is first

	GiveUpAfter time.Duration
	PurgeAfter  time.Duration // of a suspend: time until the tenant is removed for good
	Rest        time.Duration // of a teardown: how long the name stays reserved afterwards; zero: it is free at once
	Limits      []Limit       // charged if the job is recorded
	TraceParent string
}

// Limit is the most jobs per hour that may be recorded for one bucket. The bucket's name
// is stored, so it must not contain an address or e-mail in clear.
type Limit struct {
	Bucket string
	Max    int
}

// ErrLimited is what Submit wraps when a limit is reached.
var ErrLimited = errors.New("rate limit")

// ErrKeyReused is what Submit wraps when an idempotency key was used for another
// request.
var ErrKeyReused = errors.New("idempotency key reused")

// ErrGone is what Credentials wraps when they can no longer be picked up.
var ErrGone = errors.New("credentials gone")

// Submit records a job and enqueues it in asynq, or returns the job of an earlier equal
// request (replay). A suspension or a teardown supersedes a parked job on the tenant, or
// a key job that waits: that job ends as canceled, and an event of each of the two names
// the other.
// Conflict: the name is taken, a live job is on the tenant, the tenant's state does not
// allow the job, or ErrKeyReused. Not_found: the tenant is unknown. Limit: ErrLimited,
// with RetryAfter. A refusal stores nothing. Cost: one script.
func (s *Store) Submit(ctx context.Context, sub Submission) (job nexus.Job, replay bool, err error) {
	steps := make([]nexus.Step, len(sub.Steps))
	for i, name := range sub.Steps {
		steps[i] = nexus.Step{Name: name, State: nexus.StepPending}
	}
	fingerprint := ""
	if len(sub.Fingerprints) > 0 {
		fingerprint = sub.Fingerprints[0]
	}
	args := []any{string(sub.ID), string(sub.Kind), string(sub.Site), sub.Actor, encode(sub.Spec), nexus.StepsText(steps),
		sub.GiveUpAfter.Milliseconds(), sub.KeyID, sub.Input, sub.TraceParent, sub.IdempotencyKey,
		fingerprint, strings.Join(sub.Fingerprints, "|"), sub.Spec.Email, string(sub.Spec.Plan), eventBody(nexus.Event{}),
		sub.PurgeAfter.Milliseconds(), sub.Rest.Milliseconds()}
	args = append(append(args, s.superseding(sub)...), strings.Join(sub.FormerKeys, "\n"), sub.Build, sub.Bench, sub.DB, string(sub.Template), sub.Most)
	for _, limit := range sub.Limits {
		args = append(args, limit.Bucket, limit.Max)
	}
	nexus.FaultPoint("submit: before the record")
	r, err := s.run(ctx, "submit", submitScript(), jobKey(sub.ID), args...)
	nexus.FaultPoint("submit: after the record")
	if err == nil {
		err = refusal(sub, r)
	}
	if err != nil {
		return nexus.Job{}, false, err
	}
	if job, err = r.job(); err != nil {
		return nexus.Job{}, false, classify("submit", err)
	}
	if r.word == "ok" {
		// The reconciler repeats a failed enqueue within seconds, from the due index.
		_ = s.enqueue(ctx, job.ID, job.Dispatch, job.Kind)
		nexus.FaultPoint("submit: after the task")
	}
	return job, r.word == "replay", nil
}

// superseding returns the script's arguments for a job that may supersede another: event
// and error of the other job, the event of this job, and the retention in ms.
func (s *Store) superseding(sub Submission) []any {
	words := fmt.Sprintf("superseded by the %s %s", sub.Kind, sub.ID)
	return []any{eventBody(nexus.Event{Note: words, Actor: sub.Actor}),
		encode(nexus.Failure{Code: nexus.CodeCanceled, Message: "The job was " + words + ".", Action: "That job says what becomes of the tenant."}),
		eventBody(nexus.Event{Note: "supersedes the job {job}", Actor: sub.Actor}), s.o.Retention.Milliseconds()}
}

// refusal turns the script's answer into an error; nil if the job is recorded.
func refusal(sub Submission, r reply) error {
	switch r.word {
	case "taken":
		return conflict("submit", nexus.ReasonNameTaken, "The address %s is taken.", sub.Site)
	case "busy":
		switch sub.Kind {
		case nexus.KindTemplate:
			return conflict("submit", nexus.ReasonBusy, "A job builds this template already; wait for its end, or cancel it first.")
		case nexus.KindStandby:
			return conflict("submit", nexus.ReasonBusy, "The shelf has as many standbys as it may.")
		}
		return conflict("submit", nexus.ReasonBusy, "Another job works on %s; wait for its end, or cancel it first.", sub.Site)
	case "unknown":
		return refuse("submit", nexus.NotFound, "There is no tenant %s.", sub.Site)
	case "unfit":
		return conflict("submit", nexus.ReasonTenantState, "%s is %s; %s.", sub.Site, r.text(0), map[nexus.Kind]string{
			nexus.KindRestore:   "only a suspended tenant can be restored",
			nexus.KindSuspend:   "it is removed when its grace is over, or at once with purge=now",
			nexus.KindRotateKey: "restore it first",
			nexus.KindTeardown:  "its removal has begun",
		}[sub.Kind])
	case "reused":
		return &nexus.Error{Code: nexus.Conflict, Op: "store.submit", Reason: nexus.ReasonKeyReused, Err: ErrKeyReused,
			Msg: "This Idempotency-Key was used for another request; use a new one."}
	case "limited":
		left, _ := strconv.ParseInt(r.text(1), 10, 64) // written by the script: a number
		what, _, _ := strings.Cut(r.text(0), ":")
		return &nexus.Error{Code: nexus.Limit, Op: "store.submit", Reason: nexus.ReasonRateLimited, Limit: what, Err: ErrLimited, RetryAfter: time.Duration(left) * time.Millisecond,
			Msg: "Too many signups came in the last hour; please try again later."}
	}
	return nil
}

// Job reads one record; not_found if there is none. Cost: one HGETALL.
func (s *Store) Job(ctx context.Context, id nexus.JobID) (nexus.Job, error) {
	fields, err := s.rdb.HGetAll(ctx, jobKey(id)).Result()
	if err != nil {
		return nexus.Job{}, classify("job", err)
	}
	if len(fields) == 0 {
		return nexus.Job{}, noJob("job")
	}
	return decodeJob(fields)
}

// Version identifies a state of a job's record. The rev alone does not: a Redis that lost
// its last writes gives the same revs again.
type Version struct {
	Rev       int64
	updatedAt int64 // ms
}

// String is the rev and the time of the change, in base 36, such as 18-mx1qhaej.
func (v Version) String() string {
	return strconv.FormatInt(v.Rev, 10) + "-" + strconv.FormatInt(v.updatedAt, 36)
}

// Version reads the version of a job's record; not_found if there is no such job. Cost: one
// HMGET, a small part of what Job costs.
func (s *Store) Version(ctx context.Context, id nexus.JobID) (Version, error) {
	fields, err := s.rdb.HMGet(ctx, jobKey(id), "rev", "updatedAt").Result()
	if err != nil {
		return Version{}, classify("version", err)
	}
	text, found := fields[0].(string)
	if !found {
		return Version{}, noJob("version")
	}
	var v Version
	if v.Rev, err = strconv.ParseInt(text, 10, 64); err != nil {
		return Version{}, classify("version", err)
	}
	text, _ = fields[1].(string)
	v.updatedAt, _ = strconv.ParseInt(text, 10, 64) // written with the rev: a number
	return v, nil
}

// VersionOf is the version of a record that was read.
func VersionOf(job nexus.Job) Version {
	return Version{job.Rev, job.UpdatedAt.UnixMilli()}
}

// Cancel requests the cancel of a job; a repeated request succeeds too. Conflict if the job succeeded
// or failed, is parked (except a key job, which has nothing to clean up), or is a teardown that has
// begun. The event names the actor who asked.
func (s *Store) Cancel(ctx context.Context, id nexus.JobID, actor string) (nexus.Job, error) {
	asked := eventBody(nexus.Event{Note: "cancel was asked", Actor: actor})
	ended := eventBody(nexus.Event{Note: "canceled before it began", Actor: actor})
	givenUp := eventBody(nexus.Event{Note: "given up while parked", Actor: actor})
	r, err := s.run(ctx, "cancel", cancelScript(), jobKey(id), string(id),
		s.o.Retention.Milliseconds(), asked, ended, encode(nexus.WhyCanceled(nexus.KindProvision, "")), givenUp,
		encode(nexus.Failure{Code: nexus.CodeCanceled, Message: "The parked rotation of the key was given up.",
			Action: "The former key may no longer work: once the cause is mended, rotate the key again."}), encode(nexus.WhyCanceled("", "")))
	if err != nil {
		return nexus.Job{}, err
	}
	switch r.word {
	case "absent":
		return nexus.Job{}, noJob("cancel")
	case "over":
		return nexus.Job{}, conflict("cancel", nexus.ReasonJobState, "This job is over; there is nothing to cancel.")
	case "parked":
		return nexus.Job{}, conflict("cancel", nexus.ReasonJobState, "This job is parked; an operator must resume it.")
	case "running":
		return nexus.Job{}, conflict("cancel", nexus.ReasonJobState, "A deletion or a new key that has begun cannot be canceled.")
	}
	return r.job()
}

// Resume continues a parked job; conflict unless its state is rollback_failed. The event
// names the actor who asked.
func (s *Store) Resume(ctx context.Context, id nexus.JobID, actor string) (nexus.Job, error) {
	job, err := s.Job(ctx, id)
	if err != nil {
		return job, err
	}
	next := nexus.RollingBack
	if job.Kind.OneWay() {
		next = nexus.Running
	}
	if job.State != nexus.RollbackFailed || job.To(next) != nil {
		return job, conflict("resume", nexus.ReasonJobState, "Only a job whose rollback failed can be resumed; this one is %s.", job.State)
	}
	for i := range job.Steps { // an operator has intervened: count the attempts from zero
		step := &job.Steps[i]
		if step.Undos = 0; step.State != nexus.StepDone {
			step.Attempts, step.Internals = 0, 0
		}
	}
	// Restore the error that the job had before its rollback failed.
	switch {
	case job.Kind.OneWay():
		job.Error = nil
	case job.Error != nil && job.Error.First != nil:
		job.Error = job.Error.First
	}
	r, err := s.run(ctx, "resume", resumeScript(), jobKey(id), string(id), job.Rev, nexus.StepsText(job.Steps),
		string(next), (24 * time.Hour).Milliseconds(), failure(&job), eventBody(nexus.Event{Note: "resumed", Actor: actor}))
	if err != nil {
		return job, err
	}
	if r.word != "ok" {
		return job, conflict("resume", nexus.ReasonJobState, "The job changed just now; look again.")
	}
	return r.job()
}

// Credentials returns the sealed credentials to the first pick-up, which bind names. The
// same pick-up may be repeated for ten minutes; any other gets ErrGone. Conflict with
// RetryAfter while the job is not over.
func (s *Store) Credentials(ctx context.Context, id nexus.JobID, bind string) (string, error) {
	r, err := s.run(ctx, "credentials", credentialsScript(), jobKey(id), string(id), bind)
	if err != nil {
		return "", err
	}
	switch r.word {
	case "absent":
		return "", noJob("credentials")
	case "early":
		return "", &nexus.Error{Code: nexus.Conflict, Op: "store.credentials", Reason: nexus.ReasonNotReady, RetryAfter: 2 * time.Second,
			Msg: "The site is still being made; ask again when the job has succeeded."}
	case "gone":
		return "", &nexus.Error{Code: nexus.Conflict, Op: "store.credentials", Reason: nexus.ReasonGone, Err: ErrGone,
			Msg: "The API key was picked up already, or nobody came for it in time. Sign in with your e-mail and password, or ask the operator for a new key."}
	}
	return r.text(0), nil
}

func noJob(op string) error { return refuse(op, nexus.NotFound, "There is no such job.") }

// encode returns JSON. It is for types of this package, which cannot fail to encode.
func encode(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// plain reports whether an event is only the start or the end of an attempt. Most such
// events belong to a first attempt, so the number 1 is not stored.
func plain(e nexus.Event) bool {
	return e.Note == "" && (e.StepState == nexus.StepStarted || e.StepState == nexus.StepDone)
}

// eventBody returns an event as it is stored: JSON without rev, time and state.
func eventBody(e nexus.Event) string {
	if plain(e) && e.Attempt == 1 {
		e.Attempt = 0
	}
	return encode(struct {
		Step      nexus.StepName  `json:"step,omitempty"`
		StepState nexus.StepState `json:"stepState,omitempty"`
		Attempt   int             `json:"attempt,omitempty"`
		Percent   int             `json:"percent,omitempty"`
		Note      string          `json:"note,omitempty"`
		Actor     string          `json:"actor,omitempty"`
	}{e.Step, e.StepState, e.Attempt, e.Percent, e.Note, e.Actor})
}

func decodeJob(f map[string]string) (nexus.Job, error) {
	var bad error
	num := func(name string) int64 {
		if f[name] == "" {
			return 0
		}
		n, err := strconv.ParseInt(f[name], 10, 64)
		bad = errors.Join(bad, err)
		return n
	}
	gen, err := strconv.ParseInt(f["gen"], 10, 64)
	if errors.Is(err, strconv.ErrRange) { // a corrupt token: the next take mints a new one
		gen = 0
	} else if f["gen"] != "" {
		bad = err
	}
	when := func(name string) time.Time {
		if n := num(name); n > 0 {
			return time.UnixMilli(n).UTC()
		}
		return time.Time{}
	}
	parse := func(name string, into any) {
		if f[name] != "" {
			bad = errors.Join(bad, json.Unmarshal([]byte(f[name]), into))
		}
	}
	j := nexus.Job{
		ID: nexus.JobID(f["id"]), Kind: nexus.Kind(f["kind"]), Site: nexus.SiteName(f["site"]), Actor: f["actor"],
		State: nexus.State(f["state"]), Bench: f["bench"], DB: f["db"], Owner: nexus.JobID(cmp.Or(f["owner"], f["id"])),
		Road: nexus.Road(f["road"]), Template: nexus.SiteName(f["template"]), Standby: nexus.JobID(f["standby"]),
		WaitingFor: nexus.Wait(f["waitingFor"]), WaitNote: f["waitNote"], NextAt: when("nextAt"),
		CancelAsked: f["cancel"] == "1", GiveUpAt: when("giveUpAt"), CreatedAt: when("createdAt"), UpdatedAt: when("updatedAt"),
		Dispatch: num("dispatch"), Taken: num("taken"), Submitted: nexus.Gen(num("submitted")), Gen: nexus.Gen(gen), LeaseUntil: when("leaseUntil"),
		Rescues: int(num("rescues")), Rev: num("rev"), KeyID: f["keyID"], TraceParent: f["trace"],
	}
	parse("spec", &j.Spec)
	parse("steps", &j.Steps)
	parse("journal", &j.Steps) // of a job that a former version finished; it has no steps
	parse("error", &j.Error)
	if bad != nil {
		return j, &nexus.Error{Code: nexus.Internal, Op: "store.decode", Msg: "A job's record cannot be read.",
			Err: fmt.Errorf("job %s: %w", f["id"], bad)}
	}
	return j, nil
}

// Events reads a job's events with a rev above the given one, oldest first.
func (s *Store) Events(ctx context.Context, id nexus.JobID, after int64) ([]nexus.Event, error) {
	entries, err := s.rdb.XRange(ctx, eventsKey(id), afterRev(after), "+").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, classify("events", err)
	}
	return decodeEvents(entries)
}

func eventsKey(id nexus.JobID) string { return prefix + "events:" + string(id) }

// afterRev is the start of a range of the events after a rev.
func afterRev(rev int64) string { return fmt.Sprintf("(%d-0", max(rev, 0)) }

func decodeEvents(entries []redis.XMessage) ([]nexus.Event, error) {
	out := make([]nexus.Event, 0, len(entries))
	for _, entry := range entries {
		var e nexus.Event
		body, _ := entry.Values["body"].(string)
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			return nil, classify("events", err)
		}
		if plain(e) && e.Attempt == 0 {
			e.Attempt = 1
		}
		rev, _, _ := strings.Cut(entry.ID, "-")
		e.Rev, _ = strconv.ParseInt(rev, 10, 64)
		at, _ := strconv.ParseInt(fmt.Sprint(entry.Values["at"]), 10, 64)
		e.At = time.UnixMilli(at).UTC()
		e.State = nexus.State(fmt.Sprint(entry.Values["state"]))
		out = append(out, e)
	}
	return out, nil
}
