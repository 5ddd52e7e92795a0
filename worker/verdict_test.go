package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

const (
	wait       = worker.ActWait
	compensate = worker.ActCompensate
	stop       = worker.ActStop
	leave      = worker.ActLeave
	raise      = worker.ActRaise
	park       = worker.ActPark
)

// coded has an error of each code with the expected action: with attempts left, after the
// last attempt, after a cancel, in an undo, and after the last attempt of an undo.
var coded = []struct {
	name                               nexus.Code
	first, last, canceled, undo, undid worker.Action
}{
	{nexus.Invalid, compensate, compensate, compensate, wait, park},
	{nexus.Unauthenticated, compensate, compensate, compensate, wait, park},
	{nexus.Forbidden, compensate, compensate, compensate, wait, park},
	{nexus.NotFound, compensate, compensate, compensate, wait, park},
	{nexus.Conflict, compensate, compensate, compensate, wait, park},
	{nexus.Limit, wait, wait, compensate, wait, wait},
	{nexus.Unavailable, wait, compensate, compensate, wait, park},
	{nexus.Timeout, wait, compensate, compensate, wait, park},
	{nexus.CodeCanceled, wait, compensate, compensate, wait, park}, // the cause of the context decides, not the error
	{nexus.Draining, leave, leave, leave, leave, leave},
	{nexus.Fenced, raise, raise, raise, raise, raise},
	{nexus.UndoFailed, wait, compensate, compensate, wait, park},
	{nexus.Internal, wait, compensate, compensate, wait, park},
}

func codedError(code nexus.Code) error {
	return fmt.Errorf("step: %w", &nexus.Error{Code: code, Op: "test", Msg: "No."})
}

func wantAction(t *testing.T, f worker.Facts, want worker.Action) {
	t.Helper()
	got := worker.Decide(f)
	if got.Do != want {
		t.Errorf("%+v: %s, want %s", f, got.Do, want)
	}
	if (got.Do == wait) != (got.After > 0) || (got.Do == wait) != (got.For != "") {
		t.Errorf("%+v: a rest of %s for %q on %s", f, got.After, got.For, got.Do)
	}
	if again := worker.Decide(f); again != got {
		t.Errorf("%+v: first %+v, then %+v", f, got, again)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tc := range coded {
		t.Run(string(tc.name), func(t *testing.T) {
			t.Parallel()
			err := codedError(tc.name)
			for _, cause := range []error{nil, nexus.ErrStepTimeout, context.DeadlineExceeded, context.Canceled} { // none of them rolls the job back
				wantAction(t, worker.Facts{Cause: cause, Err: err, Attempts: 1, Allowed: 4}, tc.first)
				last := worker.Facts{Cause: cause, Err: err, Attempts: 4, Allowed: 4}
				if tc.name == nexus.Internal {
					last.Attempts, last.Internals = 3, 3
				}
				wantAction(t, last, tc.last)
				wantAction(t, worker.Facts{Cause: cause, Err: err, Attempts: 1, Undo: true}, tc.undo)
				wantAction(t, worker.Facts{Cause: cause, Err: err, Attempts: 7, Undo: true}, tc.undo)
				wantAction(t, worker.Facts{Cause: cause, Err: err, Attempts: 8, Undo: true}, tc.undid)
			}
			canceled := fmt.Errorf("run: %w", nexus.ErrCanceled)
			wantAction(t, worker.Facts{Cause: canceled, Err: err, Attempts: 1, Allowed: 4}, tc.canceled)
			wantAction(t, worker.Facts{Cause: canceled, Err: err, Attempts: 1, Undo: true}, tc.undo) // a cancel does not end an undo
			wantAction(t, worker.Facts{Cause: canceled, Err: err, Attempts: 8, Undo: true}, tc.undid)

			for _, undo := range []bool{false, true} {
				for _, attempts := range []int{1, 8} {
					fenced := worker.Facts{Cause: nexus.ErrFenced, Err: err, Attempts: attempts, Allowed: 4, Undo: undo}
					wantAction(t, fenced, stop)
					draining, want := fenced, leave
					if draining.Cause = nexus.ErrDraining; tc.name == nexus.Fenced {
						want = raise // the token is raised even then, since it belongs to the lease and not to the step
					}
					wantAction(t, draining, want)
				}
			}
		})
	}
}

func TestDecideSpecials(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		facts worker.Facts
		want  worker.Action
	}{
		{"the answer itself is the fence", worker.Facts{Err: fmt.Errorf("store: %w", nexus.ErrFenced), Attempts: 1, Allowed: 4}, stop},
		{"a fence beats a cancel", worker.Facts{Cause: nexus.ErrCanceled, Err: nexus.ErrFenced, Attempts: 1, Allowed: 4}, stop},
		{"nobody's error", worker.Facts{Err: errors.New("x"), Attempts: 2, Allowed: 4}, wait},
		{"nobody's error, third time", worker.Facts{Err: errors.New("x"), Attempts: 3, Internals: 3, Allowed: 4}, compensate},
		{"nobody foresaw it, however long the step may try", worker.Facts{Err: codedError(nexus.Internal), Attempts: 3, Internals: 3, Allowed: tasks.Forever}, compensate},
		{"the first of its kind, after outages", worker.Facts{Err: codedError(nexus.Internal), Attempts: 500, Internals: 1, Allowed: tasks.Forever}, wait},
		{"the first of its kind, after the outages that were allowed", worker.Facts{Err: codedError(nexus.Internal), Attempts: 4, Internals: 1, Allowed: 4}, wait},
		{"the third of its kind, among outages", worker.Facts{Err: codedError(nexus.Internal), Attempts: 500, Internals: 3, Allowed: tasks.Forever}, compensate},
		{"an outage after what nobody foresaw", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 4, Internals: 2, Allowed: 4}, wait},
		{"the last outage after what nobody foresaw", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 6, Internals: 2, Allowed: 4}, compensate},
		{"nobody foresaw it, one answer allowed", worker.Facts{Err: codedError(nexus.Internal), Attempts: 1, Internals: 1, Allowed: 1}, compensate},
		{"nobody foresaw it, on a site that is proven", worker.Facts{Err: codedError(nexus.Internal), Attempts: 50, Internals: 50, Allowed: tasks.Forever, Proven: true}, wait},
		{"a refusal, on a site that is proven", worker.Facts{Err: codedError(nexus.Conflict), Attempts: 1, Allowed: tasks.Forever, Proven: true}, compensate},
		{"a cancel, of a site that is proven", worker.Facts{Cause: nexus.ErrCanceled, Err: codedError(nexus.Internal), Attempts: 1, Internals: 1, Allowed: 4, Proven: true}, compensate},
		{"an outage is waited out", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 1_000_000, Allowed: tasks.Forever}, wait},
		{"a token raised in vain waits", worker.Facts{Err: codedError(nexus.Fenced), Attempts: 1, Allowed: 4, Raised: true}, wait},
		{"a token raised in vain in an undo waits", worker.Facts{Err: codedError(nexus.Fenced), Attempts: 1, Undo: true, Raised: true}, wait},
		{"and is parked in the end", worker.Facts{Err: codedError(nexus.Fenced), Attempts: 8, Undo: true, Raised: true}, park},
		{"one answer allowed", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 1, Allowed: 1}, compensate},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			wantAction(t, tc.facts, tc.want)
		})
	}
}

func TestDecideWait(t *testing.T) {
	t.Parallel()
	advised := func(code nexus.Code, after time.Duration, on nexus.Wait) error {
		return fmt.Errorf("step: %w", &nexus.Error{Code: code, Op: "test", Msg: "No.", RetryAfter: after, Wait: on})
	}
	for _, tc := range []struct {
		name  string
		facts worker.Facts
		want  worker.Verdict
	}{
		{"first time", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 1}, worker.Verdict{After: 500 * time.Millisecond, For: nexus.WaitRetry}},
		{"first time, with jitter", worker.Facts{Err: codedError(nexus.Unavailable), Attempts: 1, Jitter: 0.5}, worker.Verdict{After: 750 * time.Millisecond, For: nexus.WaitRetry}},
		{"third time", worker.Facts{Err: codedError(nexus.Timeout), Attempts: 3}, worker.Verdict{After: 2 * time.Second, For: nexus.WaitRetry}},
		{"hundredth time", worker.Facts{Err: codedError(nexus.Timeout), Attempts: 100}, worker.Verdict{After: 30 * time.Second, For: nexus.WaitRetry}},
		{"for the bench", worker.Facts{Err: advised(nexus.Unavailable, 0, nexus.WaitBench), Attempts: 1}, worker.Verdict{After: 500 * time.Millisecond, For: nexus.WaitBench}},
		{"for room", worker.Facts{Err: advised(nexus.Limit, time.Minute, nexus.WaitCapacity), Attempts: 9}, worker.Verdict{After: time.Minute, For: nexus.WaitCapacity}},
		{"as long as advised", worker.Facts{Err: advised(nexus.Unavailable, 7*time.Second, ""), Attempts: 9}, worker.Verdict{After: 7 * time.Second, For: nexus.WaitRetry}},
		{"an undo, too", worker.Facts{Err: advised(nexus.Unavailable, 10*time.Minute, nexus.WaitBench), Attempts: 1, Undo: true},
			worker.Verdict{After: 10 * time.Minute, For: nexus.WaitBench}},
		{"an undo, for a limit", worker.Facts{Err: advised(nexus.Limit, 10*time.Minute, ""), Attempts: 8, Undo: true},
			worker.Verdict{After: 10 * time.Minute, For: nexus.WaitRetry}},
		{"an undo, not for days", worker.Facts{Err: advised(nexus.Limit, 80*time.Hour, ""), Attempts: 8, Undo: true},
			worker.Verdict{After: time.Hour, For: nexus.WaitRetry}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.facts.Allowed, tc.want.Do = tasks.Forever, wait
			if got := worker.Decide(tc.facts); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestBackoff: after n failures the delay is at least half and less than the whole of
// 1 s · 2^(n-1), which is at most a minute. More jitter never shortens it, and more failures
// never lower its bounds.
func TestBackoff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := worker.Facts{Err: codedError(nexus.Unavailable), Allowed: tasks.Forever, Undo: rapid.Bool().Draw(t, "undo"),
			Attempts: rapid.OneOf(rapid.IntRange(1, 8), rapid.IntRange(-1, tasks.Forever-1)).Draw(t, "attempts"),
			Jitter:   rapid.Float64Range(0, 0.999999).Draw(t, "jitter")}
		if f.Undo {
			f.Attempts = min(f.Attempts, 7) // after 8 failures it is parked
		}
		whole := time.Second
		for n := 1; n < f.Attempts && whole < time.Minute; n++ {
			whole = min(2*whole, time.Minute)
		}
		got := worker.Decide(f)
		if got.Do != wait || got.After < whole/2 || got.After >= whole {
			t.Fatalf("%+v: %+v, want %s to %s", f, got, whole/2, whole)
		}
		less := f
		if less.Jitter /= 2; worker.Decide(less).After > got.After {
			t.Fatalf("%+v: more jitter, less rest", f)
		}
	})
}
