package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// parkedOn records a job on a tenant and parks it.
func (f *fixture) parkedOn(t *testing.T, kind nexus.Kind, site nexus.SiteName) nexus.JobID {
	t.Helper()
	id := f.submit(t, on(kind, site)).ID
	lease, job := f.take(t, id)
	job.State, job.Error = nexus.RollbackFailed, &nexus.Failure{Code: nexus.UndoFailed, Message: "It cannot go on."}
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestClosingSupersedes: a suspension or a removal supersedes a parked job on the tenant, and
// a key rotation that waits. Both jobs get an event with the actor. No other kind of job
// supersedes, and a running job keeps the tenant.
func TestClosingSupersedes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		other  nexus.Kind
		is     nexus.State // the state of the other job afterwards
		kind   nexus.Kind
		gives  bool
		before nexus.TenantState // the state of the tenant if the new job is canceled
	}{
		{"a suspension, a parked key", nexus.KindRotateKey, nexus.RollbackFailed, nexus.KindSuspend, true, nexus.TenantActive},
		{"a removal, a parked key", nexus.KindRotateKey, nexus.RollbackFailed, nexus.KindTeardown, true, nexus.TenantActive},
		{"a removal, a queued key", nexus.KindRotateKey, nexus.Queued, nexus.KindTeardown, true, nexus.TenantActive},
		{"a suspension, a waiting key", nexus.KindRotateKey, nexus.Waiting, nexus.KindSuspend, true, nexus.TenantActive},
		{"a suspension, a key at work", nexus.KindRotateKey, nexus.Running, nexus.KindSuspend, false, ""},
		{"a new key, a parked key", nexus.KindRotateKey, nexus.RollbackFailed, nexus.KindRotateKey, false, ""},
		{"a removal, a parked removal", nexus.KindTeardown, nexus.RollbackFailed, nexus.KindTeardown, true, nexus.TenantActive},
		{"a suspension, a parked removal", nexus.KindTeardown, nexus.RollbackFailed, nexus.KindSuspend, false, ""},
		{"a removal, a waiting removal", nexus.KindTeardown, nexus.Waiting, nexus.KindTeardown, false, ""},
		{"a suspension, a parked suspension", nexus.KindSuspend, nexus.RollbackFailed, nexus.KindSuspend, true, nexus.TenantActive},
		{"a removal, a waiting suspension", nexus.KindSuspend, nexus.Waiting, nexus.KindTeardown, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) {
				const site = "acme.localhost"
				f.active(t, site)
				var other nexus.JobID
				switch tc.is {
				case nexus.RollbackFailed:
					other = f.parkedOn(t, tc.other, site)
				default:
					if other = f.submit(t, on(tc.other, site)).ID; tc.is == nexus.Queued {
						break
					}
					lease, job := f.take(t, other)
					if job.State, job.WaitingFor = nexus.Waiting, nexus.WaitRetry; tc.is == nexus.Waiting {
						if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				sub := on(tc.kind, site)
				sub.Actor = "boss"
				job, _, err := f.Submit(t.Context(), sub)
				if (err == nil) != tc.gives {
					t.Fatalf("submitted: %v", err)
				}
				if !tc.gives {
					if is, err := f.Job(t.Context(), other); err != nil || is.State != tc.is {
						t.Errorf("the other is %s, %v", is.State, err)
					}
					return
				}
				f.tellEachOther(t, other, job.ID)
				if row := f.tenant(t, site); row.Job != job.ID {
					t.Errorf("the tenant is %+v", row)
				}
				if _, err := f.Cancel(t.Context(), job.ID, "boss"); err != nil {
					t.Fatal(err)
				}
				if row := f.tenant(t, site); row.Job != "" || row.State != tc.before {
					t.Errorf("canceled, it left %+v", row)
				}
			})
		})
	}
}

// tellEachOther checks that the events of a superseded job and of its successor name the
// other job and the actor.
func (f *fixture) tellEachOther(t *testing.T, old, next nexus.JobID) {
	t.Helper()
	is, err := f.Job(t.Context(), old)
	if err != nil || is.State != nexus.Canceled || is.Error == nil || !strings.Contains(is.Error.Message, "superseded") || !strings.Contains(is.Error.Message, string(next)) {
		t.Errorf("the other is %s: %+v, %v", is.State, is.Error, err)
	}
	for id, names := range map[nexus.JobID]nexus.JobID{old: next, next: old} {
		events, err := f.Events(t.Context(), id, 0)
		if err != nil || len(events) == 0 {
			t.Fatal(err)
		}
		if last := events[len(events)-1]; !strings.Contains(last.Note, string(names)) || last.Actor != "boss" {
			t.Errorf("%s says %+v", id, last)
		}
	}
}

// TestPurgeSparesAnAskedRestore: a purge by date does not remove a tenant whose restore is
// parked.
func TestPurgeSparesAnAskedRestore(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		const site = "acme.localhost"
		f.active(t, site)
		f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
		row := f.tenant(t, site)
		parked := f.parkedOn(t, nexus.KindRestore, site)
		sub := on(nexus.KindTeardown, site)
		sub.IdempotencyKey, sub.Fingerprints, sub.Rest = purgeKey(site, row.PurgeAt.UnixMilli()), []string{"purge"}, nexus.NameRest
		if _, _, err := f.Submit(t.Context(), sub); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("purged: %v", err)
		}
		if job, err := f.Job(t.Context(), parked); err != nil || job.State != nexus.RollbackFailed {
			t.Errorf("the restore is %s, %v", job.State, err)
		}
	})
}

// TestParkedKeyIsGivenUp: an operator may cancel a parked key rotation, which frees the
// tenant. Other parked jobs cannot be canceled, since they have something to clean up.
func TestParkedKeyIsGivenUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		const site = "acme.localhost"
		f.active(t, site)
		id := f.parkedOn(t, nexus.KindRotateKey, site)
		if job, err := f.Cancel(t.Context(), id, "boss"); err != nil || job.State != nexus.Canceled || !strings.Contains(job.Error.Action, "rotate the key again") {
			t.Errorf("%s, %+v, %v", job.State, job.Error, err)
		}
		if row := f.tenant(t, site); row.Job != "" || row.State != nexus.TenantActive {
			t.Errorf("it left %+v", row)
		}
		if _, err := f.Cancel(t.Context(), f.parkedOn(t, nexus.KindTeardown, site), "boss"); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("a parked removal was canceled: %v", err)
		}
	})
}

// TestCanceledRemovalKeepsItsDate: after an operator's removal was canceled, the tenant is
// suspended with its purge date and becomes due at it, even if the date passed meanwhile. A
// purge that the bench refused is tried again after a day.
func TestCanceledRemovalKeepsItsDate(t *testing.T) {
	t.Parallel()
	for _, refused := range []bool{false, true} {
		onBoth(t, func(t *testing.T, f *fixture) {
			const site = "acme.localhost"
			f.active(t, site)
			f.ended(t, f.submit(t, on(nexus.KindSuspend, site)).ID, nexus.Succeeded)
			f.advance(6 * 24 * time.Hour)
			down := on(nexus.KindTeardown, site)
			if refused {
				down.Rest = nexus.NameRest
			}
			id := f.submit(t, down).ID
			f.advance(2 * 24 * time.Hour)
			f.purges(t) // the timer is removed, since the tenant is in removal
			if refused {
				f.tick(t)
				lease, job := f.take(t, id)
				job.State, job.Error = nexus.Failed, &nexus.Failure{Code: nexus.Conflict, Message: "Not ours."}
				if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
					t.Fatal(err)
				}
				if sites := f.purges(t); len(sites) > 0 {
					t.Errorf("tried again at once: %v", sites)
				}
				f.advance(25 * time.Hour)
			} else if _, err := f.Cancel(t.Context(), id, "op"); err != nil {
				t.Fatal(err)
			}
			if sites := f.purges(t); len(sites) != 1 {
				t.Errorf("refused %t: found due: %v", refused, sites)
			}
		})
	}
}
