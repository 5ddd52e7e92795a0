//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// shelf makes standbys of a template.
type shelf struct {
	*model
}

// kept is a standby.
type kept struct {
	*tenant
	shelf *shelf
}

func (g *target) shelf(t *testing.T, b *standin.Box) *shelf {
	t.Helper()
	s := &shelf{g.model(t, b, "shelf")}
	s.raw(t)
	s.must(t, s.freeze())
	return s
}

// copy makes a standby that is not shelved yet.
func (s *shelf) copy(t *testing.T) *kept {
	t.Helper()
	k := &kept{tenant: s.target.tenant("standby"), shelf: s}
	k.site, k.room = nexus.StandbyName(k.owner), nexus.RoomStandby
	k.again(t, nexus.Clone{Template: s.site})
	return k
}

func (s *shelf) keep(t *testing.T) *kept {
	t.Helper()
	k := s.copy(t)
	k.run(t, nexus.Shelve{})
	return k
}

func (k *kept) folder() string { return "sites/.nexus/standby/" + string(k.site) }

// listed is the standby as the bench lists it; nil: it does not.
func (k *kept) listed(t *testing.T) *nexus.Standby {
	t.Helper()
	list := k.run(t, nexus.Standbys{}).Standbys
	if i := slices.IndexFunc(list, func(s nexus.Standby) bool { return s.Name == k.site }); i >= 0 {
		return &list[i]
	}
	return nil
}

// taker is a tenant whose job gets the standby.
func (k *kept) taker(name string) *tenant {
	n := k.target.tenant(name)
	n.db = k.op(nil).DB
	return n
}

func (k *kept) claim(n *tenant) nexus.Claim {
	return nexus.Claim{Standby: k.site, Maker: k.owner, Plan: n.plan("starter", 7)}
}

// rows are the numbers of rows in the standby's tables, in which a session, a job or a log
// would be seen.
func (k *kept) rows(t *testing.T) string {
	t.Helper()
	db := k.op(nil).DB
	names := strings.Fields(k.shelf.ask(t, "SELECT HEX(table_name) FROM information_schema.tables WHERE table_schema = '"+db+"' AND table_type = 'BASE TABLE' ORDER BY 1"))
	var ask strings.Builder
	for i, name := range names {
		if i > 0 {
			ask.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&ask, "SELECT 0x%s, COUNT(*) FROM %s.`%s`", name, db, unhex(t, name))
	}
	return k.shelf.ask(t, ask.String())
}

// gone checks that nothing is left of the standby and of its taker's site.
func (k *kept) gone(t *testing.T, n *tenant) {
	t.Helper()
	if left := append(k.left(t, n.site, n.op(nil).DB), k.left(t, k.site, k.op(nil).DB)...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if found := k.listed(t); found != nil {
		t.Errorf("it is still listed: %+v", found)
	}
}

// testShelf checks of standbys what only a look into database, folders and Redis shows.
func testShelf(t *testing.T, b *standin.Box, g *target) {
	s := g.shelf(t, b)
	if found := s.find(t); found == nil || found.Bytes < 1<<20 {
		t.Errorf("the template is listed as %+v", found)
	}
	t.Run("shelved", func(t *testing.T) { testShelved(t, b, s) })
	t.Run("claimed", func(t *testing.T) { testClaimed(t, b, s) })
	t.Run("nothing shared", func(t *testing.T) { testClaimsApart(t, b, s) })
	t.Run("two at once", func(t *testing.T) { testTwoClaims(t, s) })
	t.Run("claimed and reaped at once", func(t *testing.T) { testClaimAndReap(t, s) })
	t.Run("of no use", func(t *testing.T) { testUseless(t, b, s) })
	t.Run("reaped after a claim", func(t *testing.T) { testReapedLate(t, b, s) })
	t.Run("the name is taken meanwhile", func(t *testing.T) { testNameTaken(t, b, s) })
	t.Run("names", func(t *testing.T) { testRename(t, b) })
	t.Run("its process", func(t *testing.T) { testSession(t, b, s) })
	t.Run("its company", func(t *testing.T) { testCompanyOf(t, b, s) })
	s.end(t, b)
}

// end drops the template, and checks that nothing is left of the standbys.
func (s *shelf) end(t *testing.T, b *standin.Box) {
	t.Helper()
	s.must(t, nexus.DropSite{})
	if left := b.Sh(t, "ls -A sites/.nexus/standby sites/.nexus/trash; find sites/.nexus -name '*standby-*'"); strings.Contains(left, "standby-") {
		t.Errorf("left: %s", left)
	}
}

// testShelved makes a standby and looks at what that leaves.
func testShelved(t *testing.T, b *standin.Box, s *shelf) {
	k := s.copy(t)
	if found := k.listed(t); found == nil || found.Problem == "" || found.Job != k.owner || found.DB != k.op(nil).DB {
		t.Errorf("listed as %+v", found)
	}
	b.Sh(t, "cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe --site .nexus/standby/"+string(k.site)+
		` execute frappe.utils.background_jobs.enqueue --args "['frappe.ping']" >/dev/null 2>&1 || true; echo x > .nexus/standby/`+string(k.site)+"/logs/a.log")
	if jobs := b.Jobs(t, k.site); len(jobs) == 0 {
		t.Error("no job is queued: this shows nothing")
	}
	before := k.rows(t)
	k.again(t, nexus.Shelve{})
	if after := k.rows(t); after != before || strings.Count(before, "\n") < 100 {
		t.Errorf("shelving left rows: %s, before %s", after, before)
	}
	if jobs := b.Jobs(t, k.site); len(jobs) > 0 {
		t.Errorf("jobs are queued: %v", jobs)
	}
	if left := b.Sh(t, "ls -A "+k.folder()+"/logs"); left != "" {
		t.Errorf("logs: %s", left)
	}
	if caches := b.Caches(t, k.op(nil).DB); len(caches) < 2 {
		t.Errorf("the caches are cold: %v", caches)
	}
	found := k.listed(t)
	if found == nil || found.Problem != "" || found.Job != k.owner || found.DB != k.op(nil).DB || found.Template != s.site || found.Spec != nexus.TemplatePlain ||
		!slices.Equal(found.Apps, s.apps) || time.Since(found.MadeAt).Abs() > time.Hour {
		t.Errorf("listed as %+v", found)
	}
	for _, header := range []string{"", string(k.site), ".nexus/standby/" + string(k.site), "../sites/.nexus/standby/" + string(k.site)} {
		if status := k.status(t, header); status != http.StatusNotFound {
			t.Errorf("asked with the header %q: %d", header, status)
		}
	}
	k.run(t, nexus.DropSite{})
	k.gone(t, k.tenant)
}

// status is what a request gets with this name of the site in its header.
func (n *tenant) status(t *testing.T, header string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.addr+"/api/method/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = string(n.site)
	if header != "" { // Frappe takes a site's path from it
		request.Header.Set("X-Frappe-Site-Name", header)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// config is the config of a site.
func config(t *testing.T, b *standin.Box, path string) (values map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(b.Sh(t, "cat "+path)), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// testClaimed claims a standby and works with the site as with any other.
func testClaimed(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("claimed")
	before, resting := b.Caches(t, n.db), config(t, b, k.folder()+"/resting_config.json")
	began := time.Now()
	n.again(t, k.claim(n))
	t.Logf("claimed, and looked at again, in %s", time.Since(began))
	if files := b.Sh(t, "cd sites/"+string(n.site)+" && find . -type f ! -path './locks/*' | sort"); files != "./placeholder_user.json\n./site_config.json" {
		t.Errorf("its files: %s", files)
	}
	have := config(t, b, "sites/"+string(n.site)+"/site_config.json")
	want := maps.Clone(resting)
	marker, _ := have["nexus"].(map[string]any)
	want["nexus"] = map[string]any{"install": string(n.install), "tenant": string(n.site), "job": string(n.owner), "state": "making", "madeAt": marker["madeAt"], "apps": []any{"frappe", n.app}}
	want["nexus_plan"] = map[string]any{"name": "starter", "users": 7.0, "storage_bytes": float64(10 << 30)}
	want["host_name"], want["monitor"] = "http://"+string(n.site), 1.0
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("the config is %v, want %v", have, want)
	}
	if left := b.Sh(t, "grep -rl "+string(k.site)+" sites/"+string(n.site)+" sites/.nexus || true; find sites/.nexus -name '*"+string(k.site)+"*'"); left != "" {
		t.Errorf("its former name is left in %s", left)
	}
	if keys := b.Keys(t, string(k.site)); len(keys) > 0 {
		t.Errorf("its former name is left in Redis: %v", keys)
	}
	if after := b.Caches(t, n.db); !slices.Equal(before, after) {
		t.Errorf("cached before %v, after %v", before, after)
	}
	if status := n.status(t, ""); status != http.StatusOK {
		t.Errorf("the site answers %d", status)
	}
	site := n.run(t, nexus.Inspect{}).Site
	if site.Job != n.owner || site.DB != n.db || !site.Database || site.State != string(nexus.TenantMaking) || site.Plan != "starter" || site.Adopted || !slices.Contains(site.Apps, n.app) {
		t.Errorf("inspect: %+v", site)
	}
	if result := n.run(t, nexus.InstallApp{App: n.app}); result.Changed {
		t.Error("the app was installed again")
	}
	testClaimedRegion(t, b, n)
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	n.pair = n.key(1, "a")
	n.again(t, n.pair)
	n.run(t, n.verify())
	n.again(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, n.verify())
	n.again(t, nexus.Mark{State: nexus.TenantSuspended})
	testChangedDatabase(t, b, n)
	testDrop(t, n)
	k.gone(t, n)
}

// testClaimedRegion checks that no cache of the standby hides the tenant's settings.
func testClaimedRegion(t *testing.T, b *standin.Box, n *tenant) {
	plan := n.plan("starter", 7)
	before := b.Sh(t, "stat -c %i sites/"+string(n.site)+"/site_config.json")
	plan.Country, plan.Language, plan.TimeZone, plan.Currency = "Germany", "de", "Asia/Tokyo", "EUR"
	n.again(t, plan)
	if after := b.Sh(t, "stat -c %i sites/"+string(n.site)+"/site_config.json"); after != before {
		t.Error("the plan wrote the config again")
	}
	ask := func(call string) string {
		return b.Sh(t, "cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe --site "+string(n.site)+" execute "+call)
	}
	for what, want := range map[string]string{"time_zone": "Asia/Tokyo", "language": "de", "country": "Germany"} {
		if said := ask(`frappe.get_system_settings --args "['` + what + `']"`); !strings.Contains(said, want) {
			t.Errorf("%s: %s", what, said)
		}
	}
	if said := ask(`frappe.db.get_default --args "['currency']"`); !strings.Contains(said, "EUR") {
		t.Errorf("the currency: %s", said)
	}
}

// testChangedDatabase writes another database's name into the config: the register tells
// which one is the site's, although its name is derived from another job.
func testChangedDatabase(t *testing.T, b *standin.Box, n *tenant) {
	other := n.tenant("other")
	other.run(t, nexus.NewSite{})
	path := "sites/" + string(n.site) + "/site_config.json"
	b.Sh(t, "sed -i 's/\"db_name\": \".*\"/\"db_name\": \""+other.op(nil).DB+"\"/' "+path)
	if site := n.run(t, nexus.Inspect{}).Site; site.Job != n.owner || site.DB != n.db || !site.Database {
		t.Errorf("inspect: %+v", site)
	}
	list := n.run(t, nexus.Inventory{}).Inventory.Sites
	if i := slices.IndexFunc(list, func(s nexus.SiteInfo) bool { return s.Site == n.site }); i < 0 || list[i].DB != n.db || list[i].Job != n.owner {
		t.Errorf("sites: %+v", list)
	}
	testDrop(t, other)
	b.Sh(t, "sed -i 's/\"db_name\": \".*\"/\"db_name\": \""+n.db+"\"/' "+path)
}

// testClaimsApart checks that two claimed sites and their template share no secret.
func testClaimsApart(t *testing.T, b *standin.Box, s *shelf) {
	one, two := s.keep(t), s.keep(t)
	a, c := one.taker("apart-one"), two.taker("apart-two")
	a.run(t, one.claim(a))
	c.run(t, two.claim(c))
	all := map[any]bool{}
	for path, db := range map[string]string{"sites/.nexus/templates/" + string(s.site) + "/resting_config.json": s.op(nil).DB,
		"sites/" + string(a.site) + "/site_config.json": a.db, "sites/" + string(c.site) + "/site_config.json": c.db} {
		values := config(t, b, path)
		all[values["db_password"]], all[values["encryption_key"]] = true, true
		all[s.ask(t, "SELECT password FROM "+db+".__Auth WHERE name = 'Administrator'")] = true
	}
	if len(all) != 9 || all[nil] || all[""] {
		t.Errorf("%d different secrets of three sites, want 9", len(all))
	}
	inside := b.Session(t, a.db, b.Password(t, a.site))
	for _, other := range []string{c.db, s.op(nil).DB} {
		if said := inside.Ask("SELECT name FROM " + other + ".tabUser"); !strings.Contains(said, "ERROR 1142") && !strings.Contains(said, "ERROR 1044") {
			t.Errorf("it reads %s: %q", other, said)
		}
	}
	inside.Close()
	testDrop(t, a)
	testDrop(t, c)
}

// testTwoClaims lets two jobs want one standby at once: one gets it, the other is told, and
// its undo leaves the first one's site alone.
func testTwoClaims(t *testing.T, s *shelf) {
	k := s.keep(t)
	both := []*tenant{k.taker("race-one"), k.taker("race-two")}
	both[1].gen++
	results, errs := make([]nexus.Result, 2), make([]error, 2)
	var group sync.WaitGroup
	for i, n := range both {
		group.Go(func() {
			for range 50 { // as the engine does: an operation that was ended is tried again with a newer token
				results[i], errs[i] = n.try(t, k.claim(n))
				if errs[i] == nil {
					return
				}
				n.gen = max(n.gen, nexus.Gen(time.Now().UnixMicro()))
			}
		})
	}
	group.Wait()
	won, lost := 0, 1
	if results[0].Skipped {
		won, lost = 1, 0
	}
	if errs[0] != nil || errs[1] != nil || results[won].Skipped || !results[lost].Skipped || len(results[lost].Note) < 10 {
		t.Fatalf("%+v, %v; %+v, %v", results[0], errs[0], results[1], errs[1])
	}
	winner, loser := both[won], both[lost]
	loser.gen = max(loser.gen, winner.gen) + 1
	if info := loser.run(t, nexus.Inspect{}).Site; info.Folder || info.Job != "" || info.Database {
		t.Errorf("the loser has %+v", info)
	}
	loser.run(t, nexus.DropSite{})
	winner.gen = loser.gen + 1
	if result := winner.run(t, k.claim(winner)); result.Changed {
		t.Error("the winner had to claim it again")
	}
	if info := winner.run(t, nexus.Inspect{}).Site; info.Job != winner.owner || !info.Database || info.State != string(nexus.TenantMaking) {
		t.Errorf("the winner has %+v", info)
	}
	testDrop(t, winner)
	k.gone(t, winner)
}

// testClaimAndReap lets a job claim a standby while its maker's drop wants it: one of them
// gets all of it.
func testClaimAndReap(t *testing.T, s *shelf) {
	for range 2 {
		k := s.keep(t)
		n, reaper := k.taker("reaped"), *k.tenant
		var result nexus.Result
		var group sync.WaitGroup
		repeat := func(do func() error, of *tenant) {
			for range 50 {
				if err := do(); err == nil {
					return
				}
				of.gen = max(of.gen, nexus.Gen(time.Now().UnixMicro()))
			}
			t.Error("it never ends")
		}
		group.Go(func() {
			repeat(func() (err error) { result, err = n.try(t, k.claim(n)); return err }, n)
		})
		group.Go(func() {
			repeat(func() error { _, err := reaper.try(t, nexus.DropSite{}); return err }, &reaper)
		})
		group.Wait()
		n.gen = max(n.gen, reaper.gen) + 1
		info := n.run(t, nexus.Inspect{}).Site
		switch {
		case result.Skipped:
			if info.Folder || info.Database || info.Job != "" {
				t.Errorf("the reaper won, and there is %+v", info)
			}
		case info.Job != n.owner || !info.Database || info.State != string(nexus.TenantMaking):
			t.Errorf("the claim won, and there is %+v", info)
		}
		testDrop(t, n)
		k.gone(t, n)
	}
}

// unclaimed checks that a claim is refused with a sentence, and that nothing is taken.
func (k *kept) unclaimed(t *testing.T, why string, change func(*nexus.Claim)) {
	t.Helper()
	n := k.taker("unclaimed")
	n.gen = max(n.gen, k.gen)
	claim := k.claim(n)
	if change != nil {
		change(&claim)
	}
	for range 2 {
		if result := n.run(t, claim); !result.Skipped || result.Changed || !strings.Contains(result.Note, why) {
			t.Errorf("%+v, want %q", result, why)
		}
	}
	if info := n.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
		t.Errorf("left: %+v", info)
	}
	n.run(t, nexus.DropSite{}) // what the engine may do all the same
	k.gen = n.gen + 1
}

// testUseless asks for standbys that no signup may get. None of them is harmed.
func testUseless(t *testing.T, b *standin.Box, s *shelf) {
	raw := s.copy(t)
	raw.unclaimed(t, "not finished", nil)
	raw.run(t, nexus.DropSite{})
	k := s.keep(t)
	k.unclaimed(t, "There is no standby", func(c *nexus.Claim) { c.Standby = "standby-none" })
	k.unclaimed(t, "not the one", func(c *nexus.Claim) { c.Maker = nexus.NewJobID() })
	back := s.changeApp(t, b, "patches.txt", "ct.patch")
	k.unclaimed(t, "have changed", nil)
	if found := k.listed(t); found == nil || !strings.Contains(found.Problem, "have changed") {
		t.Errorf("listed as %+v", found)
	}
	back()
	record := k.folder() + "/standby.json"
	b.Sh(t, fmt.Sprintf(`cp -p %s /tmp/ct-record && sed -i 's/"version": %d/"version": 0/' %s`, record, nexus.TemplateVersion, record))
	k.unclaimed(t, "another version", nil)
	if found := k.listed(t); found == nil || !strings.Contains(found.Problem, "another version") {
		t.Errorf("listed as %+v", found)
	}
	b.Sh(t, "mv /tmp/ct-record "+record)
	b.Sh(t, "cp -p "+k.folder()+"/resting_config.json /tmp/ct-resting && sed -i 's/\"db_password\": \".*\"/\"db_password\": \"x\"/' "+k.folder()+"/resting_config.json")
	k.unclaimed(t, "does not open", nil)
	b.Sh(t, "mv /tmp/ct-resting "+k.folder()+"/resting_config.json")
	if found := k.listed(t); found == nil || found.Problem != "" {
		t.Errorf("listed as %+v", found)
	}
	s.ask(t, "DROP DATABASE "+k.op(nil).DB+"; DROP USER "+k.op(nil).DB)
	if found := k.listed(t); found == nil || !strings.Contains(found.Problem, "gone") {
		t.Errorf("listed as %+v", found)
	}
	k.run(t, nexus.DropSite{})
	k.unclaimed(t, "There is no standby", nil)
	changed := s.copy(t)
	back = s.changeApp(t, b, "__init__.py", `__version__ = "99.0.0"`)
	changed.refused(t, nexus.Shelve{}, nexus.Conflict)
	back()
	changed.again(t, nexus.Shelve{})
	changed.run(t, nexus.DropSite{})
	changed.gone(t, changed.tenant)
}

// testReapedLate drops a standby as its maker after a job got it, at each point of a claim:
// nothing of it is touched.
func testReapedLate(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("late")
	s.ask(t, fmt.Sprintf("UPDATE nexus.register SET kind = 'site', job = '%s' WHERE name = '%s'", n.owner, n.db)) // handed over, and no more
	look := func() string { return b.Sh(t, "find sites/.nexus/standby -type f -exec sha256sum {} + | sort") }
	before := look()
	if found := k.listed(t); found == nil || !strings.Contains(found.Problem, "taken") || found.Job != k.owner {
		t.Errorf("listed as %+v", found)
	}
	for range 2 {
		if result := k.run(t, nexus.DropSite{}); result.Changed {
			t.Error("its maker dropped it")
		}
	}
	k.refused(t, nexus.Shelve{}, nexus.Conflict)
	if after := look(); after != before || before == "" {
		t.Errorf("its maker changed it: %s", after)
	}
	n.gen = k.gen + 1
	n.again(t, k.claim(n))
	k.gen = n.gen + 1
	if result := k.run(t, nexus.DropSite{}); result.Changed {
		t.Error("its maker dropped a tenant's site")
	}
	n.gen = k.gen + 1
	if info := n.run(t, nexus.Inspect{}).Site; info.Job != n.owner || !info.Database || !info.Folder {
		t.Errorf("the site is %+v", info)
	}
	testDrop(t, n)
	k.gone(t, n)
}

// testCompanyOf names the company of a claimed site: the wizard finds the name as it is, and
// an abbreviation. A site that has a company keeps what it has.
func testCompanyOf(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("company")
	n.run(t, k.claim(n))
	have := func(key string) string {
		return strings.TrimSpace(s.ask(t, "SELECT HEX(defvalue) FROM "+n.db+".tabDefaultValue WHERE parent = '__default' AND defkey = '"+key+"'"))
	}
	for _, row := range []struct{ name, abbr, stored string }{
		{"Acme", "ACME", ""},
		{"Acme Steel & Sons", "ASS", ""},
		{"Müller/Söhne-Werke GmbH & Co. KG, Ulm", "MSWGC", ""},
		{`O'Neill "100%" \_x\\ %s {0} &amp; <b>`, "O1XS0", `O'Neill "100%" \_x\\ %s {0} &amp; b`},
		{"  東京 製作所 ", "東製", "東京 製作所"},
		{"ελλάς", "ΕΛΛΆΣ", ""},
		{"हिन्दी कंपनी", "हक", ""},
		{"Straße", "STRAS", ""},
		{"4", "4", ""},
		{"🚀 Rocket", "ROCKE", ""},
		{strings.Repeat("🚀", 150), "", strings.Repeat("🚀", 140)},
		{strings.Repeat("Long ", 40), "LLLLL", strings.TrimSpace(strings.Repeat("Long ", 28))},
	} {
		if row.stored == "" {
			row.stored = row.name
		}
		n.again(t, nexus.Company{Name: row.name})
		if got := have("company_name"); got != fmt.Sprintf("%X", row.stored) {
			t.Errorf("%q is stored as %q", row.name, unhex(t, got))
		}
		if got := have("company_abbr"); row.abbr != "" && got != fmt.Sprintf("%X", row.abbr) {
			t.Errorf("the abbreviation of %q is %q, want %q", row.name, unhex(t, got), row.abbr)
		}
	}
	said := b.Sh(t, "cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe --site "+string(n.site)+` execute frappe.db.get_default --args "['company_abbr']"`)
	if !strings.Contains(said, "LLLLL") {
		t.Errorf("Frappe tells the abbreviation %s", said)
	}
	if said := s.ask(t, "INSERT INTO "+n.db+".tabCompany (name) VALUES ('Real')"); said != "" {
		t.Fatal(said)
	}
	before := have("company_name")
	if result := n.run(t, nexus.Company{Name: "Other"}); result.Changed || have("company_name") != before {
		t.Errorf("a site with a company: %+v", result)
	}
	testDrop(t, n)
	bare := s.target.tenant("bare")
	bare.run(t, nexus.NewSite{})
	if result := bare.run(t, nexus.Company{Name: "Acme"}); !result.Skipped || result.Changed {
		t.Errorf("a site without companies: %+v", result)
	}
	bare.stranger().refused(t, nexus.Company{Name: "Acme"}, nexus.Conflict)
	testDrop(t, bare)
}
