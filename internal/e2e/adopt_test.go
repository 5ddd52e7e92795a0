//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestAdopt adopts a site of 1.0. An adoption that fails, or is canceled after it has
// given a new key, leaves the site as it was. One that succeeds makes a tenant like any
// other.
func TestAdopt(t *testing.T) {
	s := newDockerStack(t, 1, 300*time.Millisecond)
	const site, admin = "old.localhost", "admin@example.com"
	db, look := s.box.Complete(t, site)
	old := gen.Credentials{Site: site, ApiKey: "0ldKey", ApiSecret: "0ldSecret"}
	s.box.Frappe(t, site, "install-app erpnext")
	s.box.Admin(t, site, db, admin, old.ApiKey, old.ApiSecret)
	before := look()

	adopt := func(input string, args ...string) (pair gen.Credentials, refused string, code int) {
		t.Helper()
		out, errs, code := s.nexus(input, append([]string{"adopt", site}, args...)...)
		var answer struct {
			gen.Credentials
			Success bool
			Error   struct{ Message string }
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Success != (code == 0) || strings.Contains(errs, s.box.RootPassword+"\n") {
			t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
		}
		return answer.Credentials, answer.Error.Message, code
	}
	if _, why, code := adopt("", "--email", admin, "--registered"); code != 1 || !strings.Contains(why, "register") {
		t.Errorf("not registered: exit %d, %s", code, why)
	}
	if _, why, code := adopt("wrong\n", "--email", admin); code != 1 || !strings.Contains(why, "root password") {
		t.Errorf("a wrong password: exit %d, %s", code, why)
	}
	if _, why, code := adopt(s.box.RootPassword+"\n", "--email", "nobody@example.com", "--new-key"); code != 1 || !strings.Contains(why, "nobody@example.com") {
		t.Errorf("an admin the site does not have: exit %d, %s", code, why)
	}
	user := fmt.Sprintf("UPDATE %s.tabUser SET enabled=%%d WHERE name='%s'", db, admin)
	s.box.SQL(t, fmt.Sprintf(user, 0))
	if _, why, code := adopt("", "--email", admin, "--new-key", "--registered"); code != 1 || !strings.Contains(why, "is disabled") {
		t.Errorf("an admin who is disabled: exit %d, %s", code, why)
	}
	s.box.SQL(t, fmt.Sprintf(user, 1))
	s.adoptionCanceled(site, admin)
	if after := look(); after != before {
		t.Errorf("adoptions that failed changed the site:\n%s\n%s", before, after)
	}
	if got := logged(t, "http://"+s.sites, site, old); got != http.StatusOK {
		t.Errorf("after adoptions that failed the old key answers with %d", got)
	}

	pair, why, code := adopt("", "--email", admin, "--plan", "business", "--new-key", "--registered")
	if code != 0 || pair.Site != site {
		t.Fatalf("exit %d, %s", code, why)
	}
	if got := logged(t, "http://"+s.sites, site, pair); got != http.StatusOK {
		t.Errorf("the key answers with %d", got)
	}
	tenant, err := s.client.Tenant(t.Context(), site)
	if err != nil || tenant.State != "active" || tenant.Plan != "business" || tenant.Email != admin {
		t.Errorf("%+v, %v", tenant, err)
	}
	if _, why, code := adopt("", "--email", admin, "--registered"); code != 1 {
		t.Errorf("a second time: exit %d, %s", code, why)
	}
	if out, _, code := s.nexus("", "doctor"); code != 0 {
		t.Errorf("the doctor of an adopted tenant: exit %d\n%s", code, out)
	}
	out, errs, code := s.nexus("", "tenants", "keys", "rotate", site)
	var fresh gen.Credentials
	if err := json.Unmarshal([]byte(out), &fresh); err != nil || code != 0 {
		t.Fatalf("a fresh key: exit %d, %v\n%s%s", code, err, out, errs)
	}
	if was, is := logged(t, "http://"+s.sites, site, pair), logged(t, "http://"+s.sites, site, fresh); was != http.StatusUnauthorized || is != http.StatusOK {
		t.Errorf("the old key answers with %d, the fresh one with %d", was, is)
	}

	down, err := s.client.Delete(t.Context(), site, true)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(down.Id, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s: %+v", job.State, job.Error)
	}
	if left := s.box.Left(t, nexus.SiteName(site), db); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// adoptionCanceled cancels an adoption while it waits for the bench's web server,
// which is asked with the new key.
func (s *dockerStack) adoptionCanceled(site, admin string) {
	s.t.Helper()
	newKey := true
	s.box.Frappe(s.t, nexus.SiteName(site), "set-config -g maintenance_mode 1")
	defer s.box.Frappe(s.t, nexus.SiteName(site), "set-config -g maintenance_mode 0")
	a, err := s.client.Adopt(s.t.Context(), site, gen.AdoptRequest{Email: admin, NewKey: &newKey}, "canceled")
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, time.Minute, "the new key is tried", func() bool { return s.record(a.JobId).step("verify").Attempts > 0 })
	if _, err := s.client.Cancel(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); err != nil {
		s.t.Fatal(err)
	}
	if job := s.end(a.JobId, time.Minute); job.State != gen.StateCanceled {
		s.t.Fatalf("%s: %+v", job.State, job.Error)
	}
}
