//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const (
	master    = "erp.localhost"
	goodWord  = "Tr4velling-Horse" // the master site's policy accepts it
	keyOfBoss = "bosskey0123:bosssecret0123"
)

// road forwards to the master site. It can be closed, and it can drop the answer to one
// request that the site has carried out.
type road struct {
	http.Handler
	url    string
	closed atomic.Bool
	keep   atomic.Pointer[string] // "METHOD /path", as it begins
	kept   chan struct{}
}

func newRoad(t *testing.T, addr string) *road {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: addr}
	r := &road{kept: make(chan struct{}, 1), Handler: &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		host := p.In.Host
		p.SetURL(to)
		p.Out.Host = host
	}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.closed.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		want := r.keep.Load()
		if want == nil || !strings.HasPrefix(request.Method+" "+request.URL.Path, *want) || !r.keep.CompareAndSwap(want, nil) {
			r.ServeHTTP(w, request)
			return
		}
		r.ServeHTTP(httptest.NewRecorder(), request)
		r.kept <- struct{}{}
		<-request.Context().Done()
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// singleStack is an API and workers in single-tenant mode with a master site on the
// stand-in bench, made as an operator makes one, with users on it.
type singleStack struct {
	*stack
	box  *standin.Box
	road *road
}

func newSingleStack(t *testing.T, workers int) *singleStack {
	t.Helper()
	b := standin.Start(t, 300*time.Millisecond)
	s := &singleStack{box: standin.NewBox(t, b.Name, b.RootPassword), road: newRoad(t, b.Addr)}
	db := "_" + string(nexus.NewJobID())
	t.Cleanup(func() { s.box.SQL(t, fmt.Sprintf("DROP DATABASE IF EXISTS %[1]s; DROP USER IF EXISTS %[1]s", db)) })
	s.box.Sh(t, fmt.Sprintf(`cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe new-site %s --db-name %s --db-root-password "$MYSQL_PWD" --admin-password Adm1nOfOldTimes --mariadb-user-host-login-scope=%%`, master, db))
	key, secret, _ := strings.Cut(keyOfBoss, ":")
	s.python(t, fmt.Sprintf(`
for name, more in (("boss", {"roles": [{"role": "System Manager"}], "api_key": "%s", "api_secret": "%s"}), ("carl", {"roles": [{"role": "Sales User"}]})):
    frappe.get_doc({"doctype": "User", "email": name + "@example.com", "first_name": name, "send_welcome_email": 0, **more}).insert()`, key, secret))
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.stack = bareStack(t, "NEXUS_MODE=single", "ERP_NEXT_URL="+s.road.url, "FRAPPE_SITE_NAME="+master, "ERP_API_KEY="+key,
		"ERP_API_SECRET_FILE="+file, "NEXUS_ADMIN_ROLES=Sales User")
	s.sites = b.Addr
	s.startAPI()
	s.startWorkers(workers)
	return s
}

// python runs lines on the master site.
func (s *singleStack) python(t *testing.T, lines string) string {
	t.Helper()
	return s.box.Sh(t, "cd sites && ../env/bin/python - <<'END'\nimport frappe\nfrappe.init(\""+master+"\")\nfrappe.connect()\n"+lines+"\nfrappe.db.commit()\nEND")
}

// look is the state of the master site without the users that signed up.
func (s *singleStack) look(t *testing.T) string {
	return s.box.Sh(t, "ls sites; sha256sum sites/"+master+"/site_config.json") + s.python(t, `
old = ("Administrator", "Guest", "boss@example.com", "carl@example.com")
for query in ("select * from tabUser where name in %s order by name", "select doctype, name, fieldname, password from __Auth where name in %s order by 1, 2, 3",
              "select parent, role from `+"`tabHas Role`"+` where parent in %s order by 1, 2"):
    print(frappe.db.sql(query, [old]))
print(frappe.db.sql("select name, disabled from tabRole order by name"), frappe.db.sql("select * from tabSingles where doctype = 'System Settings' order by field"))
print(sorted(frappe.db.get_tables(cached=False)))`)
}

// users are those who signed up, and whether each can log in.
func (s *singleStack) users(t *testing.T) string {
	return s.python(t, `
for row in frappe.db.sql("select name, enabled, (select count(*) from `+"`tabHas Role`"+` r where r.parent = u.name), coalesce(api_key, '') != '' from tabUser u"
    " where name not in ('Administrator', 'Guest', 'boss@example.com', 'carl@example.com') order by name"):
    print(*row)`)
}

func (s *singleStack) ask(email, password, key string) (gen.Accepted, error) {
	s.t.Helper()
	address := "any-name"
	return s.client.Signup(s.t.Context(), gen.SignupRequest{Email: email, Password: password, FullName: "Jane Doe", OrganizationName: "Acme", Subdomain: &address}, key)
}

func (s *singleStack) asked(email, password string) gen.Accepted {
	s.t.Helper()
	accepted, err := s.ask(email, password, string(nexus.NewJobID()))
	if err != nil {
		s.t.Fatal(err)
	}
	return accepted
}

// row is the registry's name for an e-mail.
func (s *singleStack) row(email string) string {
	s.t.Helper()
	list, err := s.client.Tenants(s.t.Context(), "", "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, tenant := range list.Tenants {
		if tenant.Email == email {
			return tenant.Site
		}
	}
	s.t.Fatalf("there is no row for %s in %+v", email, list.Tenants)
	return ""
}

func (s *singleStack) pair(a gen.Accepted) gen.Credentials {
	s.t.Helper()
	pair, err := s.client.Credentials(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken), "pick-up")
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

func (s *singleStack) succeeds(id string) {
	s.t.Helper()
	if job := s.end(id, time.Minute); job.State != gen.StateSucceeded {
		s.t.Fatalf("%s %s: %+v", job.Kind, job.State, job.Error)
	}
}

// TestSingle signs people up on a master site, refuses some, suspends and removes them,
// and leaves everything else on the site as it was.
func TestSingle(t *testing.T) {
	s := newSingleStack(t, 2)
	before := s.look(t)
	eventually(t, 20*time.Second, "api and workers checked the master site", func() bool {
		return strings.Count(strings.Join(s.log.all(), "\n"), "master site checked") == 3
	})

	jane := s.asked("Jane@example.com", goodWord)
	s.succeeds(jane.JobId)
	pair := s.pair(jane)
	for what, got := range map[string][2]string{"signup": {jane.Site, jane.Url}, "credentials": {pair.Site, pair.Url}} {
		if got != [2]string{master, s.road.url} {
			t.Errorf("%s answered %v", what, got)
		}
	}
	if got := logged(t, "http://"+s.sites, master, pair); got != http.StatusOK {
		t.Errorf("the key answers with %d", got)
	}
	if got := s.users(t); got != "jane@example.com 1 1 1" {
		t.Errorf("users: %s", got)
	}

	_, err := s.ask("jane@EXAMPLE.com", goodWord, "another-key")
	if e := err; nexus.CodeOf(e) != nexus.Conflict || !strings.Contains(nexus.MessageOf(e), "e-mail") {
		t.Errorf("the same e-mail again: %v", err)
	}
	for email, want := range map[string]struct {
		password, word string
		code           nexus.Code
	}{
		"joe@example.com":  {"Passw0rdXyz", "password", nexus.Invalid}, // Nexus accepts it, the site does not
		"Carl@example.com": {goodWord, "already", nexus.Conflict},      // was there before
	} {
		job := s.end(s.asked(email, want.password).JobId, time.Minute)
		if job.State != gen.StateFailed || job.Error.Code != string(want.code) || value(job.Error.Step) != "user" || !strings.Contains(job.Error.Message, want.word) {
			t.Errorf("%s: %s %+v", email, job.State, job.Error)
		}
	}
	s.succeeds(s.asked("joe@example.com", goodWord).JobId) // a better password

	site := s.row("Jane@example.com")
	s.suspended(site, pair)
	down, err := s.client.Delete(t.Context(), site, true)
	if err != nil {
		t.Fatal(err)
	}
	s.succeeds(down.Id)
	if got := s.users(t); got != "joe@example.com 1 1 1" {
		t.Errorf("users after the removal: %s", got)
	}
	s.succeeds(s.asked("jane@example.com", goodWord).JobId) // the e-mail is free again

	for what, do := range map[string]func() error{
		"delete": func() error { _, err := s.client.Delete(t.Context(), master, true); return err },
		"adopt": func() error {
			_, err := s.client.Adopt(t.Context(), master, gen.AdoptRequest{Email: "boss@example.com"}, "")
			return err
		},
	} {
		if err := do(); nexus.CodeOf(err) != nexus.Forbidden {
			t.Errorf("%s of the master site: %v", what, err)
		}
	}
	if after := s.look(t); after != before {
		t.Errorf("the master site was touched:\n%s\n%s", before, after)
	}
	for _, line := range s.log.all() {
		if strings.Contains(line, "bosssecret0123") || strings.Contains(line, goodWord) {
			t.Errorf("a secret in the log: %s", line)
		}
	}
}

// suspended closes an account and opens it again.
func (s *singleStack) suspended(site string, pair gen.Credentials) {
	s.t.Helper()
	closed, err := s.client.Delete(s.t.Context(), site, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.succeeds(closed.Id)
	if got := logged(s.t, "http://"+s.sites, master, pair); got != http.StatusUnauthorized {
		s.t.Errorf("the key of a suspended account answers with %d", got)
	}
	opened, err := s.client.Restore(s.t.Context(), site)
	if err != nil {
		s.t.Fatal(err)
	}
	s.succeeds(opened.Id)
	if got := logged(s.t, "http://"+s.sites, master, pair); got != http.StatusOK {
		s.t.Errorf("the key of a restored account answers with %d", got)
	}
}

// TestSingleWorkerKilled kills the worker after each write that the site has carried
// out, before the answer arrives. The next worker continues, and there is one user with
// one key.
func TestSingleWorkerKilled(t *testing.T) {
	s := newSingleStack(t, 1)
	before := s.look(t)
	kill := func(email, request string, removing bool) {
		t.Helper()
		s.road.keep.Store(&request)
		id, accepted := "", gen.Accepted{}
		if removing {
			down, err := s.client.Delete(t.Context(), s.row(email), true)
			if err != nil {
				t.Fatal(err)
			}
			id = down.Id
		} else {
			accepted = s.asked(email, goodWord)
			id = accepted.JobId
		}
		select {
		case <-s.road.kept:
		case <-time.After(30 * time.Second):
			t.Fatalf("no %s came", request)
		}
		s.workers[len(s.workers)-1].end(syscall.SIGKILL)
		s.startWorkers(1)
		s.succeeds(id)
		if removing {
			return
		}
		if got := s.users(t); got != email+" 1 1 1" {
			t.Errorf("%s: users: %s", request, got)
		}
		if got := logged(t, "http://"+s.sites, master, s.pair(accepted)); got != http.StatusOK {
			t.Errorf("%s: the key answers with %d", request, got)
		}
	}
	for email, request := range map[string]string{"ann@example.com": "POST /api/method/frappe.client.insert", "ben@example.com": "PUT /api/resource/User/"} {
		kill(email, request, false)
		kill(email, "DELETE /api/resource/User/", true)
		if got := s.users(t); got != "" {
			t.Errorf("left after the removal: %s", got)
		}
	}
	if after := s.look(t); after != before {
		t.Errorf("the master site was touched:\n%s\n%s", before, after)
	}
}

// TestSingleWaits has a master site that is away, and one that accepts no more users
// this hour: signups wait, and can be canceled. A user who removed his mark is neither
// changed nor reported as gone.
func TestSingleWaits(t *testing.T) {
	s := newSingleStack(t, 1)
	waits := func(id string, want gen.Wait) {
		t.Helper()
		eventually(t, 30*time.Second, "it waits for "+string(want), func() bool {
			job, _, _, err := s.client.Job(t.Context(), id, "", 0)
			return err == nil && job.State == gen.StateWaiting && value(job.WaitingFor) == want && value(job.WaitingNote) != ""
		})
	}
	s.road.closed.Store(true)
	away := s.asked("away@example.com", goodWord)
	waits(away.JobId, gen.Wait(nexus.WaitBench))
	s.python(t, "from frappe.installer import update_site_config\nupdate_site_config(\"throttle_user_limit\", 1)") // by another road
	s.road.closed.Store(false)
	full := s.asked("full@example.com", goodWord)
	waits(full.JobId, gen.Wait(nexus.WaitCapacity))
	s.python(t, "from frappe.installer import update_site_config\nupdate_site_config(\"throttle_user_limit\", 60)")
	for _, a := range []gen.Accepted{away, full} {
		if _, err := s.client.Cancel(t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); err != nil {
			t.Fatal(err)
		}
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateCanceled {
			t.Errorf("%s: %+v", job.State, job.Error)
		}
	}
	if got := s.users(t); got != "" {
		t.Errorf("users: %s", got)
	}

	sly := s.asked("sly@example.com", goodWord)
	s.succeeds(sly.JobId)
	pair := s.pair(sly)
	s.strip("sly@example.com", pair)
	closed, err := s.client.Delete(t.Context(), s.row("sly@example.com"), false)
	if err != nil {
		t.Fatal(err)
	}
	if job := s.end(closed.Id, time.Minute); job.State != gen.StateFailed && job.State != gen.StateRollbackFailed || !strings.Contains(job.Error.Message, "mark") {
		t.Errorf("%s: %+v", job.State, job.Error)
	}
	if got := s.users(t); got != "sly@example.com 1 1 1" {
		t.Errorf("users: %s", got)
	}
}

// strip removes the mark, as the user may through the API.
func (s *singleStack) strip(email string, pair gen.Credentials) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, "http://"+s.sites+"/api/resource/User/"+email,
		strings.NewReader(`{"social_logins": [], "roles": [{"role": "System Manager"}], "api_key": "stolen"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Host = master
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "token "+pair.ApiKey+":"+pair.ApiSecret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("the user's own document: %d", response.StatusCode)
	}
}

// TestSingleMasterBesides names a master site in multi-tenant mode, with a wrong key:
// there is only a warning, and the site's name is reserved.
func TestSingleMasterBesides(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ping") {
			_, _ = w.Write([]byte(`{"message": "pong"}`))
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"exc_type": "AuthenticationError"}`))
	}))
	t.Cleanup(site.Close)
	s := newStack(t, 1, "ERP_NEXT_URL="+site.URL, "FRAPPE_SITE_NAME=mother.localhost", "ERP_API_KEY=key-of-nobody", "ERP_API_SECRET=secret-of-nobody")
	eventually(t, 20*time.Second, "api and worker warn", func() bool {
		said := strings.Join(s.log.all(), "\n")
		return strings.Count(said, "must check ERP_API_KEY") >= 2
	})
	name := "mother"
	_, err := s.client.Signup(t.Context(), gen.SignupRequest{Email: "jane@example.com", Password: goodWord, FullName: "Jane Doe", OrganizationName: "Mother", Subdomain: &name}, "")
	if nexus.CodeOf(err) != nexus.Conflict || !strings.Contains(nexus.MessageOf(err), "reserved") {
		t.Errorf("the master's name: %v", err)
	}
	if free, err := s.client.Subdomain(t.Context(), name); err != nil || free.Available || value(free.Suggestion) == name {
		t.Errorf("the master's name, asked for: %+v, %v", free, err)
	}
	derived, err := s.client.Signup(t.Context(), gen.SignupRequest{Email: "jane@example.com", Password: goodWord, FullName: "Jane Doe", OrganizationName: "Mother"}, "")
	if err != nil || derived.Site == "mother.localhost" {
		t.Fatalf("the master's name, derived: %+v, %v", derived, err)
	}
	if job := s.end(derived.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("%s: %+v", job.State, job.Error)
	}
	if _, err := s.client.Adopt(t.Context(), "mother.localhost", gen.AdoptRequest{Email: "jane@example.com"}, ""); nexus.CodeOf(err) != nexus.Forbidden {
		t.Errorf("the master adopted: %v", err)
	}
	for _, line := range s.log.all() {
		if strings.Contains(line, "secret-of-nobody") {
			t.Errorf("a secret in the log: %s", line)
		}
	}
}

// TestSingleNeeds starts without the settings that single-tenant mode needs: each is
// named in one sentence, all at once, and without a secret.
func TestSingleNeeds(t *testing.T) {
	for _, tc := range []struct{ name, env, want string }{
		{"nothing", "", "ERP_NEXT_URL is needed; FRAPPE_SITE_NAME is needed; ERP_API_KEY is needed; ERP_API_SECRET is needed"},
		{"a password in the address", "ERP_NEXT_URL=http://me:hush-hush@erp.localhost FRAPPE_SITE_NAME=erp.localhost ERP_API_KEY=k ERP_API_SECRET=hush-hush", "ERP_NEXT_URL is not an address"},
		{"a site that is none", "ERP_NEXT_URL=http://erp.localhost FRAPPE_SITE_NAME=../x ERP_API_KEY=k ERP_API_SECRET=hush-hush", `FRAPPE_SITE_NAME: "../x"`},
		{"no such mode", "NEXUS_MODE=some", "NEXUS_MODE:"},
		{"the mode's bench by hand", "NEXUS_MODE=multi NEXUS_BENCH=master", "NEXUS_BENCH:"},
	} {
		for _, name := range []string{"api", "worker"} {
			cmd := exec.Command(filepath.Join(binaries, name))
			cmd.Env = append([]string{"NEXUS_MODE=single"}, strings.Fields(tc.env)...)
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 2 || strings.Contains(string(out), "hush-hush") {
				t.Errorf("%s, %s: %v\n%s", tc.name, name, cmd.ProcessState, out)
			}
			var line struct{ Problems []string }
			if err := json.Unmarshal(out, &line); err != nil {
				t.Errorf("%s, %s: not one line of JSON: %v\n%s", tc.name, name, err, out)
			}
			for want := range strings.SplitSeq(tc.want, "; ") {
				if !strings.Contains(strings.Join(line.Problems, "\n"), want) {
					t.Errorf("%s, %s: nothing of %q in\n%s", tc.name, name, want, out)
				}
			}
		}
	}
}
