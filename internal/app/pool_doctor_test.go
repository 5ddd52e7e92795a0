package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

func (s *shop) doctor(o app.DoctorOptions) app.DoctorReport {
	s.t.Helper()
	report, err := app.DoctorOn(s.t.Context(), s.store, s, install, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// mended lets the doctor find one thing, leave it, and mend it.
func (s *shop) mended(kind tasks.Trouble) {
	s.t.Helper()
	if report := s.doctor(app.DoctorOptions{}); len(report.Findings) != 1 || report.Findings[0].Kind != kind || !report.Findings[0].Safe {
		s.t.Fatalf("found %+v", report.Findings)
	}
	if report := s.doctor(app.DoctorOptions{Fix: true}); len(report.Mended) != 1 || len(report.Findings)+len(report.Failed) > 0 {
		s.t.Fatalf("%+v", report)
	}
}

func (s *shop) nothing(when string) {
	s.t.Helper()
	if report := s.doctor(app.DoctorOptions{Fix: true}); len(report.Findings)+len(report.Mended)+len(report.Failed) > 0 {
		s.t.Errorf("%s: %+v", when, report)
	}
}

// claim does what the step site of a signup does.
func (s *shop) claim(job nexus.Job) {
	s.t.Helper()
	if _, err := s.Run(s.t.Context(), s.claimOf(job)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) claimOf(job nexus.Job) nexus.Op {
	return nexus.Op{Site: job.Site, DB: job.DB, Owner: job.ID, Gen: job.Gen, Submitted: job.Submitted,
		Args: nexus.Claim{Standby: nexus.StandbyName(job.Standby), Maker: job.Standby}}
}

// TestDoctorStandbys: what is wrong with the pool is found and mended; what workers and jobs
// do with it is nothing to the doctor.
func TestDoctorStandbys(t *testing.T) {
	t.Parallel()
	s := newShop(t, "1")
	w := s.worker()
	w.tend()
	w.tend()
	s.nothing("while one is made")
	s.made(nexus.Succeeded)
	s.nothing("on the shelf")
	for _, each := range s.rdb.Keys(t.Context(), "{nexus}:standby*").Val() {
		s.rdb.Del(t.Context(), each)
	}
	maker := s.there()[0].Job
	s.rdb.HSet(t.Context(), "{nexus}:job:"+string(maker), "state", "waiting")
	s.rdb.ZAdd(t.Context(), "{nexus}:due", redis.Z{Member: string(maker)})
	s.bare = true // only the standby names its job
	s.nothing("unknown, and its job is not over")
	s.rdb.HSet(t.Context(), "{nexus}:job:"+string(maker), "state", "succeeded")
	s.bare = false
	s.mended(tasks.UnusableStandby) // the registry does not know it
	s.want("after it was shelved again", 0, 1, 1)
	lease, job := s.signup()
	s.nothing("taken")
	s.claim(job)
	s.nothing("claimed")
	s.finish(lease, job, nexus.Failed) // without an undo
	s.mended(tasks.OrphanSite)
	if there := s.inspect(job.Site); there.Folder {
		t.Errorf("left: %+v", there)
	}
	s.nothing("to be dropped")
	s.rdb.HSet(t.Context(), "{nexus}:standby:"+string(job.Standby), "at", time.Now().Add(-2*time.Minute).UnixMilli())
	s.mended(tasks.MissingStandby)
	if left := s.shelf().Standbys; len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

// TestDoctorStandbysUpgraded: standbys that an upgrade of the bench made useless are removed.
func TestDoctorStandbysUpgraded(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	for _, each := range s.onBench(t) {
		if err := s.drop(t, each.Name); err != nil {
			t.Fatal(err)
		}
	}
	s.open(t, "16.2.0")
	s.drops = nil
	s.mended(tasks.UnusableStandby)
	if op := s.drops[0]; len(s.drops) != 1 || op.Room != nexus.RoomStandby || op.Gen == 0 || len(s.there())+len(s.shelf().Standbys) > 0 {
		t.Errorf("dropped by %+v, left %v", s.drops, s.shelf())
	}
}

func (s *shop) inspect(site nexus.SiteName) nexus.SiteInfo {
	s.t.Helper()
	result, err := s.Run(s.t.Context(), nexus.Op{Site: site, Args: nexus.Inspect{}})
	if err != nil {
		s.t.Fatal(err)
	}
	return *result.Site
}

// TestDoctorHalfClaimed: a claim was ended between the hand-over and the new name, and its job
// is lost with the registry. Intent, database and standby are removed.
func TestDoctorHalfClaimed(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	_, job := s.signup()
	ctx, stop := context.WithCancel(t.Context())
	slow, err := bench.NewSandbox(bench.SandboxOptions{Dir: s.dir, Install: install, Delay: time.Hour, Apps: map[string]string{"frappe": "16.1.0", "erpnext": "16.1.0"},
		Before: func(nexus.Op) error { stop(); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close() //nolint:errcheck // only a test
	if _, err := slow.Run(ctx, s.claimOf(job)); nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatal(err)
	}
	s.rdb.FlushAll(t.Context())
	s.mended(tasks.StaleIntent)
	if there := s.there(); len(there) > 0 {
		t.Errorf("left: %+v", there)
	}
}

// TestRebuildClaimed: the row of a claimed tenant is made from the site's marker, with the
// standby's database, and a cleanup removes the tenant by it.
func TestRebuildClaimed(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	_, job := s.signup()
	s.claim(job)
	op := s.claimOf(job)
	if op.Args = (nexus.Mark{State: nexus.TenantActive}); job.DB == job.ID.Database(install) {
		t.Fatal("the database is derived from the owner")
	}
	if _, err := s.Run(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	s.rdb.FlushAll(t.Context())
	if report := s.doctor(app.DoctorOptions{Rebuild: true}); len(report.Mended) != 1 || len(report.Findings)+len(report.Failed) > 0 {
		t.Fatalf("%+v", report)
	}
	row, err := s.store.Tenant(t.Context(), job.Site)
	if err != nil || row.DB != job.DB || row.MadeBy != job.ID || row.State != nexus.TenantActive {
		t.Errorf("%+v, %v", row, err)
	}
	s.nothing("after the rebuild")
}

// TestDoctorStuckClaim: a row in the making of a job that failed, whose site was a standby, is
// removed with its site. It is not taken for an adoption, although its database is derived
// from another job.
func TestDoctorStuckClaim(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	_, job := s.signup()
	s.claim(job)
	s.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), "state", "failed")
	report := s.doctor(app.DoctorOptions{Fix: true})
	if len(report.Mended) != 2 || len(report.Findings)+len(report.Failed) > 0 { // the row of the tenant, and that of the standby
		t.Errorf("%+v", report)
	}
	if _, err := s.store.Tenant(t.Context(), job.Site); nexus.CodeOf(err) != nexus.NotFound || s.inspect(job.Site).Folder || len(s.shelf().Standbys) > 0 {
		t.Errorf("left: %v, %+v, %+v", err, s.inspect(job.Site), s.shelf())
	}
}

// TestDoctorShelvesNoOld: a standby is not shelved if the bench's apps were changed since it
// was found.
func TestDoctorShelvesNoOld(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	s.rdb.FlushAll(t.Context())
	looks := 0
	s.found = func() { // after each list
		if looks++; looks == 1 {
			s.found = func() { s.open(t, "16.2.0") }
		}
	}
	if report := s.doctor(app.DoctorOptions{Fix: true}); len(report.Failed) != 1 || len(report.Mended) > 0 {
		t.Errorf("%+v", report)
	}
	s.want("in the end", 0, 0, 1)
}
