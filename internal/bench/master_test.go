package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const masterSite = nexus.SiteName("erp.example.com")

func personSite(email string) nexus.SiteName {
	return nexus.SiteName(strings.NewReplacer("@", "-at-").Replace(strings.ToLower(email))) + "." + masterSite
}

// frappe is a fake master site with the calls that Master uses.
type frappe struct {
	t     *testing.T
	mu    sync.Mutex
	users map[string]map[string]any
	clock int
	asked []string // method and path of the writes
	// answer may answer instead of the site, or change something before it does.
	answer func(w http.ResponseWriter, r *http.Request) (done bool)
	lose   string // the method whose answer is lost, once
	url    string
}

func newFrappe(t *testing.T) (*frappe, *bench.Master) {
	t.Helper()
	f := &frappe{t: t, users: map[string]map[string]any{"keeper@example.com": {"name": "keeper@example.com", "enabled": 1, "modified": "0",
		"roles": []any{map[string]any{"role": "System Manager"}}}}}
	server := httptest.NewServer(f)
	f.url = server.URL
	m := f.master()
	t.Cleanup(func() {
		_ = m.Close()
		server.Close()
	})
	return f, m
}

func (f *frappe) master() *bench.Master {
	return bench.NewMaster(bench.MasterOptions{URL: f.url, Site: masterSite, Key: "MasterKey1", Secret: "MasterSecret1", Install: "9f3c", Name: personSite})
}

func (f *frappe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Host != string(masterSite) {
		f.t.Errorf("asked as %s", r.Host)
	}
	if f.answer != nil && f.answer(w, r) {
		return
	}
	if f.lose == r.Method {
		f.lose = ""
		f.serve(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	f.serve(w, r)
}

func (f *frappe) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		f.asked = append(f.asked, r.Method)
	}
	name, _ := strings.CutPrefix(r.URL.Path, "/api/resource/User/")
	user := f.users[name]
	switch token := r.Header.Get("Authorization"); {
	case r.URL.Path == "/api/method/ping":
		respond(w, 200, map[string]any{"message": "pong"})
	case r.URL.Path == "/api/method/frappe.auth.get_logged_user" && token == "token MasterKey1:MasterSecret1":
		respond(w, 200, map[string]any{"message": "keeper@example.com"})
	case r.URL.Path == "/api/method/frappe.auth.get_logged_user":
		for name, user := range f.users {
			if token == fmt.Sprintf("token %v:%v", user["api_key"], user["api_secret"]) && user["enabled"] == 1 {
				respond(w, 200, map[string]any{"message": name})
				return
			}
		}
		respond(w, 401, map[string]any{"exc_type": "AuthenticationError"})
	case token != "token MasterKey1:MasterSecret1":
		respond(w, 401, map[string]any{"exc_type": "AuthenticationError", "exception": "frappe.exceptions.AuthenticationError"})
	case r.URL.Path == "/api/resource/User":
		f.list(w, r)
	case r.URL.Path == "/api/method/run_doc_method":
		f.rename(w, r)
	case r.Method == http.MethodPost:
		f.insert(w, r)
	case user == nil:
		respond(w, 404, map[string]any{"exc_type": "DoesNotExistError"})
	case r.Method == http.MethodDelete:
		delete(f.users, name)
		respond(w, 202, map[string]any{"data": "ok"})
	case r.Method == http.MethodPut:
		body := read(r)
		if body["modified"] != user["modified"] {
			respond(w, 417, said("TimestampMismatchError", "Message", "Error: Document has been modified after you have opened it"))
			return
		}
		f.write(user, body)
		fallthrough
	default:
		respond(w, 200, map[string]any{"data": user})
	}
}

// rename is Document.rename, called by run_doc_method: compared with what was read.
func (f *frappe) rename(w http.ResponseWriter, r *http.Request) {
	body := read(r)
	var doc struct{ Doctype, Name, Modified string }
	if err := json.Unmarshal([]byte(body["docs"].(string)), &doc); err != nil || doc.Doctype != "User" || body["method"] != "rename" {
		f.t.Errorf("asked to %v %v", body["method"], body["docs"])
	}
	user := f.users[doc.Name]
	switch {
	case user == nil:
		respond(w, 404, map[string]any{"exc_type": "DoesNotExistError"})
	case user["modified"] != doc.Modified:
		respond(w, 417, said("TimestampMismatchError", "Message", "Error: Document has been modified after you have opened it"))
	default:
		name := body["args"].(map[string]any)["name"].(string)
		delete(f.users, doc.Name)
		f.clock++
		user["name"], user["modified"] = name, fmt.Sprint(f.clock)
		f.users[name] = user
		respond(w, 200, map[string]any{"message": nil})
	}
}

func (f *frappe) insert(w http.ResponseWriter, r *http.Request) {
	doc, _ := read(r)["doc"].(map[string]any)
	name := strings.ToLower(doc["email"].(string))
	if f.users[name] != nil {
		respond(w, 409, said("DuplicateEntryError", "Duplicate Name", "User <strong>"+name+"</strong> already exists"))
		return
	}
	f.users[name] = map[string]any{"name": name}
	f.write(f.users[name], doc)
	respond(w, 200, map[string]any{"message": f.users[name]})
}

func (f *frappe) write(user, body map[string]any) {
	f.clock++
	maps.Copy(user, body)
	if name, ok := body["first_name"].(string); ok {
		user["first_name"] = strings.ReplaceAll(name, "&", "&amp;")
	}
	user["modified"], user["enabled"] = fmt.Sprint(f.clock), int(body["enabled"].(float64))
}

func (f *frappe) list(w http.ResponseWriter, r *http.Request) {
	var filters [][4]string
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
		f.t.Error(err)
	}
	rows := []any{}
	for _, name := range slices.Sorted(maps.Keys(f.users)) {
		logins, _ := f.users[name]["social_logins"].([]any)
		if len(filters) == 0 {
			rows = append(rows, map[string]any{"name": name})
		}
		for _, each := range logins {
			login, _ := each.(map[string]any)
			if want := filters; len(want) == 2 && login["provider"] == want[0][3] && strings.HasPrefix(login["userid"].(string), strings.TrimSuffix(want[1][3], "%")) {
				rows = append(rows, map[string]any{"name": name, "userid": login["userid"], "username": login["username"]})
			}
		}
	}
	respond(w, 200, map[string]any{"data": rows})
}

func read(r *http.Request) (body map[string]any) {
	_ = json.NewDecoder(r.Body).Decode(&body)
	if body["enabled"] == nil {
		body["enabled"] = 1.0 // as it was: no test leaves it out on a disabled user
	}
	return body
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// said is a refusal with the wording of Frappe 15, including the traceback.
func said(kind, title, text string) map[string]any {
	one, _ := json.Marshal(map[string]any{"message": text, "title": title, "indicator": "red"})
	list, _ := json.Marshal([]string{string(one)})
	trace, _ := json.Marshal([]string{"Traceback (most recent call last): new_password = 'Secret-Horse-7', secret = 'MasterSecret1'"})
	return map[string]any{"exc_type": kind, "exception": "frappe.exceptions." + kind + ": " + text, "exc": string(trace), "_server_messages": string(list)}
}

func masterOp(args nexus.Args, gen nexus.Gen) nexus.Op {
	return nexus.Op{Site: personSite("Jane@example.com"), DB: janeDB, Owner: "job1", Gen: gen, Email: "Jane@example.com", Args: args}
}

var janeDB = nexus.JobID("job1").Database("9f3c")

var jane = nexus.EnsureUser{Email: "Jane@example.com", FullName: "Jane Doe", Roles: []string{"Sales User"}, Password: "Secret-Horse-7"}

// TestMasterLife follows one user from signup to removal; each operation runs twice and
// must take effect once.
func TestMasterLife(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	gen := nexus.Gen(100)
	run := func(args nexus.Args, change func(*nexus.Op)) nexus.Result {
		t.Helper()
		var first nexus.Result
		for i := range 2 {
			gen++
			op := masterOp(args, gen)
			if change != nil {
				change(&op)
			}
			result, err := m.Run(t.Context(), op)
			if err != nil {
				t.Fatalf("%s: %v", args.Op(), err)
			}
			if i == 0 {
				first = result
			}
		}
		return first
	}
	run(nexus.NewSite{}, nil)
	run(jane, nil)
	key := nexus.IssueKey{Email: "Jane@example.com", Key: "k-of-jane", Secret: "s-of-jane"}
	if result := run(key, nil); !result.Changed {
		t.Error("a first key changed nothing")
	}
	run(nexus.ApplyPlan{Plan: "free"}, nil)
	run(nexus.Verify{Email: "Jane@example.com", Key: key.Key, Secret: key.Secret}, nil)
	run(nexus.Mark{State: nexus.TenantActive}, nil)
	if len(f.users) != 2 || f.users["jane@example.com"]["send_welcome_email"] != 0.0 {
		t.Fatalf("users: %v", f.users)
	}
	later := func(op *nexus.Op) { op.Email = "" } // as the jobs on a tenant
	for state, enabled := range map[nexus.TenantState]int{nexus.TenantSuspended: 0, nexus.TenantActive: 1} {
		run(nexus.Mark{State: state}, later)
		if f.users["jane@example.com"]["enabled"] != enabled {
			t.Errorf("%s: %v", state, f.users["jane@example.com"])
		}
	}
	if site := run(nexus.Inspect{}, later).Site; !site.Folder || site.Job != "job1" || site.DB != janeDB {
		t.Errorf("inspected: %+v", site)
	}
	if list := run(nexus.Inventory{}, nil).Inventory.Sites; len(list) != 1 || list[0].Site != personSite("jane@example.com") || list[0].DB != janeDB || list[0].Job != "job1" {
		t.Errorf("inventory: %+v", list)
	}
	if result := run(nexus.DropSite{}, later); !result.Changed || len(f.users) != 1 {
		t.Errorf("dropped: %+v, left %v", result, f.users)
	}
	if site := run(nexus.Inspect{}, later).Site; site.Folder || site.Database {
		t.Errorf("inspected after the end: %+v", site)
	}
	if _, err := m.Run(t.Context(), masterOp(nexus.Mark{State: nexus.TenantDeleting}, gen)); nexus.CodeOf(err) != nexus.NotFound {
		t.Errorf("marked after the end: %v", err)
	}
	for _, args := range []nexus.Args{nexus.Clone{}, nexus.Freeze{}, nexus.Shelve{}, nexus.Warm{}, nexus.Claim{}, nexus.Standbys{}, nexus.Adopt{}} {
		if _, err := m.Run(t.Context(), masterOp(args, gen)); nexus.CodeOf(err) != nexus.Invalid {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
}

// TestMasterLostAnswers loses the answer to each write: the next attempt must find what was
// done.
func TestMasterLostAnswers(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	gen := nexus.Gen(0)
	for _, step := range []struct {
		lose string
		args nexus.Args
	}{
		{http.MethodPost, jane},
		{http.MethodPut, nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"}},
		{http.MethodPut, nexus.Mark{State: nexus.TenantActive}},
		{http.MethodDelete, nexus.DropSite{}},
	} {
		gen++
		f.lose = step.lose
		if _, err := m.Run(t.Context(), masterOp(step.args, gen)); nexus.CodeOf(err) != nexus.Unavailable {
			t.Errorf("%s, answer lost: %v", step.args.Op(), err)
		}
		if _, err := m.Run(t.Context(), masterOp(step.args, gen)); err != nil {
			t.Errorf("%s, again: %v", step.args.Op(), err)
		}
	}
	if len(f.users) != 1 {
		t.Errorf("left: %v", f.users)
	}
}

func marked(db, username string) map[string]any {
	return map[string]any{"name": "jane@example.com", "enabled": 1, "modified": "7", "api_key": "theirs",
		"social_logins": []any{map[string]any{"provider": "nexus", "userid": db, "username": username}}}
}

// TestMasterOthers meets a user with the same address that is not this job's.
func TestMasterOthers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		user map[string]any
		want nexus.Code // of making the user; empty: made anew
	}{
		{"made by hand", map[string]any{"name": "jane@example.com", "enabled": 1, "modified": "7"}, nexus.Conflict},
		{"of another install", marked("0000-job9", "making 1"), nexus.Conflict},
		{"handed out to somebody", marked("9f3c-job9", "active 1"), nexus.Conflict},
		{"suspended", marked("9f3c-job9", "suspended 1"), nexus.Conflict},
		{"being made by a newer run", marked("9f3c-job9", "making 900"), nexus.Conflict},
		{"a mark nobody can read", marked("9f3c-job9", "making"), nexus.Conflict},
		{"left by a run whose job was undone", marked("9f3c-job9", "making 1"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, m := newFrappe(t)
			f.users["jane@example.com"] = tc.user
			before := fmt.Sprint(tc.user)
			_, err := m.Run(t.Context(), masterOp(jane, 100))
			if nexus.CodeOf(err) != tc.want {
				t.Fatalf("%v", err)
			}
			if tc.want == "" {
				if f.users["jane@example.com"]["first_name"] != "Jane Doe" || f.users["jane@example.com"]["api_key"] != nil {
					t.Errorf("not made anew: %v", f.users["jane@example.com"])
				}
				return
			}
			if _, err := m.Run(t.Context(), masterOp(nexus.DropSite{}, 101)); err != nil {
				t.Errorf("undone: %v", err)
			}
			if after := fmt.Sprint(f.users["jane@example.com"]); after != before {
				t.Errorf("touched: %s\n%s", before, after)
			}
		})
	}
}

// TestMasterFence: a run with an older token must not change the user.
func TestMasterFence(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	f.users["jane@example.com"] = marked("9f3c-job1", "making 100")
	for _, args := range []nexus.Args{jane, nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"}, nexus.Mark{State: nexus.TenantActive}, nexus.DropSite{}} {
		_, err := m.Run(t.Context(), masterOp(args, 99))
		if e := asError(err); e == nil || e.Code != nexus.Fenced || e.Seen != 100 {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	// A newer run writes between this run's read and write: Frappe refuses the write.
	f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			f.users["jane@example.com"]["modified"] = "8"
		}
		return false
	}
	if _, err := m.Run(t.Context(), masterOp(nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"}, 100)); nexus.CodeOf(err) != nexus.Unavailable {
		t.Errorf("overtaken in between: %v", err)
	}
	if f.users["jane@example.com"]["api_key"] != "theirs" {
		t.Error("an overtaken run wrote")
	}
}

// TestMasterMarkLost: a user without its mark is not touched, and not reported as removed.
func TestMasterMarkLost(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	f.users["jane@example.com"] = map[string]any{"name": "jane@example.com", "enabled": 1, "modified": "7"}
	for _, args := range []nexus.Args{nexus.Mark{State: nexus.TenantSuspended}, nexus.DropSite{}, nexus.Inspect{}} {
		op := masterOp(args, 100)
		op.Email = ""
		if _, err := m.Run(t.Context(), op); nexus.CodeOf(err) != nexus.Conflict || !strings.Contains(nexus.MessageOf(err), "operator") {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("written: %v", f.asked)
	}
}

func asError(err error) *nexus.Error {
	e, _ := err.(*nexus.Error) //nolint:errorlint // the bench answers with it bare
	return e
}

// TestMasterRefusals checks the message for each refusal of a new user, with bodies of a
// real site. Neither message nor error may hold anything secret or personal.
func TestMasterRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   any
		code   nexus.Code
		wait   nexus.Wait
		msg    string // part of it
	}{
		{"same e-mail", 409, said("DuplicateEntryError", "Duplicate Name", "User <strong>jane@example.com</strong> already exists"), nexus.Conflict, "", "already"},
		{"weak password", 417, said("ValidationError", "Invalid Password", "This is a top-10 common password. Capitalization doesn&#39;t help very much."), nexus.Invalid, "",
			"refuses this password: This is a top-10 common password. Capitalization doesn't help"},
		{"bad e-mail", 417, said("InvalidEmailAddressError", "Message", "jane@localhost is not a valid Email Address"), nexus.Invalid, "", "does not take this e-mail"},
		{"unknown role", 417, said("LinkValidationError", "Message", "Could not find Row #1: Role: Nope"), nexus.Invalid, "", "Role: Nope"},
		{"key of another user", 417, said("UniqueValidationError", "Message", "API Key must be unique"), nexus.Internal, "", "tried again"},
		{"throttled", 417, said("ValidationError", "Message", "Throttled"), nexus.Limit, nexus.WaitCapacity, "this hour"},
		{"no text", 417, said("ValidationError", "Message", ""), nexus.Invalid, "", "worker's log"},
		{"other rule", 417, said("ValidationError", "Message", "No <b>Jane</b> here, Secret-Horse-7"), nexus.Invalid, "", "refuses this account: No Jane here, ***"},
		{"unreadable keys", 417, said("ValidationError", "Message", "Failed to decrypt key User.x.api_secret"), nexus.Unavailable, nexus.WaitOperator, "encryption_key"},
		{"documents refer to it", 417, said("LinkExistsError", "Message", "Cannot delete"), nexus.Conflict, "", "Documents"},
		{"wrong key", 401, map[string]any{"exc_type": "AuthenticationError"}, nexus.Unavailable, nexus.WaitOperator, "ERP_API_KEY"},
		{"key without System Manager", 403, said("PermissionError", "Message", "User <strong>k@example.com</strong> does not have doctype access"), nexus.Forbidden, "", "System Manager"},
		{"no such site", 404, "<!doctype html>\n<title>404 Not Found</title>", nexus.Unavailable, nexus.WaitOperator, "erp.example.com"},
		{"no such document", 404, map[string]any{"exc_type": "DoesNotExistError"}, nexus.NotFound, "", "not on the master site"},
		{"asked too often", 429, "<h1>Too Many Requests</h1>", nexus.Limit, nexus.WaitCapacity, "too often"},
		{"no mail account", 501, said("OutgoingEmailError", "Message", "Please setup"), nexus.Unavailable, nexus.WaitBench, "does not answer"},
		{"maintenance", 503, map[string]any{"exc_type": "SessionStopped"}, nexus.Unavailable, nexus.WaitBench, "does not answer"},
		{"a proxy's page", 502, "<h1>Bad Gateway</h1>", nexus.Unavailable, nexus.WaitBench, "does not answer"},
		{"a redirect", 301, "", nexus.Unavailable, nexus.WaitOperator, "redirect"},
		{"too large", 413, "", nexus.Internal, "", "do not understand"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, m := newFrappe(t)
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPost {
					return false
				}
				if text, ok := tc.body.(string); ok {
					w.Header().Set("Location", "https://elsewhere.example.com")
					w.WriteHeader(tc.status)
					_, _ = w.Write([]byte(text))
				} else {
					respond(w, tc.status, tc.body)
				}
				return true
			}
			_, err := m.Run(t.Context(), masterOp(jane, 100))
			e := asError(err)
			if e == nil || e.Code != tc.code || e.Wait != tc.wait || !strings.Contains(e.Msg, tc.msg) {
				t.Fatalf("%#v", err)
			}
			if e.Wait != "" && e.RetryAfter == 0 {
				t.Error("waits, but does not say how long")
			}
			for _, secret := range []string{"Secret-Horse-7", "MasterSecret1", "MasterKey1", "Traceback", "ane@example.com"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q shows in %v", secret, err)
				}
			}
			if len(f.users) != 1 {
				t.Errorf("users: %v", f.users)
			}
		})
	}
}

// TestMasterCheck: a wrong setting is told in a message, and a new signup waits until it is
// corrected.
func TestMasterCheck(t *testing.T) {
	t.Parallel()
	type handler = func(w http.ResponseWriter, r *http.Request) bool
	on := func(path string, status int, body any) handler {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				respond(w, status, body)
			}
			return r.URL.Path == path
		}
	}
	const keeper = "/api/resource/User/keeper@example.com"
	for _, tc := range []struct {
		name   string
		answer handler
		code   nexus.Code
		wait   nexus.Wait // of a signup
		msg    string
	}{
		{"all is well", nil, "", "", ""},
		{"no Frappe", on("/api/method/ping", 200, "hello"), nexus.Unavailable, nexus.WaitOperator, "Frappe"},
		{"no pong", on("/api/method/ping", 200, map[string]any{"message": "ping"}), nexus.Unavailable, nexus.WaitOperator, "pong"},
		{"wrong key", on("/api/method/frappe.auth.get_logged_user", 401, map[string]any{"exc_type": "AuthenticationError"}), nexus.Unavailable, nexus.WaitOperator, "ERP_API_KEY"},
		{"no System Manager", on(keeper, 200, map[string]any{"data": map[string]any{"name": "keeper@example.com"}}), nexus.Forbidden, nexus.WaitOperator, "System Manager"},
		{"may not even look", on(keeper, 403, map[string]any{"exc_type": "PermissionError"}), nexus.Forbidden, nexus.WaitOperator, "System Manager"},
		{"maintenance", on("/api/method/ping", 503, map[string]any{"exc_type": "SessionStopped"}), nexus.Unavailable, nexus.WaitBench, "does not answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, m := newFrappe(t)
			f.answer = tc.answer
			err := m.Check(t.Context())
			if nexus.CodeOf(err) != tc.code || err != nil && !strings.Contains(nexus.MessageOf(err), tc.msg) {
				t.Fatalf("%v", err)
			}
			hello, helloErr := m.Run(t.Context(), nexus.Op{Args: nexus.Hello{}})
			if helloErr != nil || (len(hello.Hello.Problems) > 0) != (err != nil) {
				t.Errorf("hello: %+v, %v", hello.Hello, helloErr)
			}
			_, err = m.Run(t.Context(), masterOp(nexus.NewSite{}, 100))
			if tc.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := asError(err); e == nil || e.Code != nexus.Limit || e.Wait != tc.wait || e.RetryAfter == 0 {
				t.Errorf("a signup meets %v", err)
			}
		})
	}
}

// TestMasterAway asks an address where nothing listens.
func TestMasterAway(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	gone, _ := url.Parse(server.URL)
	server.Close()
	for _, address := range []string{"http://" + gone.Host, "https://" + gone.Host, "http://no-such-host.invalid"} {
		m := bench.NewMaster(bench.MasterOptions{URL: address, Site: masterSite, Key: "k", Secret: "s", Name: personSite})
		_, err := m.Run(t.Context(), masterOp(jane, 100))
		if e := asError(err); e == nil || e.Code != nexus.Unavailable || e.Wait != nexus.WaitBench {
			t.Errorf("%s: %v", address, err)
		}
	}
	f, m := newFrappe(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.answer = func(http.ResponseWriter, *http.Request) bool { cancel(); return false }
	if _, err := m.Run(ctx, masterOp(jane, 100)); nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Errorf("canceled in the middle: %v", err)
	}
}

// TestMasterVerify: a key that is not the user's is refused.
func TestMasterVerify(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	f.users["jane@example.com"] = map[string]any{"enabled": 1, "api_key": "k", "api_secret": "s"}
	for _, tc := range []struct {
		email, secret string
		status        int // instead of the site's; 0: its own
		want          nexus.Code
	}{
		{"Jane@example.com", "s", 0, ""}, {"joe@example.com", "s", 0, nexus.Internal}, {"jane@example.com", "x", 0, nexus.Internal},
		{"jane@example.com", "s", 503, nexus.Unavailable}, {"jane@example.com", "s", 404, nexus.Unavailable},
	} {
		f.answer = func(w http.ResponseWriter, _ *http.Request) bool {
			if tc.status != 0 {
				w.WriteHeader(tc.status)
			}
			return tc.status != 0
		}
		_, err := m.Run(t.Context(), masterOp(nexus.Verify{Email: tc.email, Key: "k", Secret: nexus.Secret(tc.secret)}, 100))
		if nexus.CodeOf(err) != tc.want {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
