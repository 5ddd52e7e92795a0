//go:build service

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// changed waits for the end of a job on a tenant, which must succeed.
func (s *stack) changed(job gen.Job, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	if job := s.end(job.Id, time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("the %s of %s is %s: %+v", job.Kind, job.Site, job.State, job.Error)
	}
}

func (s *stack) suspend(site string) {
	s.t.Helper()
	s.changed(s.client.Delete(s.t.Context(), site, false))
}

func (s *stack) reopen(site string) {
	s.t.Helper()
	s.changed(s.client.Restore(s.t.Context(), site))
}

// row reads a field of a tenant's row.
func (s *stack) row(site, field string) string {
	s.t.Helper()
	return fromRedis(s.t, s.rdb.HGet(s.t.Context(), "{nexus}:tenant:"+site, field))
}

// overdue moves a tenant's purge date into the past.
func (s *stack) overdue(site string) {
	s.t.Helper()
	at := time.Now().Add(-time.Hour).UnixMilli()
	s.rdb.HSet(s.t.Context(), "{nexus}:tenant:"+site, "purgeAt", at)
	s.rdb.ZAdd(s.t.Context(), "{nexus}:due", redis.Z{Score: float64(at), Member: "tenant:" + site})
}

// backUp copies Redis' append-only files and returns the copy's folder.
func (s *stack) backUp() string {
	s.t.Helper()
	backup := filepath.Join(s.t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(s.dir, "appendonlydir"))); err != nil {
		s.t.Fatal(err)
	}
	return backup
}

// bringBack kills Redis and starts it from a backup.
func (s *stack) bringBack(r *redisServer, backup string) {
	s.t.Helper()
	folder := filepath.Join(s.dir, "appendonlydir")
	r.kill()
	if err := os.RemoveAll(folder); err != nil {
		s.t.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS(backup)); err != nil {
		s.t.Fatal(err)
	}
	r.start(s.log)
}

// TestRestoredBackup restores a backup of Redis that is older than the last change of
// three tenants, after the purge dates that it has. The doctor opens and closes no
// tenant by itself. No worker purges a tenant that is open on the bench, or was
// suspended there again since. An operator decides on each tenant.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	s, r := frailStack(t, "", "NEXUS_APPS=erpnext")
	s.onSandbox()
	worker := s.worker()
	const back, gone, anew = "back.localhost", "gone.localhost", "anew.localhost"
	for _, name := range []string{"back", "gone", "anew"} {
		if job := s.end(s.signup(name, name+"@example.com").JobId, time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("%s is %s", job.Site, job.State)
		}
	}
	s.suspend(back)
	s.suspend(anew)
	backup := s.backUp()
	s.reopen(back)
	s.reopen(anew)
	s.suspend(anew)
	s.suspend(gone)

	worker.end(os.Interrupt)
	s.bringBack(r, backup)
	s.overdue(back)
	s.overdue(anew)

	asked := []string{"other_state back.localhost", "other_state gone.localhost"}
	s.finds(append([]string{"other_state anew.localhost"}, asked...))
	s.finds(asked, "--fix")
	s.overdue(anew) // this time a worker must find it
	s.rdb.HDel(t.Context(), "{nexus}:tenant:"+anew, "stateGen")
	s.worker()
	for _, site := range []string{back, anew} {
		eventually(t, time.Minute, "the purge is put off", func() bool {
			purge, err := s.rdb.HGet(t.Context(), "{nexus}:tenant:"+site, "purgeAt").Int64()
			return err != nil || purge > time.Now().UnixMilli()
		})
		if state := s.row(site, "state"); state != string(nexus.TenantSuspended) {
			t.Errorf("%s is %q", site, state)
		}
	}
	for site, want := range map[string]int{back: http.StatusOK, gone: http.StatusServiceUnavailable, anew: http.StatusServiceUnavailable} {
		if status := s.ping(site); status != want {
			t.Errorf("%s answers with %d, want %d", site, status, want)
		}
	}
	s.finds(nil, "--open", "back", "--close", "gone")
	s.sound()
	for site, want := range map[string]nexus.TenantState{back: nexus.TenantActive, gone: nexus.TenantSuspended} {
		if state := s.row(site, "state"); state != string(want) || (s.row(site, "purgeAt") == "") != (want == nexus.TenantActive) {
			t.Errorf("%s is %q, to be purged at %q", site, state, s.row(site, "purgeAt"))
		}
	}
	s.reopen(gone)
	s.suspend(back)
}

// TestRestoredJobs restores a backup of Redis in which a job of each kind that changes a
// site's state waits to begin. Each site's state was changed since by a later job: the
// restored jobs end as failed and change nothing, and the doctor tells what differs.
func TestRestoredJobs(t *testing.T) {
	t.Parallel()
	s, r := frailStack(t, "", "NEXUS_APPS=erpnext")
	s.onSandbox()
	worker := s.worker()
	const closed, dropped, opened = "closed.localhost", "dropped.localhost", "opened.localhost"
	for _, name := range []string{"closed", "dropped", "opened"} {
		if job := s.end(s.signup(name, name+"@example.com").JobId, time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("%s is %s", job.Site, job.State)
		}
	}
	s.suspend(opened)
	worker.end(os.Interrupt)

	order := func(job gen.Job, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return job.Id
	}
	suspend := order(s.client.Delete(t.Context(), closed, false))
	teardown := order(s.client.Delete(t.Context(), dropped, true))
	restore := order(s.client.Restore(t.Context(), opened))
	made := s.signup("made", "made@example.com")
	backup := s.backUp()

	order(s.client.Cancel(t.Context(), teardown, operator))
	worker = s.worker()
	for _, id := range []string{suspend, restore, made.JobId} {
		if job := s.end(id, time.Minute); job.State != gen.StateSucceeded {
			t.Fatalf("the %s of %s is %s: %+v", job.Kind, job.Site, job.State, job.Error)
		}
	}
	s.reopen(closed)
	s.suspend(dropped)
	s.reopen(dropped)
	s.suspend(opened)
	s.keysOpenTheirOwn([]gen.Accepted{made})
	s.suspend(made.Site)
	worker.end(os.Interrupt)
	s.bringBack(r, backup)
	s.worker()

	for _, id := range []string{suspend, teardown, restore, made.JobId} {
		job := s.end(id, time.Minute)
		if job.State != gen.StateFailed || job.Error.Code != string(nexus.Conflict) || !strings.Contains(*job.Error.Action, "nexus doctor") {
			t.Errorf("the %s of %s is %s: %+v", job.Kind, job.Site, job.State, job.Error)
		}
	}
	for site, want := range map[string]int{closed: http.StatusOK, dropped: http.StatusOK, opened: http.StatusServiceUnavailable, made.Site: http.StatusServiceUnavailable} {
		if status := s.ping(site); status != want {
			t.Errorf("%s answers with %d, want %d", site, status, want)
		}
	}
	s.finds([]string{"other_state opened.localhost", "unrecorded_site made.localhost"})
	s.finds(nil, "--fix", "--rebuild")
	s.sound()
	s.suspend(closed)
	s.reopen(opened)
	s.reopen(made.Site)
}
