package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// LeaseTime is how long a lease lasts without renewal.
const LeaseTime = 5 * time.Second

// Taken is how an attempt to take a lease ended.
type Taken string

// The outcomes of Take. Only TakeOK gives the lease.
const (
	TakeOK       Taken = "ok"
	TakeAbsent   Taken = "absent"   // no such record
	TakeOver     Taken = "over"     // terminal, or parked
	TakeStale    Taken = "stale"    // the dispatch is not the current one, or was taken before
	TakeHeld     Taken = "held"     // another worker's lease is valid
	TakeCapacity Taken = "capacity" // its bench has no free slot; the job waits
)

// Able is what a worker can do.
type Able struct {
	Bench string   // the bench it works on; empty: any
	Steps []string // the steps it knows, as kind/step
	Keys  []string // the ids of the sealing keys it holds
}

// ForeignError is the error of Take for a job that the worker cannot do.
type ForeignError struct {
	Why   string    // what the worker lacks, such as: unknown kind adopt
	Since time.Time // of the job's last change
}

func (e *ForeignError) Error() string { return e.Why }

// The wait notes of a job that gets no slot, or that the worker cannot read.
const (
	noteFull   = "Many sites are being made just now; this one is next in line as soon as there is room."
	noteShut   = "Our server takes a short break from making sites; this one is made as soon as it is over."
	noteUnread = "The worker that got this job cannot read its record; another one may be able to."
)

// Lease is one worker's right to work on one job, identified by its fencing token. Every
// write carries the token; a stale one gets nexus.ErrFenced. Safe for concurrent use.
type Lease struct {
	s     *Store
	id    nexus.JobID
	input string // sealed
	gen   atomic.Int64
	seq   atomic.Int64 // number of the last write of the journal
	at    atomic.Pointer[moment]
}

// moment is one instant on two clocks: Redis' and this machine's.
type moment struct{ redis, here time.Time }

// Take takes the lease of a job for a dispatch, and with it the job's slot on its bench.
// The lease is nil unless the outcome is TakeOK. A job that needs what able lacks is left
// alone, with a *ForeignError; nil: a worker that can do every job.
func (s *Store) Take(ctx context.Context, id nexus.JobID, dispatch int64, able *Able) (*Lease, nexus.Job, Taken, error) {
	args := []any{string(id), dispatch, LeaseTime.Milliseconds(), s.o.Slots,
		eventBody(nexus.Event{}), eventBody(nexus.Event{Note: noteFull}), noteFull, eventBody(nexus.Event{Note: noteShut}), noteShut, flag(able != nil)}
	if able != nil {
		args = append(args, able.Bench, " "+strings.Join(able.Steps, " ")+" ", " "+strings.Join(able.Keys, " ")+" ")
	}
	r, err := s.run(ctx, "take", takeScript(), jobKey(id), args...)
	if err != nil {
		return nil, nexus.Job{}, "", err
	}
	if r.word == "foreign" {
		ms, _ := strconv.ParseInt(r.text(1), 10, 64) // written by a script: a number
		return nil, nexus.Job{}, "", &ForeignError{Why: r.text(0), Since: time.UnixMilli(ms)}
	}
	if taken := Taken(r.word); taken != TakeOK {
		return nil, nexus.Job{}, taken, nil
	}
	job, err := r.job()
	lease := &Lease{s: s, id: id, input: r.text(1)}
	lease.gen.Store(int64(job.Gen))
	if err != nil {
		return nil, nexus.Job{}, "", errors.Join(err, lease.unread(ctx, r.fields()))
	}
	lease.at.Store(&moment{redis: job.LeaseUntil.Add(-LeaseTime), here: time.Now()})
	return lease, job, TakeOK, nil
}

// unread gives a job back whose record this version cannot read; another version may be able
// to. If its lease expired instead, that would count as a rescue, and too many roll it back.
func (l *Lease) unread(ctx context.Context, record map[string]string) error {
	state := nexus.Waiting
	if record["state"] == string(nexus.RollingBack) {
		state = nexus.RollingBack
	}
	_, err := l.run(ctx, "wait", waitScript, record["steps"], string(state), string(nexus.WaitOperator), noteUnread,
		time.Minute.Milliseconds(), eventBody(nexus.Event{Note: noteUnread}))
	return err
}

// Input is the job's sealed input, as it was when the lease was taken; empty: it is gone,
// and a retry cannot bring it back.
func (l *Lease) Input() string { return l.input }

// Gen is the fencing token.
func (l *Lease) Gen() nexus.Gen { return nexus.Gen(l.gen.Load()) }

// Time returns the time of Redis' clock without asking Redis: its time at the take or the
// last renewal, plus the monotonic time since. Setting this machine's clock does not change
// it.
func (l *Lease) Time() time.Time {
	at := l.at.Load()
	return at.redis.Add(time.Since(at.here))
}

func (l *Lease) run(ctx context.Context, op string, call func() *redis.Script, args ...any) (reply, error) {
	all := append([]any{string(l.id), l.gen.Load()}, args...)
	r, err := l.s.run(ctx, op, call(), jobKey(l.id), all...)
	if err == nil && r.word == "stale" {
		return r, &nexus.Error{Code: nexus.Fenced, Op: "store." + op, Msg: "Another worker owns this job now.", Err: nexus.ErrFenced}
	}
	return r, err
}

// Renew renews the lease, even an expired one, and tells whether a cancel was asked.
func (l *Lease) Renew(ctx context.Context) (cancelAsked bool, err error) {
	r, err := l.run(ctx, "renew", renewScript, LeaseTime.Milliseconds())
	if ms, _ := strconv.ParseInt(r.text(1), 10, 64); err == nil && ms > 0 {
		l.at.Store(&moment{redis: time.UnixMilli(ms), here: time.Now()})
	}
	return r.text(0) == "1", err
}

// Checkpoint writes steps, state and error of the job as given, with events. Ended names
// a step that ended, which resets the count of rescues; empty: none. Conflict if a later
// checkpoint of this lease is already written. Make two calls at once only where one of
// them may be lost, as with progress.
func (l *Lease) Checkpoint(ctx context.Context, job *nexus.Job, ended nexus.StepName, events ...nexus.Event) (cancelAsked bool, err error) {
	cancelAsked, _, err = l.Seal(ctx, job, ended, "", events...)
	return cancelAsked, err
}

// Seal is Checkpoint; it also stores sealed credentials, unless some are stored, and returns
// those that are stored: every attempt at a step gets those of the first. They are kept
// until the job ends; its end deletes them or sets a time to live. Empty: none are stored.
func (l *Lease) Seal(ctx context.Context, job *nexus.Job, ended nexus.StepName, sealed string, events ...nexus.Event) (cancelAsked bool, stored string, err error) {
	args := []any{nexus.StepsText(job.Steps), string(job.State), failure(job), string(ended), l.seq.Add(1), sealed}
	for _, e := range events {
		args = append(args, eventBody(e))
	}
	r, err := l.run(ctx, "checkpoint", checkpointScript, args...)
	if err == nil && r.word == "late" {
		return false, "", refuse("checkpoint", nexus.Conflict, "A later write of this run came first.")
	}
	if err == nil {
		job.Rev, _ = strconv.ParseInt(r.text(1), 10, 64)
	}
	return r.text(0) == "1", r.text(2), err
}

// Wait makes the job wait for a time and gives lease and slot back. It stores State, Steps,
// WaitingFor and WaitNote of the job as given.
func (l *Lease) Wait(ctx context.Context, job *nexus.Job, d time.Duration, events ...nexus.Event) error {
	args := []any{nexus.StepsText(job.Steps), string(job.State), string(job.WaitingFor), job.WaitNote, d.Milliseconds()}
	for _, e := range events {
		args = append(args, eventBody(e))
	}
	_, err := l.run(ctx, "wait", waitScript, args...)
	return err
}

// GiveUp gives the lease back; another worker continues the job at once.
func (l *Lease) GiveUp(ctx context.Context) error {
	_, err := l.run(ctx, "give_up", giveUpScript)
	return err
}

// Reserve takes a slot on a bench, and writes bench, database name and road. The road is
// standby if the bench has one of the keys (TemplateSpec.Key, best first) on the shelf, else
// clone if it offers a template for one of them, else new-site; it is no faster one than
// Spec.Road asks for. A repeated call returns the way of the first one. Limit if there is no
// slot: its Wait is capacity if the bench is full, and bench if it admits no new jobs. The job
// is in the bench's queue then.
func (l *Lease) Reserve(ctx context.Context, bench, db string, templates ...string) (nexus.Way, error) {
	r, err := l.run(ctx, "reserve", reserveScript, with(templates, bench, db, l.s.o.Slots)...)
	switch {
	case err != nil:
		return nexus.Way{}, err
	case r.word == "full":
		return nexus.Way{}, &nexus.Error{Code: nexus.Limit, Op: "store.reserve", Wait: nexus.WaitCapacity, RetryAfter: time.Minute, Msg: noteFull}
	case r.word == "shut":
		return nexus.Way{}, &nexus.Error{Code: nexus.Limit, Op: "store.reserve", Wait: nexus.WaitBench, RetryAfter: time.Minute, Msg: noteShut}
	}
	return wayOf(r), nil
}

// Divert chooses a longer road to the job's site: clone if the bench offers a template for
// one of the keys, else new-site. Db is the site's database then. A standby that the job had
// taken is not claimed any more: a worker drops it.
func (l *Lease) Divert(ctx context.Context, db string, templates ...string) (nexus.Way, error) {
	r, err := l.run(ctx, "divert", divertScript, with(templates, db)...)
	return wayOf(r), err
}

// with returns a script's arguments with keys of templates after them.
func with(templates []string, args ...any) []any {
	for _, key := range templates {
		args = append(args, key)
	}
	return args
}

func wayOf(r reply) nexus.Way {
	return nexus.Way{Road: nexus.Road(r.text(0)), Template: nexus.SiteName(r.text(1)), Standby: nexus.JobID(r.text(2)), DB: r.text(3)}
}

// Finish ends the job in its State, or parks it as rollback_failed. For a provision that
// succeeded it is the commit point: canceled if a cancel was asked before; then nothing
// is stored and the job has to be rolled back. The last event is that of the end.
func (l *Lease) Finish(ctx context.Context, job *nexus.Job, ended nexus.StepName, events ...nexus.Event) error {
	args := []any{nexus.StepsText(job.Steps), string(job.State), failure(job), l.s.o.Retention.Milliseconds(), string(ended)}
	for _, e := range events {
		args = append(args, eventBody(e))
	}
	r, err := l.run(ctx, "finish", finishScript, args...)
	if err == nil && r.word == "canceled" {
		return &nexus.Error{Code: nexus.CodeCanceled, Op: "store.finish", Msg: "Canceled by request.", Err: nexus.ErrCanceled}
	}
	return err
}

// Raise takes a new token for this lease above one that the bench has seen. Fenced unless
// the lease is still valid; conflict if the seen token is too far in the future to be
// genuine.
func (l *Lease) Raise(ctx context.Context, seen nexus.Gen) error {
	r, err := l.run(ctx, "raise", raiseScript, int64(seen))
	switch {
	case err != nil:
		return err
	case r.word == "corrupt":
		return nexus.CorruptGen("store.raise", seen)
	}
	gen, err := strconv.ParseInt(r.text(0), 10, 64)
	if err != nil {
		return classify("raise", fmt.Errorf("gen %q: %w", r.text(0), err))
	}
	l.gen.Store(gen)
	return nil
}

func failure(job *nexus.Job) string {
	if job.Error == nil {
		return ""
	}
	return encode(job.Error)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
