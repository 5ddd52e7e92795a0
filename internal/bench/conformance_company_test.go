package bench_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// german is a template with a company that the table makes: a country that has several charts
// of accounts on each bench.
const german nexus.TemplateSpec = "DE:SKR04"

// testCountries makes a template with a company, and names the companies of its copies.
func testCountries(t *testing.T, g *target) {
	template := g.template("country")
	t.Run("set up", func(t *testing.T) { testSetUp(t, template) })
	t.Run("frozen", func(t *testing.T) { testSetUpFrozen(t, template) })
	t.Run("a copy is named", func(t *testing.T) { testNamedCopy(t, template) })
	t.Run("a standby is named", func(t *testing.T) { testNamedStandby(t, template) })
	t.Run("names", func(t *testing.T) { testCompanyNames(t, template) })
	t.Run("interrupted", func(t *testing.T) { testSetUpEnded(t, g.template("ended")) })
	testDrop(t, template)
}

// setUp are the arguments that set up a template's company.
func setUp(spec nexus.TemplateSpec) nexus.SetUp {
	return nexus.SetUp{Country: spec.Country(), Chart: spec.Chart()}
}

func (g *target) freezeAs(spec nexus.TemplateSpec) nexus.Freeze {
	return nexus.Freeze{Spec: spec, Apps: []string{g.app}}
}

// testSetUp does the wizard, after all that it is refused for.
func testSetUp(t *testing.T, n *tenant) {
	n.refused(t, setUp(german), nexus.NotFound)
	n.run(t, nexus.NewSite{})
	n.refused(t, setUp(german), nexus.Invalid) // there is no app for companies yet
	n.run(t, nexus.InstallApp{App: n.app})
	for said, args := range map[string]nexus.SetUp{"QQ": {Country: "QQ"}, "Standard": {Country: "US", Chart: "SKR04"}, "SKR04": {Country: "DE", Chart: "SKR99"}} {
		if _, err := n.try(t, args); nexus.CodeOf(err) != nexus.Invalid || !strings.Contains(err.Error(), said) {
			t.Errorf("%+v: %v", args, err)
		}
	}
	n.refused(t, n.freezeAs(german), nexus.Internal) // it has no company
	n.stranger().refused(t, setUp(german), nexus.Conflict)
	older := *n
	older.gen--
	older.refused(t, setUp(german), nexus.Fenced)
	site := n.tenant("served")
	site.run(t, nexus.NewSite{})
	site.refused(t, setUp(german), nexus.Invalid)
	testDrop(t, site)
	n.again(t, nexus.SetUp{Country: "DE", Chart: "skr04"})
	if result := n.run(t, setUp("US")); result.Changed || result.Skipped {
		t.Errorf("another country, when it is done: %+v", result)
	}
}

// testSetUpFrozen freezes the template, and looks at what is listed.
func testSetUpFrozen(t *testing.T, n *tenant) {
	n.refused(t, n.freezeAs(nexus.TemplatePlain), nexus.Internal) // it has a company
	n.again(t, n.freezeAs(german))
	if made := n.listed(t); made.Spec != german || made.Problem != "" || made.Renew || made.Version != nexus.TemplateVersion {
		t.Errorf("listed as %+v", made)
	}
	if result := n.run(t, setUp(german)); result.Changed || result.Skipped {
		t.Errorf("set up again: %+v", result)
	}
}

// testNamedCopy works with a copy as its user does.
func testNamedCopy(t *testing.T, template *tenant) {
	n, other := template.tenant("named"), template.tenant("other")
	for _, each := range []*tenant{n, other} {
		each.again(t, nexus.Clone{Template: template.site})
	}
	older := *n
	n.gen++
	n.again(t, nexus.Company{Name: `Wood & "Sons"`})
	older.refused(t, nexus.Company{Name: "Older"}, nexus.Fenced)
	n.stranger().refused(t, nexus.Company{Name: "Other"}, nexus.Conflict)
	other.again(t, nexus.Company{Name: "Acme", Abbr: "STEEL"})
	if result := n.run(t, nexus.Company{Name: "Acme"}); result.Changed || result.Skipped {
		t.Errorf("the company was named again: %+v", result)
	}
	n.settles(t)
	other.settles(t)
	n.hasCompany(t, `Wood & "Sons"`, "WS")
	other.hasCompany(t, "Acme", "STEEL")
	testDrop(t, n)
	other.hasCompany(t, "Acme", "STEEL")
	testDrop(t, other)
}

// testNamedStandby names the company of a site that was a standby.
func testNamedStandby(t *testing.T, template *tenant) {
	n := shelved(t, template)
	if each := n.onShelf(t); each == nil || each.Spec != german || each.Problem != "" {
		t.Errorf("listed as %+v", each)
	}
	taker := n.taker("taker")
	taker.refused(t, nexus.Company{Name: "Acme"}, nexus.NotFound)
	taker.again(t, n.claimFor(taker))
	taker.again(t, nexus.Company{Name: "Müller & Söhne GmbH"})
	n.becameSite(t, taker)
	taker.settles(t)
	taker.hasCompany(t, "Müller & Söhne GmbH", "MSG")
	testDrop(t, taker)
}

// testCompanyNames gives copies names that are not to be taken as they are.
func testCompanyNames(t *testing.T, template *tenant) {
	for _, row := range []struct {
		asked      nexus.Company
		name, abbr string
		noted      bool
	}{
		{nexus.Company{}, "", "", false}, // it is called as its site
		{nexus.Company{Name: "<b>A<>cme</b>", Abbr: "A"}, "bAcme/b", "A", false},
		{nexus.Company{Name: "..."}, "...", "CO", false},
		{nexus.Company{Name: strings.Repeat("é", 140), Abbr: "ABCDEFGHIJ"}, strings.Repeat("é", 127), "ABCDEFGHIJ", true},
	} {
		n := template.tenant("names")
		n.run(t, nexus.Clone{Template: template.site})
		if result := n.run(t, row.asked); !result.Changed || (result.Note != "") != row.noted {
			t.Errorf("%q: %+v", row.asked.Name, result)
		}
		if result := n.run(t, row.asked); result.Changed {
			t.Errorf("%q: a second time changed something", row.asked.Name)
		}
		n.settles(t)
		if row.name == "" {
			row.name, _, _ = strings.Cut(string(n.site), ".")
			row.abbr = abbreviated(row.name)
		}
		n.hasCompany(t, row.name, row.abbr)
		testDrop(t, n)
	}
}

// abbreviated is the abbreviation of the name of a site of the table: its initials.
func abbreviated(name string) (abbr string) {
	for word := range strings.SplitSeq(name, "-") {
		abbr += strings.ToUpper(word[:1])
	}
	return abbr
}

// hasCompany asks the site for its companies, as its user.
func (n *tenant) hasCompany(t *testing.T, name, abbr string) {
	t.Helper()
	var list struct{ Data []struct{ Name string } }
	if status, said := n.ask(t, n.pair, http.MethodGet, "/api/resource/Company", map[string]any{}); status != http.StatusOK || json.Unmarshal([]byte(said), &list) != nil || len(list.Data) != 1 || list.Data[0].Name != name {
		t.Errorf("its companies: %d %s, want %q", status, said, name)
	}
	if n.company != nil {
		n.company(t, n, name, abbr)
	}
}

// testSetUpEnded ends the wizard in its middle: it is not repeated, and the site becomes no
// template until it is made anew.
func testSetUpEnded(t *testing.T, n *tenant) {
	n.run(t, nexus.NewSite{})
	n.run(t, nexus.InstallApp{App: n.app})
	err := ended(t, n.bench, n.op(setUp(german)))
	n.gen++
	switch result := n.run(t, setUp(german)); {
	case err == nil && (result.Changed || result.Skipped):
		t.Errorf("it was done, and now: %+v", result)
	case result.Skipped:
		if result.Changed || len(result.Note) < 10 {
			t.Errorf("after %v: %+v", err, result)
		}
		n.refused(t, n.freezeAs(german), nexus.Internal)
		if again := n.run(t, setUp(german)); !again.Skipped {
			t.Errorf("a second time: %+v", again)
		}
	}
	n.run(t, nexus.DropSite{})
	n.gen++
	n.again(t, nexus.NewSite{})
	n.again(t, nexus.InstallApp{App: n.app})
	n.again(t, setUp(german))
	if i := slices.IndexFunc(n.run(t, nexus.Templates{}).Templates, func(each nexus.Template) bool { return each.Name == n.site && len(each.Problem) > 10 }); i < 0 {
		t.Error("it is not listed as unfinished")
	}
	testDrop(t, n)
}
