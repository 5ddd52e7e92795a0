package bench_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// build is a sandbox's folder with a job that makes the template "plain".
type build struct {
	o     bench.SandboxOptions
	owner nexus.JobID
}

func newBuild(t *testing.T) *build {
	t.Helper()
	return &build{o: bench.SandboxOptions{Dir: t.TempDir(), Install: "5a4d", Apps: map[string]string{"frappe": "16.1.0", "erpnext": "16.2.0"}}, owner: nexus.NewJobID()}
}

func (b *build) op(args nexus.Args) nexus.Op {
	return nexus.Op{Site: "plain", Room: nexus.RoomTemplates, DB: b.owner.Database("5a4d"), Owner: b.owner, Gen: 1, Args: args}
}

// try runs an operation as a process of its own does.
func (b *build) try(t *testing.T, op nexus.Op) (nexus.Result, error) {
	t.Helper()
	return b.tryFor(t.Context(), t, op)
}

// tryFor is try with another context.
func (b *build) tryFor(ctx context.Context, t *testing.T, op nexus.Op) (nexus.Result, error) {
	t.Helper()
	sandbox, err := bench.NewSandbox(b.o)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	return sandbox.Run(ctx, op)
}

func (b *build) run(t *testing.T, op nexus.Op) nexus.Result {
	t.Helper()
	result, err := b.try(t, op)
	if err != nil {
		t.Fatalf("%s: %v", op.Args.Op(), err)
	}
	return result
}

// frozen builds the template.
func (b *build) frozen(t *testing.T) {
	t.Helper()
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.Freeze{Spec: nexus.TemplatePlain, Apps: []string{"erpnext"}}} {
		if result := b.run(t, b.op(args)); !result.Changed {
			t.Fatalf("%s changed nothing", args.Op())
		}
	}
}

// clone copies the template for a new job.
func (b *build) clone(t *testing.T) nexus.Result {
	t.Helper()
	owner := nexus.NewJobID()
	site := nexus.SiteName("acme-" + string(owner[:6]) + ".localhost")
	result := b.run(t, nexus.Op{Site: site, DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Args: nexus.Clone{Template: "plain"}})
	for _, room := range []string{"sites", "intent"} {
		if _, err := os.Stat(filepath.Join(b.o.Dir, room, string(site))); result.Skipped && !os.IsNotExist(err) {
			t.Errorf("left in %s: %v", room, err)
		}
	}
	return result
}

// version is what a file has of the version of templates, or of one that is later by so much.
func version(later int) string { return fmt.Sprintf(`"Version":%d`, nexus.TemplateVersion+later) }

// rewrite changes the template's file.
func (b *build) rewrite(t *testing.T, from, to string) {
	t.Helper()
	path := filepath.Join(b.o.Dir, "templates", "sites", "plain")
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%s, %v", text, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSandboxTemplateMismatch: after a change of the bench's apps, or by a program with other
// templates, no site is copied, and both the refusal and the list say why.
func TestSandboxTemplateMismatch(t *testing.T) {
	t.Parallel()
	const changed, other = "The bench's apps have changed since the template plain was made.", "The template plain was made by another version of Nexus."
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, b *build)
		says   string
	}{
		{"nothing", func(*testing.T, *build) {}, ""},
		{"a version", func(_ *testing.T, b *build) { b.o.Apps["frappe"] = "16.1.1" }, changed},
		{"one app more", func(_ *testing.T, b *build) { b.o.Apps["hrms"] = "16.0.0" }, changed},
		{"one app less", func(_ *testing.T, b *build) { delete(b.o.Apps, "erpnext") }, changed},
		{"the template's version", func(t *testing.T, b *build) { b.rewrite(t, version(0), version(1)) }, other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBuild(t)
			before := maps.Clone(b.o.Apps)
			b.frozen(t)
			tc.change(t, b)
			if result := b.clone(t); result.Skipped != (tc.says != "") || result.Note != tc.says || result.Changed == result.Skipped {
				t.Errorf("a clone: %+v", result)
			}
			if list := b.run(t, b.op(nexus.Templates{})).Templates; len(list) != 1 || list[0].Problem != tc.says {
				t.Errorf("listed: %+v", list)
			}
			b.o.Apps = before // as of the template again
			if result := b.clone(t); result.Skipped != (tc.says == other) {
				t.Errorf("a clone after the change was undone: %+v", result)
			}
		})
	}
}

// TestSandboxTemplateBuiltDuringUpgrade: a template is not frozen with other apps than its
// site was made with.
func TestSandboxTemplateBuiltDuringUpgrade(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.run(t, b.op(nexus.NewSite{}))
	b.o.Apps["erpnext"] = "16.3.0"
	if _, err := b.try(t, b.op(nexus.Freeze{Spec: nexus.TemplatePlain})); nexus.CodeOf(err) != nexus.Conflict {
		t.Errorf("frozen: %v", err)
	}
	b.o.Apps["erpnext"] = "16.2.0"
	if result := b.run(t, b.op(nexus.Freeze{Spec: nexus.TemplatePlain})); !result.Changed {
		t.Errorf("as it was made: %+v", result)
	}
}

// TestSandboxTemplateUnfinished: a build that was ended is listed with its problem, whatever
// it has left, and nothing is copied from it.
func TestSandboxTemplateUnfinished(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, b *build)
	}{
		{"only an intent", func(t *testing.T, b *build) {
			text := `{"site":"plain","job":"` + string(b.owner) + `","db":"` + b.op(nil).DB + `"}`
			b.run(t, b.op(nexus.Templates{})) // makes the folders
			if err := os.WriteFile(filepath.Join(b.o.Dir, "templates", "intent", "plain"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"half a site", func(t *testing.T, b *build) {
			half(t, b.o, b.op(nexus.NewSite{}))
		}},
		{"a site without its apps", func(t *testing.T, b *build) { b.run(t, b.op(nexus.NewSite{})) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBuild(t)
			tc.do(t, b)
			list := b.run(t, b.op(nexus.Templates{})).Templates
			if len(list) != 1 || list[0].Name != "plain" || list[0].DB != b.op(nil).DB || list[0].Job != b.owner || list[0].Problem != "It is not finished." ||
				list[0].Spec != "" || list[0].Version != 0 {
				t.Errorf("listed: %+v", list)
			}
			if result := b.clone(t); !result.Skipped || result.Note != "There is no template plain on this bench." {
				t.Errorf("a clone: %+v", result)
			}
			b.run(t, b.op(nexus.DropSite{}))
			if list := b.run(t, b.op(nexus.Templates{})).Templates; len(list) != 0 {
				t.Errorf("listed after it was dropped: %+v", list)
			}
		})
	}
}

// TestSandboxTemplateNotClean: a site with a user does not become a template.
func TestSandboxTemplateNotClean(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.run(t, b.op(nexus.NewSite{}))
	b.rewrite(t, `"User":null`, `"User":{"Email":"jane@example.com"}`)
	for range 2 {
		_, err := b.try(t, b.op(nexus.Freeze{Spec: nexus.TemplatePlain}))
		if nexus.CodeOf(err) != nexus.Internal || nexus.MessageOf(err) != "The template is not clean, so no site is copied from it." || !strings.Contains(err.Error(), "has a user") {
			t.Errorf("%v", err)
		}
	}
	if list := b.run(t, b.op(nexus.Templates{})).Templates; len(list) != 1 || list[0].Problem == "" {
		t.Errorf("listed: %+v", list)
	}
}

// TestSandboxTemplateStays: what would change a frozen template, or is for tenants' sites, is
// refused, and the web server does not find it by any name.
func TestSandboxTemplateStays(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.o.Apps["hrms"] = "16.0.0"
	b.frozen(t)
	path := filepath.Join(b.o.Dir, "templates", "sites", "plain")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.try(t, b.op(nexus.InstallApp{App: "hrms"})); nexus.CodeOf(err) != nexus.Conflict {
		t.Errorf("one more app: %v", err)
	}
	for _, args := range []nexus.Args{nexus.Clone{Template: "plain"}, nexus.EnsureUser{}, nexus.ApplyPlan{}, nexus.IssueKey{}, nexus.Mark{State: nexus.TenantActive}, nexus.Adopt{},
		nexus.Disown{}, nexus.Register{}, nexus.Verify{}, nexus.Init{}} {
		if _, err := b.try(t, b.op(args)); nexus.CodeOf(err) != nexus.Invalid {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	for _, args := range []nexus.Args{nexus.Hello{}, nexus.Inventory{}} { // of the whole bench
		b.run(t, b.op(args))
	}
	older := b.op(nexus.Stop{})
	older.Room, older.Gen = "", 0 // a database has one fence, whatever the room
	if _, err := b.try(t, older); nexus.CodeOf(err) != nexus.Fenced {
		t.Errorf("an older token without the room: %v", err)
	}
	sandbox, err := bench.NewSandbox(b.o)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	for _, host := range []string{"plain", "../templates/sites/plain", "templates/sites/plain", "./../templates/sites/plain"} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/method/ping", nil)
		request.Host = host
		w := httptest.NewRecorder()
		if sandbox.Handler().ServeHTTP(w, request); w.Code != http.StatusNotFound {
			t.Errorf("asked as %s: %d", host, w.Code)
		}
	}
	after, err := os.ReadFile(path)
	if diff := cmp.Diff(string(before), string(after)); diff != "" || err != nil {
		t.Errorf("the template is not what it was (%v):\n%s", err, diff)
	}
}

// TestSandboxCloneTime: a clone takes a twentieth of the time of a new site, and with
// slow-site five seconds more.
func TestSandboxCloneTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		delay time.Duration
		email string
		want  time.Duration
	}{
		{20 * time.Second, "", time.Second},
		{20 * time.Second, "slow-site@example.com", 6 * time.Second},
		{0, "", 0},
	} {
		b := newBuild(t)
		b.frozen(t)
		b.o.Delay = tc.delay
		synctest.Test(t, func(t *testing.T) {
			began, owner := time.Now(), nexus.NewJobID()
			result := b.run(t, nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Email: tc.email, Args: nexus.Clone{Template: "plain"}})
			if took := time.Since(began); took != tc.want || !result.Changed {
				t.Errorf("with a delay of %s and %q it took %s: %+v", tc.delay, tc.email, took, result)
			}
		})
	}
}
