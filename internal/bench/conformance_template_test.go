package bench_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// template is a template of the table. Like every template's its name has no dot.
func (g *target) template(name string) *tenant {
	n := g.tenant(name)
	n.site, n.room = nexus.SiteName("ct-"+name+"-"+string(n.owner[:6])), nexus.RoomTemplates
	return n
}

// testTemplates builds a template, copies sites from it, and drops it. The tenant's site is
// no template.
func testTemplates(t *testing.T, g *target, served *tenant) {
	template, one, two := g.template("template"), g.tenant("clone-one"), g.tenant("clone-two")
	t.Run("built", func(t *testing.T) { testBuilt(t, template) })
	t.Run("not served", func(t *testing.T) { testNotServed(t, template) })
	t.Run("copied", func(t *testing.T) { testClones(t, template, one, two) })
	t.Run("nothing to copy", func(t *testing.T) { testSkipped(t, g, "ct-none", served.site, one.site) })
	t.Run("strangers", func(t *testing.T) { testTemplateStrangers(t, template, one) })
	t.Run("fence", func(t *testing.T) { testCloneFence(t, template, g.tenant("clone-fence")) })
	t.Run("ended in the middle", func(t *testing.T) { testCloneEnded(t, template, g.tenant("clone-mid")) })
	t.Run("rooms", func(t *testing.T) { testRooms(t, template, two) })
	t.Run("standbys", func(t *testing.T) { testStandbys(t, template) })
	t.Run("a clone is dropped", func(t *testing.T) {
		testDrop(t, two)
		one.run(t, one.verify())
		if problem := template.listed(t).Problem; problem != "" {
			t.Errorf("the template: %s", problem)
		}
	})
	t.Run("dropped", func(t *testing.T) {
		testDrop(t, template)
		if template.find(t) != nil {
			t.Error("it is still listed")
		}
		testSkipped(t, g, template.site)
		one.run(t, one.verify())
		one.again(t, one.plan("business", 50))
		testDrop(t, one)
	})
}

// freeze are the arguments that freeze a template of the table.
func (g *target) freeze() nexus.Freeze {
	return nexus.Freeze{Spec: nexus.TemplatePlain, Apps: []string{g.app, "no_such_app?"}}
}

// find returns the template as the bench lists it; nil: it does not.
func (n *tenant) find(t *testing.T) *nexus.Template {
	t.Helper()
	result, err := n.bench.Run(t.Context(), nexus.Op{Args: nexus.Templates{}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(result.Templates, func(each nexus.Template) bool { return each.Name == n.site })
	if i < 0 {
		return nil
	}
	return &result.Templates[i]
}

// listed returns the template as the bench lists it.
func (n *tenant) listed(t *testing.T) nexus.Template {
	t.Helper()
	template := n.find(t)
	if template == nil || template.Job != n.owner || template.DB != n.op(nil).DB {
		t.Fatalf("listed as %+v", template)
	}
	return *template
}

// testBuilt builds a template. Before it is frozen no site is copied from it.
func testBuilt(t *testing.T, n *tenant) {
	n.refused(t, n.freeze(), nexus.NotFound)
	n.again(t, nexus.NewSite{})
	n.again(t, nexus.InstallApp{App: n.app})
	if problem := n.listed(t).Problem; len(problem) < 10 {
		t.Errorf("not a sentence for people: %q", problem)
	}
	testSkipped(t, n.target, n.site)
	n.again(t, n.freeze())
	made := n.listed(t)
	if made.Problem != "" || made.Spec != nexus.TemplatePlain || !slices.Equal(made.Apps, n.freeze().Apps) || made.Version == 0 || time.Since(made.MadeAt).Abs() > time.Hour {
		t.Errorf("listed as %+v", made)
	}
	n.run(t, nexus.Stop{})
	if result := n.run(t, nexus.NewSite{}); result.Changed {
		t.Error("it was made again")
	}
	if site := n.run(t, nexus.Inspect{}).Site; site.Job != n.owner || !site.Folder {
		t.Errorf("inspect: %+v", site)
	}
}

// testNotServed checks that a template or standby is none of the sites, and that no request
// reaches it.
func testNotServed(t *testing.T, n *tenant) {
	kind := map[nexus.Room]string{nexus.RoomTemplates: "template", nexus.RoomStandby: "standby"}[n.room]
	list := n.run(t, nexus.Inventory{}).Inventory
	if slices.ContainsFunc(list.Sites, func(s nexus.SiteInfo) bool { return strings.Contains(string(s.Site), string(n.site)) }) {
		t.Errorf("sites: %+v", list.Sites)
	}
	i := slices.IndexFunc(list.Databases, func(d nexus.DatabaseInfo) bool { return d.Name == n.op(nil).DB })
	if i < 0 || list.Databases[i].Kind != kind || list.Databases[i].Job != n.owner || !list.Databases[i].Exists {
		t.Errorf("databases: %+v", list.Databases)
	}
	site := *n
	site.room, site.pair = "", n.key(1, "a")
	site.refused(t, site.verify(), nexus.Unavailable)
	if info := site.run(t, nexus.Inspect{}).Site; info.Folder || info.State != "" {
		t.Errorf("it is found as a site: %+v", info)
	}
	for _, header := range []string{"", string(n.site), ".nexus/" + string(n.room) + "/" + string(n.site), "../sites/.nexus/" + string(n.room) + "/" + string(n.site)} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.addr+"/api/method/ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = string(n.site)
		if header != "" { // Frappe takes a site's path from it
			request.Header.Set("X-Frappe-Site-Name", header)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("asked with the header %q: %d", header, response.StatusCode)
		}
	}
}

// testClones makes two copies and works with each as with any tenant's site: nothing that
// is done to one is seen in the other or in the template.
func testClones(t *testing.T, template, one, two *tenant) {
	before := template.run(t, nexus.Inspect{}).Site
	one.again(t, nexus.Clone{Template: template.site, AdminPassword: ownPassword})
	two.again(t, nexus.Clone{Template: template.site})
	testAdministrator(t, one)
	for i, n := range []*tenant{one, two} {
		site := n.run(t, nexus.Inspect{}).Site
		if !slices.Contains(site.Apps, "frappe") || !slices.Contains(site.Apps, n.app) || site.State != string(nexus.TenantMaking) || site.Job != n.owner ||
			site.DB != n.op(nil).DB || !site.Folder || !site.Database || site.Install != n.install || site.Users != 0 || site.Email != "" || site.Plan != "" || time.Since(site.MadeAt).Abs() > time.Hour {
			t.Errorf("inspect: %+v", site)
		}
		for _, args := range []nexus.Args{nexus.InstallApp{App: n.app}, nexus.NewSite{}} {
			if result := n.run(t, args); result.Changed {
				t.Errorf("%s changed something", args.Op())
			}
		}
		n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
		n.again(t, n.plan([]nexus.PlanName{"starter", "free"}[i], 5+i))
		n.pair = n.key(i, "a")
		n.again(t, n.pair)
		n.run(t, n.verify())
		n.again(t, nexus.Mark{State: nexus.TenantActive})
		n.run(t, n.verify())
	}
	for i, n := range []*tenant{one, two} {
		if site := n.run(t, nexus.Inspect{}).Site; site.Users != 1 || site.Email != n.email || site.Plan != []nexus.PlanName{"starter", "free"}[i] {
			t.Errorf("inspect: %+v", site)
		}
		other := *n
		other.works(t, n.key(1-i, "a"), false) // the key of the other one
		databases := n.run(t, nexus.Inventory{}).Inventory.Databases
		k := slices.IndexFunc(databases, func(d nexus.DatabaseInfo) bool { return d.Name == n.op(nil).DB })
		if k < 0 || databases[k].Kind == "template" || databases[k].Job != n.owner || databases[k].Users != 1 {
			t.Errorf("databases: %+v", databases)
		}
	}
	if diff := cmp.Diff(before, template.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("the template is not what it was:\n%s", diff)
	}
}

func (n *tenant) plan(name nexus.PlanName, users int) nexus.ApplyPlan {
	return nexus.ApplyPlan{Plan: name, Users: users, StorageBytes: 10 << 30, HostName: "http://" + string(n.site)}
}

// testSkipped asks for copies of what is no template, or none yet: nothing is made.
func testSkipped(t *testing.T, g *target, names ...nexus.SiteName) {
	t.Helper()
	for _, name := range names {
		n := g.tenant("clone-none")
		for range 2 {
			if result := n.run(t, nexus.Clone{Template: name}); !result.Skipped || result.Changed || len(result.Note) < 10 {
				t.Errorf("a clone of %s: %+v", name, result)
			}
		}
		if info := n.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
			t.Errorf("a clone of %s left: %+v", name, info)
		}
		testDrop(t, n)
	}
}

// testTemplateStrangers checks that another job gets neither a clone nor its template.
func testTemplateStrangers(t *testing.T, template, clone *tenant) {
	site, made := clone.run(t, nexus.Inspect{}).Site, template.run(t, nexus.Inspect{}).Site
	clone.stranger().refused(t, nexus.Clone{Template: template.site}, nexus.Conflict)
	clone.stranger().run(t, nexus.DropSite{}) // the undo of that refusal
	other := template.stranger()
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: template.app}, template.freeze()} {
		other.refused(t, args, nexus.Conflict)
	}
	other.run(t, nexus.DropSite{})
	if diff := cmp.Diff(site, clone.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("a stranger changed the clone:\n%s", diff)
	}
	if diff := cmp.Diff(made, template.run(t, nexus.Inspect{}).Site); diff != "" || template.listed(t).Problem != "" {
		t.Errorf("a stranger changed the template:\n%s", diff)
	}
	clone.run(t, clone.verify())
}

// testCloneFence runs clone and freeze with a token that is too low.
func testCloneFence(t *testing.T, template, n *tenant) {
	older := *n
	n.gen++
	n.run(t, nexus.Clone{Template: template.site})
	for _, name := range []nexus.SiteName{template.site, "ct-none"} {
		if seen := older.refused(t, nexus.Clone{Template: name}, nexus.Fenced); seen != n.gen {
			t.Errorf("seen %d, want %d", seen, n.gen)
		}
	}
	testDrop(t, n)
	older = *template
	older.gen--
	older.refused(t, template.freeze(), nexus.Fenced)
}

// testCloneEnded ends a clone in its middle: the next attempt makes all of it. A copy may
// be faster than the order to end it.
func testCloneEnded(t *testing.T, template, n *tenant) {
	for _, next := range []nexus.Args{nexus.Clone{Template: template.site}, nexus.NewSite{}} {
		err := ended(t, n.bench, n.op(nexus.Clone{Template: template.site}))
		n.gen++
		if result := n.run(t, next); result.Skipped || result.Changed && err == nil {
			t.Errorf("%s after %v: %+v", next.Op(), err, result)
		}
		if site := n.run(t, nexus.Inspect{}).Site; site.State != string(nexus.TenantMaking) || !slices.Contains(site.Apps, "frappe") {
			t.Errorf("%s: %+v", next.Op(), site)
		}
		testDrop(t, n)
		n.gen++
	}
}

// testRooms checks that a template and a site of one name are two things, that no site
// becomes a template, and that a room that the bench does not know is no other room.
func testRooms(t *testing.T, template, clone *tenant) {
	made, site := template.run(t, nexus.Inspect{}).Site, clone.run(t, nexus.Inspect{}).Site
	namesake := template.tenant("namesake")
	namesake.site = template.site
	namesake.run(t, nexus.DropSite{})
	namesake.gen++
	namesake.again(t, nexus.NewSite{})
	if result := namesake.run(t, nexus.Clone{Template: template.site}); result.Changed || result.Skipped {
		t.Errorf("a clone of a complete site: %+v", result)
	}
	if info := namesake.run(t, nexus.Inspect{}).Site; info.Job != namesake.owner || info.DB != namesake.op(nil).DB || slices.Contains(info.Apps, namesake.app) {
		t.Errorf("the site of the template's name: %+v", info)
	}
	for _, n := range []*tenant{namesake, clone} {
		n.refused(t, n.freeze(), nexus.Invalid)
	}
	namesake.run(t, nexus.DropSite{})
	if info := namesake.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
		t.Errorf("left behind: %+v", info)
	}
	attic := *clone
	attic.room = "attic"
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: clone.app}, nexus.Inspect{}, nexus.Mark{State: nexus.TenantSuspended}, nexus.Stop{}, nexus.DropSite{}} {
		attic.refused(t, args, nexus.Invalid)
	}
	if diff := cmp.Diff(made, template.run(t, nexus.Inspect{}).Site); diff != "" || template.listed(t).Problem != "" {
		t.Errorf("the template is not what it was:\n%s", diff)
	}
	if diff := cmp.Diff(site, clone.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("the clone is not what it was:\n%s", diff)
	}
	if clone.find(t) != nil {
		t.Error("a tenant's site is listed as a template")
	}
	clone.run(t, clone.verify())
}
