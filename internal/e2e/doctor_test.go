//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// tenants signs companies up and waits for their sites.
func (s *dockerStack) tenants(names ...string) map[string]gen.Accepted {
	s.t.Helper()
	out := map[string]gen.Accepted{}
	for _, name := range names {
		out[name] = s.signup(name, "jane@example.com")
	}
	for name, a := range out {
		if job := s.end(a.JobId, 2*time.Minute); job.State != gen.StateSucceeded {
			s.t.Fatalf("%s is %s: %+v", name, job.State, job.Error)
		}
	}
	return out
}

// failed makes a job that failed, by a signup for the name of an existing site.
func (s *dockerStack) failed(taken string, n int) nexus.JobID {
	s.t.Helper()
	a, err := s.client.Signup(s.t.Context(), gen.SignupRequest{Email: "jane@example.com", Password: "Passw0rdXyz", FullName: "Jane Doe",
		OrganizationName: taken, Subdomain: &taken}, fmt.Sprintf("failed-%s-%d", taken, n))
	if err != nil {
		s.t.Fatal(err)
	}
	if job := s.end(a.JobId, time.Minute); job.State != gen.StateFailed {
		s.t.Fatalf("%s: %+v", job.State, job.Error)
	}
	return nexus.JobID(a.JobId)
}

// config writes a site_config.json, with a marker unless install is empty.
func (s *dockerStack) config(folder, site, install, db, state string, job nexus.JobID) {
	s.t.Helper()
	marker := ""
	if install != "" {
		marker = fmt.Sprintf(`,"nexus":{"install":"%s","tenant":"%s","job":"%s","state":"%s","madeAt":"2026-01-02T03:04:05Z","apps":["frappe"]}`,
			install, site, job, state)
	}
	s.box.Sh(s.t, fmt.Sprintf(`mkdir -p %[1]s && echo '{"db_name":"%[2]s","db_password":"x"%[3]s}' > %[1]s/site_config.json`, folder, db, marker))
}

// strangers makes a site without an owner and one of another install. Same fails the
// test unless both are unchanged, byte for byte.
func (s *dockerStack) strangers(prefix string) (same func()) {
	s.t.Helper()
	look := s.box.Plant(s.t, nexus.SiteName(prefix+"theirs.localhost"))
	elsewhere := prefix + "elsewhere.localhost"
	lookElsewhere := s.box.Plant(s.t, nexus.SiteName(elsewhere))
	s.config("sites/"+elsewhere, elsewhere, "0000", "nx0000abcdefabcdefabcdef", "active", nexus.NewJobID())
	before := look() + lookElsewhere()
	return func() {
		s.t.Helper()
		if diff := cmp.Diff(before, look()+lookElsewhere()); diff != "" {
			s.t.Errorf("what is not ours was touched:\n%s", diff)
		}
	}
}

// database makes a registered database with its user, as a job does.
func (s *dockerStack) database(job nexus.JobID, user bool) (db string) {
	s.t.Helper()
	db = s.db(string(job))
	s.box.SQL(s.t, fmt.Sprintf("INSERT INTO nexus.register (name, install, job) VALUES ('%s', '%s', '%s')", db, s.install(), job))
	if user {
		s.box.SQL(s.t, fmt.Sprintf("CREATE USER %s", db))
	} else {
		s.box.SQL(s.t, fmt.Sprintf("CREATE DATABASE %s COMMENT 'nexus job=%s gen=1'", db, job))
	}
	return db
}

func (s *dockerStack) install() string {
	s.t.Helper()
	return fromRedis(s.t, s.rdb.Get(s.t.Context(), "{nexus}:install"))
}

// note writes an intent.
func (s *dockerStack) note(site string, job nexus.JobID) {
	s.t.Helper()
	s.box.Sh(s.t, fmt.Sprintf(`echo '{"job":"%s","db":"%s"}' > sites/.nexus/intent/%s`, job, s.db(string(job)), site))
}

// doctor runs nexus doctor and returns its findings as "kind site".
func (s *stack) doctor(args ...string) (found []string, code int) {
	s.t.Helper()
	out, errs, code := s.nexus("", append([]string{"doctor", "-o", "json"}, args...)...)
	var report struct {
		Findings []struct{ Kind, Site, What, Mend string }
		Failed   []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Failed) > 0 {
		s.t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	for _, f := range report.Findings {
		found = append(found, strings.TrimSpace(f.Kind+" "+f.Site))
		if f.What == "" || f.Mend == "" {
			s.t.Errorf("no sentence: %+v", f)
		}
	}
	slices.Sort(found)
	return found, code
}

func (s *stack) finds(want []string, args ...string) {
	s.t.Helper()
	found, code := s.doctor(args...)
	if diff := cmp.Diff(want, found); diff != "" || (code == 0) != (len(want) == 0) {
		s.t.Errorf("nexus doctor %v: exit %d\n%s", args, code, diff)
	}
}

// TestDoctor makes every difference that the doctor knows. The doctor finds each, mends
// what is safe, and changes nothing else.
func TestDoctor(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond)
	same := s.strangers("")
	s.tenants("one", "two")
	s.finds(nil)

	install, away := s.install(), "/tmp/one.localhost"
	s.box.Sh(t, "mv sites/one.localhost "+away)
	s.box.Sh(t, `sed -i 's/"state": "active"/"state": "suspended"/' sites/two.localhost/site_config.json`)
	dead := s.failed("theirs", 1)
	s.config("sites/dead.localhost", "dead.localhost", install, s.database(dead, false), "making", dead)
	s.database(s.failed("theirs", 2), false)
	s.database(s.failed("theirs", 3), true)
	noted := nexus.NewJobID()
	s.note("noted.localhost", noted)
	going := nexus.NewJobID()
	s.config("sites/.nexus/trash/"+s.db(string(going))+"-1-1", "going.localhost", install, s.db(string(going)), "deleting", going)
	s.config("archived/sites/old.localhost", "old.localhost", install, s.db(string(going)), "active", going)
	stuck := "{nexus}:tenant:stuck.localhost"
	s.rdb.HSet(t.Context(), stuck, "state", "making", "madeBy", string(nexus.NewJobID()), "db", "")
	s.rdb.ZAdd(t.Context(), "{nexus}:tenants", redis.Z{Member: "stuck.localhost"})

	forPeople := []string{"missing_site one.localhost", "old_archive old.localhost", "other_state two.localhost"}
	all := append([]string{"orphan_database theirs.localhost", "orphan_database theirs.localhost", "orphan_site dead.localhost",
		"stale_intent noted.localhost", "stale_trash going.localhost", "stuck_tenant stuck.localhost"}, forPeople...)
	slices.Sort(all)
	s.finds(all)
	s.finds(all) // the doctor changes nothing without --fix
	s.finds(forPeople, "--fix")
	s.finds(forPeople[:2], "--open", "two")
	for site, job := range map[string]nexus.JobID{"dead.localhost": dead, "noted.localhost": noted, "going.localhost": going} {
		if left := s.box.Left(t, nexus.SiteName(site), s.db(string(job))); len(left) > 0 {
			t.Errorf("%s: left behind: %v", site, left)
		}
	}
	if fromRedis(t, s.rdb.Exists(t.Context(), stuck)) != 0 {
		t.Error("a row that waited for nothing is left")
	}
	if status := s.ping("two.localhost"); status != http.StatusOK {
		t.Errorf("the site that is open in the registry answers with %d", status)
	}
	s.box.Sh(t, "mv "+away+" sites/ && rm -rf archived/sites/old.localhost")
	s.finds(nil)
	same()
}

// TestCopiedFolder copies a site's folder, as an operator may do to try something. The
// copy is not a tenant, --rebuild does not make it one, and a removal of either leaves
// the database. Once the copy is gone, the parked removal continues.
func TestCopiedFolder(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond)
	s.tenants("one")
	s.box.Sh(t, "cp -a sites/one.localhost sites/copy.localhost")
	copied := []string{"other_owner copy.localhost"}
	s.finds(copied)
	s.finds(copied, "--fix", "--rebuild")
	if out, errs, code := s.nexus("", "cleanup", "copy", "--yes"); code != 0 || !strings.Contains(out, "Nothing that may be removed matches copy.") {
		t.Errorf("cleanup of the copy: exit %d\n%s%s", code, out, errs)
	}
	if status := s.ping("one.localhost"); status != http.StatusOK {
		t.Fatalf("the site answers with %d", status)
	}
	down, err := s.client.Delete(t.Context(), "one.localhost", true)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateRollbackFailed || !strings.Contains(job.Error.Message, "copy.localhost") {
		t.Fatalf("the removal beside a copy is %s: %+v", job.State, job.Error)
	}
	if n := s.box.SQL(t, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'nx%' AND schema_name IN (SELECT name FROM nexus.register)"); n == "0" {
		t.Error("the database is gone")
	}
	s.box.Sh(t, "rm -rf sites/copy.localhost")
	if _, err := s.client.Resume(t.Context(), down.Id); err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("resumed: %s, %+v", job.State, job.Error)
	}
	s.finds(nil)
}

// TestRebuild loses the registry except for the install id. The doctor makes the rows
// from the markers, and these tenants work like any other.
func TestRebuild(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond)
	same := s.strangers("")
	accepted := s.tenants("one", "two")
	before, err := s.client.Tenant(t.Context(), "one.localhost")
	if err != nil {
		t.Fatal(err)
	}
	install := s.install()
	s.rdb.FlushAll(t.Context())
	if out, errs, code := s.nexus("", "doctor", "--rebuild"); code != 1 || !strings.Contains(errs, "SET {nexus}:install "+install) {
		t.Errorf("a registry of another id: exit %d\n%s%s", code, out, errs)
	}
	s.rdb.Set(t.Context(), "{nexus}:install", install, 0)

	lost := []string{"unrecorded_site one.localhost", "unrecorded_site two.localhost"}
	s.finds(lost)
	s.finds(lost, "--fix") // --fix does not drop them
	s.finds(nil, "--rebuild")
	after, err := s.client.Tenant(t.Context(), "one.localhost")
	if err != nil || after.State != before.State || after.Plan != before.Plan || after.Email != before.Email || after.Bench != before.Bench ||
		value(after.MadeBy) != value(before.MadeBy) {
		t.Errorf("%v\n%s", err, cmp.Diff(before, after))
	}
	down, err := s.client.Delete(t.Context(), "one.localhost", true)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("the teardown of a rebuilt tenant is %s: %+v", job.State, job.Error)
	}
	s.gone("one.localhost", accepted["one"].JobId)
	if status := s.ping("two.localhost"); status != http.StatusOK {
		t.Errorf("the other one answers with %d", status)
	}
	same()
}
