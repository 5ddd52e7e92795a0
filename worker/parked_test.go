package worker_test

import (
	"cmp"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// parked drives a job until it is parked and then resumes it.
func (h *harness) parked(t *testing.T, p tasks.Process, id nexus.JobID, each func(round int)) nexus.Job {
	t.Helper()
	job := h.live(t, p, id, each)
	if job.State != nexus.RollbackFailed || job.Error == nil || job.Error.Code != nexus.UndoFailed {
		t.Fatalf("not parked: %s, %+v", job.State, job.Error)
	}
	if _, err := h.store.Resume(t.Context(), id, "op"); err != nil {
		t.Fatal(err)
	}
	return job
}

// TestResumedJobSaysWhyItBegan: a job that was parked ends with the error for which it was
// rolled back, not with an error of the rollback, however often it was parked.
func TestResumedJobSaysWhyItBegan(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		kind   nexus.Kind // empty: provision
		cancel bool
		parks  int
		want   nexus.State
		code   nexus.Code
		says   string
		action string
	}{
		{name: "failed", parks: 1, want: nexus.Failed, code: nexus.Invalid, says: "The form was wrong.", action: "Trying the same again will not help"},
		{name: "failed, parked three times", parks: 3, want: nexus.Failed, code: nexus.Invalid, says: "The form was wrong.", action: "Trying the same again will not help"},
		{name: "canceled", cancel: true, parks: 1, want: nexus.Canceled, code: nexus.CodeCanceled, says: "The job was canceled.", action: "You can sign up again"},
		{name: "canceled, parked twice", cancel: true, parks: 2, want: nexus.Canceled, code: nexus.CodeCanceled, says: "The job was canceled.", action: "You can sign up again"},
		{name: "a template job that was canceled", kind: nexus.KindTemplate, cancel: true, parks: 1, want: nexus.Canceled, code: nexus.CodeCanceled, says: "The job was canceled.",
			action: "You can ask for it again"},
		{name: "a template job that failed", kind: nexus.KindTemplate, parks: 1, want: nexus.Failed, code: nexus.Unavailable, says: nexus.MessageOf(plain()), action: "Ask for it again"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			var mended atomic.Bool
			p := tasks.Process{Kind: cmp.Or(tc.kind, nexus.KindProvision), Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
				Do: func(context.Context, *tasks.Kit) error {
					if tc.cancel || tc.code == nexus.Unavailable {
						return plain()
					}
					return refusal()
				},
				Undo: func(context.Context, *tasks.Kit) error {
					if mended.Load() {
						return nil
					}
					return plain()
				}}}}
			id := h.submit(t, p).ID
			for range tc.parks {
				job := h.parked(t, p, id, func(round int) {
					if tc.cancel && round == 0 {
						_, _ = h.store.Cancel(t.Context(), id, "op") // from the second time on the job is parked
					}
				})
				if !strings.Contains(job.Error.Message, tc.says) || strings.Count(job.Error.Message, tc.says) > 1 {
					t.Errorf("parked, it says %q", job.Error.Message)
				}
				if again, err := h.store.Job(t.Context(), id); err != nil || again.State != nexus.RollingBack || again.Error == nil || again.Error.Code != tc.code {
					t.Errorf("resumed as %+v, %v", again, err)
				}
			}
			mended.Store(true)
			end := h.live(t, p, id, func(int) {})
			if e := end.Error; end.State != tc.want || e == nil || e.Code != tc.code || e.Step != "one" || e.Message != tc.says || e.First != nil ||
				!strings.HasPrefix(e.Action, "Nothing was left behind. "+tc.action) {
				t.Errorf("%s, %+v; want %s for %q", end.State, end.Error, tc.want, tc.says)
			}
		})
	}
}

// TestResumedForwardEndsWell: a job that cannot be rolled back continues forward when it is
// resumed, and has no error if it succeeds.
func TestResumedForwardEndsWell(t *testing.T) {
	t.Parallel()
	for _, kind := range []nexus.Kind{nexus.KindTeardown, nexus.KindRotateKey} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			fine := func(context.Context, *tasks.Kit) error { return nil }
			made := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1, Do: fine}}}
			if end := h.live(t, made, h.submit(t, made).ID, func(int) {}); end.State != nexus.Succeeded {
				t.Fatalf("no tenant: %s", end.State)
			}
			var mended atomic.Bool
			tries := 0
			p := tasks.Process{Kind: kind, Steps: []tasks.Step{
				{Name: "one", Timeout: time.Minute, Attempts: 1, Do: fine},
				{Name: "two", Timeout: time.Minute, Attempts: 2, Do: func(context.Context, *tasks.Kit) error {
					if mended.Load() {
						return nil
					}
					tries++
					return plain()
				}}}}
			id := h.submit(t, p).ID
			for round := range 2 {
				job := h.parked(t, p, id, func(int) {})
				if tries != 2*(round+1) {
					t.Errorf("parked after %d tries, %d times", tries, round+1)
				}
				if job.Error.Step != "two" || !strings.Contains(job.Error.Message, "The connection was lost.") {
					t.Errorf("parked for %+v", job.Error)
				}
			}
			if job, err := h.store.Job(t.Context(), id); err != nil || job.State != nexus.Running || job.Error != nil {
				t.Errorf("resumed as %s with %+v, %v", job.State, job.Error, err)
			}
			mended.Store(true)
			if end := h.live(t, p, id, func(int) {}); end.State != nexus.Succeeded || end.Error != nil {
				t.Errorf("%s with %+v", end.State, end.Error)
			}
			row, err := h.store.Tenant(t.Context(), "acme.localhost")
			if gone := nexus.CodeOf(err) == nexus.NotFound; gone != (kind == nexus.KindTeardown) || !gone && (row.State != nexus.TenantActive || row.Job != "") {
				t.Errorf("the tenant is %+v, %v", row, err)
			}
		})
	}
}

// TestRefusedOneWayHasFailed: if the bench refuses a job that cannot be rolled back before it
// changed anything, the job ends as failed and the tenant is free. If something may have
// changed, the job is parked.
func TestRefusedOneWayHasFailed(t *testing.T) {
	t.Parallel()
	gone := func() error { return &nexus.Error{Code: nexus.NotFound, Op: "test", Msg: "There is no such user."} }
	for _, kind := range []nexus.Kind{nexus.KindTeardown, nexus.KindRotateKey} {
		for _, tc := range []struct {
			name   string
			first  []error // the results of the first step, in their order
			second error
			want   nexus.State
		}{
			{"at once", []error{gone()}, nil, nexus.Failed},
			{"after an outage that may have changed something", []error{plain(), gone()}, nil, nexus.RollbackFailed},
			{"in the second step", []error{nil}, gone(), nexus.RollbackFailed},
			{"not refused, but failed", []error{plain(), plain(), plain()}, nil, nexus.RollbackFailed},
		} {
			t.Run(string(kind)+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				defer h.close()
				fine := func(context.Context, *tasks.Kit) error { return nil }
				made := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1, Do: fine}}}
				h.live(t, made, h.submit(t, made).ID, func(int) {})
				var asked atomic.Int32
				p := tasks.Process{Kind: kind, Steps: []tasks.Step{
					{Name: "one", Timeout: time.Minute, Attempts: 3, Do: func(context.Context, *tasks.Kit) error { return tc.first[asked.Add(1)-1] }},
					{Name: "two", Timeout: time.Minute, Attempts: 3, Do: func(context.Context, *tasks.Kit) error { return tc.second }}}}
				end := h.live(t, p, h.submit(t, p).ID, func(int) {})
				if end.State != tc.want || end.Error == nil {
					t.Fatalf("%s, %+v", end.State, end.Error)
				}
				row, err := h.store.Tenant(t.Context(), "acme.localhost")
				if err != nil || (row.Job == "") != (tc.want == nexus.Failed) || tc.want == nexus.Failed && row.State != nexus.TenantActive {
					t.Errorf("the tenant is %+v, %v", row, err)
				}
				if tc.want == nexus.Failed && (end.Error.Code != nexus.NotFound || !strings.HasPrefix(end.Error.Action, "Nothing was left behind.")) {
					t.Errorf("%+v", end.Error)
				}
			})
		}
	}
}

// TestOutdatedJobHasFailed: a job from a backup, whose site a later job has changed, ends as
// failed in whatever state the backup has it. It undoes nothing, and the tenant's state keeps
// a token below that of the later job.
func TestOutdatedJobHasFailed(t *testing.T) {
	t.Parallel()
	outdated := func(context.Context, *tasks.Kit) error {
		return &nexus.Error{Code: nexus.Conflict, Op: "test", Outdated: true, Msg: "A later job has changed it."}
	}
	for _, tc := range []struct {
		name   string
		kind   nexus.Kind
		tries  int // number of failures in the backup's record
		cancel bool
	}{
		{"begins", nexus.KindSuspend, 0, false},
		{"goes on", nexus.KindRestore, 2, false},
		{"goes on and has no way back", nexus.KindTeardown, 2, false},
		{"rolls back", nexus.KindSuspend, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			fine := func(context.Context, *tasks.Kit) error { return nil }
			made := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1, Do: fine}}}
			h.live(t, made, h.submit(t, made).ID, func(int) {})
			was := nexus.TenantActive
			if tc.kind == nexus.KindRestore {
				was = nexus.TenantSuspended
				made.Kind = nexus.KindSuspend
				h.live(t, made, h.submit(t, made).ID, func(int) {})
			}
			var asked atomic.Int32
			p := tasks.Process{Kind: tc.kind, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: tasks.Forever, Undo: outdated,
				Do: func(ctx context.Context, k *tasks.Kit) error {
					if int(asked.Add(1)) <= tc.tries {
						return plain()
					}
					return outdated(ctx, k)
				}}}}
			job := h.submit(t, p)
			end := h.live(t, p, job.ID, func(round int) {
				if tc.cancel && round == 0 {
					if _, err := h.store.Cancel(t.Context(), job.ID, "op"); err != nil {
						t.Fatal(err)
					}
				}
			})
			if end.State != nexus.Failed || end.Error.Code != nexus.Conflict || !strings.Contains(end.Error.Action, "nexus doctor") || strings.Contains(end.Error.Action, "Nothing was left") {
				t.Errorf("%s, %+v", end.State, end.Error)
			}
			row, err := h.store.Tenant(t.Context(), "acme.localhost")
			if err != nil || row.Job != "" || row.State != was || row.StateGen != job.Submitted || row.StateGen >= end.Gen {
				t.Errorf("the tenant is %+v, %v", row, err)
			}
		})
	}
}
