package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// withCompany builds a template of a country.
func (b *build) withCompany(t *testing.T, spec nexus.TemplateSpec) {
	t.Helper()
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.SetUp{Country: spec.Country(), Chart: spec.Chart()},
		nexus.Freeze{Spec: spec, Apps: []string{"erpnext"}}} {
		if result := b.run(t, b.op(args)); !result.Changed {
			t.Fatalf("%s changed nothing", args.Op())
		}
	}
}

// copied makes the site acme.localhost of the template, as a standby or at once, with a key for
// get. It returns the site's operations.
func (b *build) copied(t *testing.T, standby bool) func(nexus.Args) nexus.Op {
	t.Helper()
	owner, maker := nexus.NewJobID(), nexus.NewJobID()
	op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 2}
	road := nexus.Args(nexus.Clone{Template: "plain"})
	if standby {
		op.DB = maker.Database("5a4d")
		for _, args := range []nexus.Args{nexus.Clone{Template: "plain"}, nexus.Shelve{}} {
			b.run(t, nexus.Op{Site: nexus.StandbyName(maker), Room: nexus.RoomStandby, DB: op.DB, Owner: maker, Gen: 1, Args: args})
		}
		road = nexus.Claim{Standby: nexus.StandbyName(maker), Maker: maker}
	}
	of := func(args nexus.Args) nexus.Op {
		op.Args = args
		return op
	}
	for _, args := range []nexus.Args{road, nexus.EnsureUser{Email: "jane@example.com"}, nexus.IssueKey{Email: "jane@example.com", Key: "key", Secret: "secret"}} {
		if result := b.run(t, of(args)); !result.Changed {
			t.Fatalf("%s changed nothing: %+v", args.Op(), result)
		}
	}
	return of
}

// get asks the site acme.localhost for documents.
func (b *build) get(t *testing.T, path string, into any) {
	t.Helper()
	sandbox, err := bench.NewSandbox(b.o)
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/resource/"+path, nil)
	request.Host = "acme.localhost"
	request.Header.Set("Authorization", "token key:secret")
	w := httptest.NewRecorder()
	if sandbox.Handler().ServeHTTP(w, request); w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

// books are what the site's Company document says.
type books struct {
	Name     string `json:"name"`
	Abbr     string `json:"abbr"`
	Country  string `json:"country"`
	Currency string `json:"default_currency"`
	Chart    string `json:"chart_of_accounts"`
}

// company returns the one company of acme.localhost.
func (b *build) company(t *testing.T) books {
	t.Helper()
	var list struct{ Data []books }
	if b.get(t, "Company", &list); len(list.Data) != 1 {
		t.Fatalf("companies: %+v", list)
	}
	var one struct{ Data books }
	b.get(t, "Company/"+url.PathEscape(list.Data[0].Name), &one)
	return one.Data
}

// TestSandboxSetUp: a template of a country has a company of it, with random names that no other
// template has. A site that is copied from it, at once or as a standby, has the same.
func TestSandboxSetUp(t *testing.T) {
	t.Parallel()
	name, abbr, seen := regexp.MustCompile(`^Nexus[A-Z]{16}$`), regexp.MustCompile(`^NX[A-Z]{8}$`), map[string]bool{}
	for _, tc := range []struct {
		spec nexus.TemplateSpec
		want books
	}{
		{"US", books{Country: "United States", Currency: "USD", Chart: "Standard"}},
		{"US:standard", books{Country: "United States", Currency: "USD", Chart: "Standard"}},
		{"FR", books{Country: "France", Currency: "EUR", Chart: "Standard"}},
		{"DE", books{Country: "Germany", Currency: "EUR", Chart: "SKR03"}},
		{"DE:SKR04", books{Country: "Germany", Currency: "EUR", Chart: "SKR04"}},
		{"DE:skr04", books{Country: "Germany", Currency: "EUR", Chart: "SKR04"}},
	} {
		for _, standby := range []bool{false, true} {
			b := newBuild(t)
			b.withCompany(t, tc.spec)
			if result := b.run(t, b.op(nexus.SetUp{Country: tc.spec.Country(), Chart: tc.spec.Chart()})); result.Changed || result.Skipped {
				t.Errorf("%s again: %+v", tc.spec, result)
			}
			b.copied(t, standby)
			got := b.company(t)
			if !name.MatchString(got.Name) || !abbr.MatchString(got.Abbr) || seen[got.Name] || seen[got.Abbr] {
				t.Errorf("%s: placeholders %q and %q", tc.spec, got.Name, got.Abbr)
			}
			seen[got.Name], seen[got.Abbr] = true, true
			got.Name, got.Abbr = "", ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: %s", tc.spec, diff)
			}
		}
	}
}

// TestSandboxCompanyNamed: the company of a site that was copied from a country's template gets
// its name and abbreviation once.
func TestSandboxCompanyNamed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 140)
	for _, tc := range []struct {
		give       nexus.Company
		name, abbr string
		says       string
	}{
		{nexus.Company{Name: " Acme Ltd "}, "Acme Ltd", "AL", ""},
		{nexus.Company{Name: "Acme Ltd", Abbr: "ACME"}, "Acme Ltd", "ACME", ""},
		{nexus.Company{Name: "Acme Ltd", Abbr: " ABCDEFGHIJKL"}, "Acme Ltd", "ABCDEFGHIJ", ""},
		{nexus.Company{Name: "Acme"}, "Acme", "ACME", ""},
		{nexus.Company{Name: "Acmefactory"}, "Acmefactory", "ACMEF", ""},
		{nexus.Company{Name: "a b-c/d&e+f.g,h"}, "a b-c/d&e+f.g,h", "ABCDE", ""},
		{nexus.Company{Name: "!Ünal (2) Söhne"}, "!Ünal (2) Söhne", "Ü2S", ""},
		{nexus.Company{Name: "<b>Acme</b>"}, "bAcme/b", "BB", ""},
		{nexus.Company{Name: "x"}, "x", "X", ""},
		{nexus.Company{Name: "!!!"}, "!!!", "CO", ""},
		{nexus.Company{Name: "  "}, "acme", "ACME", ""},
		{nexus.Company{Name: long, Abbr: "ACME"}, long[:2*133], "ACME", "ERPNext cannot store the company's name as it was given, so it is: " + long[:2*133]},
		{nexus.Company{Name: long[:2*132] + " x", Abbr: "ACME"}, long[:2*132], "ACME", "ERPNext cannot store the company's name as it was given, so it is: " + long[:2*132]},
		{nexus.Company{Name: long[:2*133], Abbr: "ACME"}, long[:2*133], "ACME", ""},
	} {
		t.Run(fmt.Sprintf("%.20s", tc.give.Name), func(t *testing.T) {
			t.Parallel()
			b := newBuild(t)
			b.withCompany(t, "US")
			op := b.copied(t, true)
			result := b.run(t, op(tc.give))
			if !result.Changed || result.Note != tc.says {
				t.Errorf("%+v", result)
			}
			want := books{Name: tc.name, Abbr: tc.abbr, Country: "United States", Currency: "USD", Chart: "Standard"}
			if diff := cmp.Diff(want, b.company(t)); diff != "" {
				t.Error(diff)
			}
			if result := b.run(t, op(nexus.Company{Name: "Other"})); result.Changed || result.Note != "" || b.company(t) != want {
				t.Errorf("named again: %+v, %+v", result, b.company(t))
			}
		})
	}
}

// TestSandboxSetUpRefused: what no company can be made of is refused, before anything is done.
func TestSandboxSetUpRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args nexus.SetUp
		room nexus.Room
		code nexus.Code
		says string
		do   []nexus.Args // before
	}{
		{"no such country", nexus.SetUp{Country: "XX"}, nexus.RoomTemplates, nexus.Invalid, `no country "XX"`, []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}},
		{"no country", nexus.SetUp{}, nexus.RoomTemplates, nexus.Invalid, `no country ""`, []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}},
		{"no such chart", nexus.SetUp{Country: "DE", Chart: "SKR05"}, nexus.RoomTemplates, nexus.Invalid, `no chart of accounts "SKR05" for Germany; there is: SKR03, SKR04.`,
			[]nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}},
		{"another country's chart", nexus.SetUp{Country: "US", Chart: "SKR04"}, nexus.RoomTemplates, nexus.Invalid, `there is: Standard.`,
			[]nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}},
		{"without the app", nexus.SetUp{Country: "US"}, nexus.RoomTemplates, nexus.Invalid, "no app erpnext", []nexus.Args{nexus.NewSite{}}},
		{"no site", nexus.SetUp{Country: "US"}, nexus.RoomTemplates, nexus.NotFound, "no site", nil},
		{"frozen", nexus.SetUp{Country: "US"}, nexus.RoomTemplates, nexus.Conflict, "frozen",
			[]nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.Freeze{Spec: nexus.TemplatePlain}}},
		{"a tenant's site", nexus.SetUp{Country: "US"}, "", nexus.Invalid, "was not made as a template", []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}},
		{"a standby", nexus.SetUp{Country: "US"}, nexus.RoomStandby, nexus.Invalid, "with the standby", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, delay := range []time.Duration{0, time.Hour} {
				b := newBuild(t)
				do := func(args nexus.Args) nexus.Op {
					op := b.op(args)
					op.Room = tc.room
					return op
				}
				for _, args := range tc.do {
					b.run(t, do(args))
				}
				b.o.Delay = delay
				op, begun := do(tc.args), false
				op.Progress = func(string, int) { begun = true }
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				sandbox, err := bench.NewSandbox(b.o)
				if err != nil {
					t.Fatal(err)
				}
				defer sandbox.Close() //nolint:errcheck // nothing to lose
				_, err = sandbox.Run(ctx, op)
				if begun || nexus.CodeOf(err) != tc.code || !strings.Contains(nexus.MessageOf(err), tc.says) {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

// TestSandboxSetUpInterrupted: a set-up wizard that was interrupted is not repeated, and its site
// does not become a template. It is done on a site that is made anew.
func TestSandboxSetUpInterrupted(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.run(t, b.op(nexus.NewSite{}))
	b.run(t, b.op(nexus.InstallApp{App: "erpnext"}))
	half(t, b.o, b.op(nexus.SetUp{Country: "US"}))
	for range 2 {
		if result := b.run(t, b.op(nexus.SetUp{Country: "US"})); !result.Skipped || result.Changed || !strings.Contains(result.Note, "interrupted") {
			t.Errorf("again: %+v", result)
		}
	}
	if _, err := b.try(t, b.op(nexus.Freeze{Spec: "US"})); nexus.CodeOf(err) != nexus.Internal || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("frozen: %v", err)
	}
	b.run(t, b.op(nexus.DropSite{}))
	b.withCompany(t, "US")
}

// TestSandboxFreezeUnlike: a site with a company does not become the template plain, and one
// without does not become a country's.
func TestSandboxFreezeUnlike(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   []nexus.Args
		spec nexus.TemplateSpec
		says string
	}{
		{"with a company", []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.SetUp{Country: "US"}}, nexus.TemplatePlain, "has a company"},
		{"without one", []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}}, "US", "has no company"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBuild(t)
			for _, args := range tc.do {
				b.run(t, b.op(args))
			}
			if _, err := b.try(t, b.op(nexus.Freeze{Spec: tc.spec})); nexus.CodeOf(err) != nexus.Internal || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSandboxTemplateYears: a template with a company is to be renewed when its last fiscal year
// has begun, which is the next one when it is made, and is not copied when that is over.
func TestSandboxTemplateYears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // it is 2000
		b := newBuild(t)
		b.withCompany(t, "US")
		for _, year := range []struct {
			last    int
			renew   bool
			problem string
		}{{2001, false, ""}, {2000, true, ""}, {1999, true, "Its last fiscal year is over."}} {
			if year.last != 2001 {
				b.rewrite(t, fmt.Sprintf(`"Year":%d`, year.last+1), fmt.Sprintf(`"Year":%d`, year.last))
			}
			list := b.run(t, b.op(nexus.Templates{})).Templates
			if len(list) != 1 || list[0].Spec != "US" || list[0].Renew != year.renew || list[0].Problem != year.problem {
				t.Errorf("its last year is %d: %+v", year.last, list)
			}
			if result := b.clone(t); result.Skipped != (year.problem != "") || result.Note != year.problem {
				t.Errorf("its last year is %d: a clone: %+v", year.last, result)
			}
		}
		plain := newBuild(t)
		plain.frozen(t)
		if list := plain.run(t, plain.op(nexus.Templates{})).Templates; len(list) != 1 || list[0].Renew {
			t.Errorf("without a company: %+v", list)
		}
	})
}

// TestSandboxSetUpTime: a company takes as long as an app.
func TestSandboxSetUpTime(t *testing.T) {
	t.Parallel()
	b := newBuild(t)
	b.run(t, b.op(nexus.NewSite{}))
	b.run(t, b.op(nexus.InstallApp{App: "erpnext"}))
	b.o.Delay = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		result := b.run(t, b.op(nexus.SetUp{Country: "US"}))
		if took := time.Since(began); took != b.o.Delay || !result.Changed {
			t.Errorf("it took %s: %+v", took, result)
		}
		if result := b.run(t, b.op(nexus.SetUp{Country: "US"})); result.Changed || result.Skipped || time.Since(began) != b.o.Delay {
			t.Errorf("again: %+v", result)
		}
	})
}
