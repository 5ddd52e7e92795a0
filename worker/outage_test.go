package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// unbegun is an outage during which the operation certainly did not begin; plain is an outage
// during which it may have begun.
func unbegun() error {
	return fmt.Errorf("step: %w", &nexus.Error{Code: nexus.Unavailable, Op: "test", Wait: nexus.WaitBench, Unbegun: true,
		RetryAfter: 5 * time.Second, Msg: "The container does not run; start it."})
}

func plain() error {
	return &nexus.Error{Code: nexus.Unavailable, Op: "test", Wait: nexus.WaitBench, Msg: "The connection was lost."}
}

// busy is an error of a bench with a time after which to try again.
func busy() error {
	return &nexus.Error{Code: nexus.Limit, Op: "test", RetryAfter: time.Minute, Msg: "Too many requests."}
}

func refusal() error {
	return &nexus.Error{Code: nexus.Invalid, Op: "test", Msg: "The form was wrong."}
}

// TestOutageChargesNothing: an operation that did not begin, since the bench was away, is not
// charged as an attempt of a step or of an undo. One that may have begun is charged.
func TestOutageChargesNothing(t *testing.T) {
	t.Parallel()
	times := func(n int, err error) []error { return slices.Repeat([]error{err}, n) }
	for _, tc := range []struct {
		name     string
		do, undo []error // the results in their order; after the last one: success
		want     nexus.State
		attempts int
		dos      int // expected number of calls
		undos    int
	}{
		{name: "away for twelve tries", do: times(12, unbegun()), want: nexus.Succeeded, attempts: 1, dos: 13},
		{name: "away again and again", do: slices.Concat(times(12, unbegun()), times(2, plain()), times(12, unbegun())),
			want: nexus.Succeeded, attempts: 3, dos: 27},
		{name: "lost answers use the budget up", do: times(9, plain()), want: nexus.Failed, attempts: 3, dos: 3, undos: 1},
		{name: "lost answers use it up, whatever is between them", do: slices.Concat(times(2, plain()), times(12, unbegun()), times(9, plain())),
			want: nexus.Failed, attempts: 3, dos: 15, undos: 1},
		{name: "away for twenty undos", do: times(1, refusal()), undo: times(20, unbegun()), want: nexus.Failed, attempts: 1, dos: 1, undos: 21},
		{name: "away for twenty undos, after seven that failed", do: times(1, refusal()), undo: slices.Concat(times(7, plain()), times(20, unbegun())),
			want: nexus.Failed, attempts: 1, dos: 1, undos: 28},
		{name: "away for twenty undos, before seven that failed", do: times(1, refusal()), undo: slices.Concat(times(20, unbegun()), times(7, plain())),
			want: nexus.Failed, attempts: 1, dos: 1, undos: 28},
		{name: "one that nobody foresaw, after outages", do: slices.Concat(times(2, plain()), times(1, errors.New("unforeseen"))), want: nexus.Succeeded, attempts: 4, dos: 4},
		{name: "three that nobody foresaw, among outages", do: slices.Concat(times(1, plain()), times(2, errors.New("unforeseen")), times(1, plain()), times(2, errors.New("unforeseen"))),
			want: nexus.Failed, attempts: 5, dos: 5, undos: 1},
		{name: "undos that are put off", do: times(1, refusal()), undo: times(20, busy()), want: nexus.Failed, attempts: 1, dos: 1, undos: 21},
		{name: "undos that fail", do: times(1, refusal()), undo: times(20, plain()), want: nexus.RollbackFailed, attempts: 1, dos: 1, undos: 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			dos, undos := 0, 0
			answer := func(count *int, answers []error) func(context.Context, *tasks.Kit) error {
				return func(context.Context, *tasks.Kit) error {
					*count++
					if *count > len(answers) {
						return nil
					}
					return answers[*count-1]
				}
			}
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
				Do: answer(&dos, tc.do), Undo: answer(&undos, tc.undo)}}}
			end := h.live(t, p, h.submit(t, p).ID, func(int) {})
			if end.State != tc.want || end.Steps[0].Attempts != tc.attempts || dos != tc.dos || undos != tc.undos {
				t.Errorf("%s with %d attempts charged, after %d tries and %d undos; want %s, %d, %d, %d; %+v",
					end.State, end.Steps[0].Attempts, dos, undos, tc.want, tc.attempts, tc.dos, tc.undos, end.Error)
			}
		})
	}
}

// TestDecideUnbegun: an operation that did not begin is tried again even if the attempts are
// used up; only a cancel rolls the job back.
func TestDecideUnbegun(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		facts worker.Facts
		want  worker.Action
	}{
		{"first", worker.Facts{Attempts: 0, Allowed: 4}, wait},
		{"after the last attempt", worker.Facts{Attempts: 4, Allowed: 4}, wait},
		{"an undo after the last attempt", worker.Facts{Attempts: 8, Undo: true}, wait},
		{"canceled", worker.Facts{Cause: nexus.ErrCanceled, Attempts: 0, Allowed: 4}, compensate},
		{"draining", worker.Facts{Cause: nexus.ErrDraining, Attempts: 0, Allowed: 4}, leave},
		{"fenced", worker.Facts{Cause: nexus.ErrFenced, Attempts: 0, Allowed: 4}, stop},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.facts.Err = unbegun()
			wantAction(t, tc.facts, tc.want)
		})
	}
}
