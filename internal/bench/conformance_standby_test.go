package bench_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// testStandbys makes standbys of a template, and sites from them. Each row has a standby of
// its own.
func testStandbys(t *testing.T, template *tenant) {
	for _, row := range []struct {
		name string
		do   func(t *testing.T, template *tenant)
	}{
		{"made", testStandbyMade},
		{"claimed", testStandbyClaimed},
		{"claimed by two", testStandbyWanted},
		{"nothing to claim", testStandbyRefused},
		{"the name is taken", testStandbyNameTaken},
		{"fence", testStandbyFence},
		{"ended in the middle", testStandbyEnded},
		{"dropped by its owner", testStandbyDropped},
		{"dropped by its maker", testStandbyReaped},
		{"strangers", testStandbyStrangers},
		{"not in this room", testStandbyRooms},
		{"company", testCompany},
	} {
		t.Run(row.name, func(t *testing.T) { row.do(t, template) })
	}
}

// standby is a standby of the table that is not made yet.
func (g *target) standby() *tenant {
	n := g.tenant("standby")
	n.site, n.room = nexus.StandbyName(n.owner), nexus.RoomStandby
	return n
}

// shelved makes a standby from a template.
func shelved(t *testing.T, template *tenant) *tenant {
	t.Helper()
	n := template.standby()
	n.run(t, nexus.Clone{Template: template.site, AdminPassword: ownPassword})
	n.run(t, nexus.Shelve{})
	return n
}

// taker is a tenant whose job gets a standby. Their database is one, so they have one token
// until one of them gets a higher one.
func (n *tenant) taker(name string) *tenant {
	other := n.tenant(name)
	other.db, other.gen = n.op(nil).DB, n.gen
	return other
}

// claimFor are the arguments by which a taker claims the standby.
func (n *tenant) claimFor(taker *tenant) nexus.Claim {
	return nexus.Claim{Standby: n.site, Maker: n.owner, Plan: taker.plan("starter", 7)}
}

// onShelf returns the standby as the bench lists it; nil: it does not.
func (n *tenant) onShelf(t *testing.T) *nexus.Standby {
	t.Helper()
	result, err := n.bench.Run(t.Context(), nexus.Op{Args: nexus.Standbys{}})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(result.Standbys, func(each nexus.Standby) bool { return each.Name == n.site })
	if i < 0 {
		return nil
	}
	if each := result.Standbys[i]; each.Job != n.owner || each.DB != n.op(nil).DB {
		t.Errorf("listed as %+v", each)
	}
	return &result.Standbys[i]
}

// untouched checks that a claim did nothing to the standby: a job may still get it.
func (n *tenant) untouched(t *testing.T) {
	t.Helper()
	if each := n.onShelf(t); each == nil || each.Problem != "" {
		t.Errorf("listed as %+v", each)
	}
	if kind, job := n.registered(t); kind != "standby" || job != n.owner {
		t.Errorf("its database is a %s of %s", kind, job)
	}
}

// registered tells what the register has of the database.
func (n *tenant) registered(t *testing.T) (kind string, job nexus.JobID) {
	t.Helper()
	list := n.run(t, nexus.Inventory{}).Inventory
	for _, db := range list.Databases {
		if db.Name == n.op(nil).DB && db.Exists && db.Users == 1 {
			return db.Kind, db.Job
		}
	}
	return "nothing", ""
}

// becameSite checks that a standby is the taker's site now, and nothing else.
func (n *tenant) becameSite(t *testing.T, taker *tenant) {
	t.Helper()
	if each := n.onShelf(t); each != nil {
		t.Errorf("it is still listed: %+v", each)
	}
	if kind, job := n.registered(t); kind != "" && kind != "site" || job != taker.owner {
		t.Errorf("its database is a %s of %s", kind, job)
	}
	if left := n.left(t, n.site, n.owner.Database("none")); len(left) > 0 {
		t.Errorf("left of the standby: %v", left)
	}
	list := n.run(t, nexus.Inventory{}).Inventory
	i := slices.IndexFunc(list.Sites, func(s nexus.SiteInfo) bool { return s.Site == taker.site })
	if i < 0 || list.Sites[i].Job != taker.owner || list.Sites[i].DB != n.op(nil).DB || list.Sites[i].Install != n.install {
		t.Errorf("sites: %+v", list.Sites)
	}
	if slices.ContainsFunc(list.Intents, func(i nexus.Intent) bool { return i.Site == taker.site }) {
		t.Errorf("intents: %+v", list.Intents)
	}
	if info := taker.run(t, nexus.Inspect{}).Site; info.State != string(nexus.TenantMaking) || info.Plan != "starter" || info.Users != 0 ||
		!slices.Contains(info.Apps, "frappe") || !slices.Contains(info.Apps, n.app) || time.Since(info.MadeAt).Abs() > time.Hour {
		t.Errorf("inspect: %+v", info)
	}
}

// settles does what a job does after it has its site.
func (n *tenant) settles(t *testing.T) {
	t.Helper()
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	n.run(t, n.plan("starter", 7))
	n.pair = nexus.IssueKey{Email: n.email, Key: nexus.Secret(n.owner + n.owner), Secret: nexus.Secret(strings.Repeat(string(n.owner[:16]), 4))}
	n.again(t, n.pair)
	n.run(t, n.verify())
	n.again(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, n.verify())
}

// refusedClaim is a claim that gets nothing and leaves nothing.
func (n *tenant) refusedClaim(t *testing.T, args nexus.Claim) {
	t.Helper()
	for range 2 {
		if result := n.run(t, args); !result.Skipped || result.Changed || len(result.Note) < 10 {
			t.Errorf("a claim of %s: %+v", args.Standby, result)
		}
	}
	n.hasNothing(t)
	n.run(t, nexus.DropSite{})
	own := *n
	own.db = ""       // the job's next road has a database of its own
	testDrop(t, &own) // a bench may keep the fence of the name till then
}

// hasNothing checks that nothing of the tenant's is on the bench.
func (n *tenant) hasNothing(t *testing.T) {
	t.Helper()
	own := *n
	own.db = "" // that of the standby may be another's
	if info := own.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
		t.Errorf("it has %+v", info)
	}
	list := n.run(t, nexus.Inventory{}).Inventory
	if slices.ContainsFunc(list.Databases, func(d nexus.DatabaseInfo) bool { return d.Job == n.owner }) ||
		slices.ContainsFunc(list.Intents, func(i nexus.Intent) bool { return i.Site == n.site }) {
		t.Errorf("left behind in the registers: %+v", list)
	}
}

// testStandbyMade makes a standby. It is not served, and is no site of the inventory.
func testStandbyMade(t *testing.T, template *tenant) {
	n := template.standby()
	n.refused(t, nexus.Shelve{}, nexus.NotFound)
	n.refused(t, nexus.Warm{}, nexus.NotFound)
	if result := n.run(t, nexus.Clone{Template: "ct-none"}); !result.Skipped || len(result.Note) < 10 {
		t.Errorf("a copy of nothing: %+v", result)
	}
	n.again(t, nexus.Clone{Template: template.site})
	if each := n.onShelf(t); each == nil || len(each.Problem) < 10 {
		t.Errorf("listed as %+v", each)
	}
	early := n.taker("early")
	early.refusedClaim(t, n.claimFor(early))
	n.refused(t, nexus.Warm{}, nexus.Conflict)
	n.again(t, nexus.Shelve{})
	n.untouched(t)
	n.again(t, nexus.Warm{})
	n.untouched(t)
	if !n.onShelf(t).Warm {
		t.Error("it is not listed as warm")
	}
	if each := n.onShelf(t); each.Template != template.site || each.Spec != nexus.TemplatePlain || !slices.Equal(each.Apps, n.freeze().Apps) || time.Since(each.MadeAt).Abs() > time.Hour {
		t.Errorf("listed as %+v", each)
	}
	if result := n.run(t, nexus.Clone{Template: template.site}); result.Changed || result.Skipped {
		t.Errorf("it was made again: %+v", result)
	}
	n.run(t, nexus.Stop{})
	testNotServed(t, n)
	if site := n.run(t, nexus.Inspect{}).Site; site.Job != n.owner || !site.Folder || site.DB != n.op(nil).DB {
		t.Errorf("inspect: %+v", site)
	}
	n.untouched(t)
	testDrop(t, n)
	if n.onShelf(t) != nil {
		t.Error("it is still listed")
	}
}

// testStandbyClaimed claims two standbys, and works with each site as with any tenant's.
func testStandbyClaimed(t *testing.T, template *tenant) {
	var all [2]*tenant
	for i := range all {
		n := shelved(t, template)
		all[i] = n.taker("claimed")
		all[i].again(t, n.claimFor(all[i]))
		n.becameSite(t, all[i])
		testAdministrator(t, all[i])
		all[i].settles(t)
		for _, args := range []nexus.Args{n.claimFor(all[i]), nexus.InstallApp{App: n.app}} { // as by a job that was interrupted
			if result := all[i].run(t, args); result.Changed || result.Skipped {
				t.Errorf("%s on the complete site: %+v", args.Op(), result)
			}
		}
		if site := all[i].run(t, nexus.Inspect{}).Site; site.State != string(nexus.TenantActive) || site.Users != 1 || site.Email != all[i].email {
			t.Errorf("inspect: %+v", site)
		}
	}
	for i, n := range all {
		n.run(t, n.verify())
		other := *n
		other.works(t, all[1-i].pair, false)
		n.again(t, nexus.Mark{State: nexus.TenantSuspended})
		n.refused(t, n.verify(), nexus.Unavailable)
		n.again(t, nexus.Mark{State: nexus.TenantActive})
		testDrop(t, n)
	}
}

// testStandbyWanted lets two jobs claim one standby at once: one gets it, and the other one
// has nothing. On a bench that ends who works on a database before, both may have to try
// again.
func testStandbyWanted(t *testing.T, template *tenant) {
	n := shelved(t, template)
	jobs := []*tenant{n.taker("wanted"), n.taker("wanted")}
	var group sync.WaitGroup
	var results [2]nexus.Result
	var errs [2]error
	for i, each := range jobs {
		group.Go(func() { results[i], errs[i] = each.try(t, n.claimFor(each)) })
	}
	group.Wait()
	for i, each := range jobs {
		if nexus.CodeOf(errs[i]) == nexus.Unavailable {
			results[i], errs[i] = each.try(t, n.claimFor(each))
		}
	}
	if errs[0] != nil || errs[1] != nil || results[0].Skipped == results[1].Skipped {
		t.Fatalf("two at once: %+v, %v; %+v, %v", results[0], errs[0], results[1], errs[1])
	}
	winner, loser := jobs[0], jobs[1]
	if results[0].Skipped {
		winner, loser = loser, winner
	}
	n.becameSite(t, winner)
	loser.refusedClaim(t, n.claimFor(loser))
	n.becameSite(t, winner)
	winner.settles(t)
	testDrop(t, winner)
}

// testStandbyRefused claims what is no standby, or not the one that is meant.
func testStandbyRefused(t *testing.T, template *tenant) {
	n, served := shelved(t, template), template.tenant("served")
	served.run(t, nexus.Clone{Template: template.site})
	before := map[*tenant]*nexus.SiteInfo{template: template.run(t, nexus.Inspect{}).Site, served: served.run(t, nexus.Inspect{}).Site}
	for name, change := range map[string]func(n *tenant, c *nexus.Claim){
		"nothing there": func(n *tenant, c *nexus.Claim) {
			c.Maker = nexus.NewJobID()
			c.Standby, n.db = nexus.StandbyName(c.Maker), c.Maker.Database(n.install)
		},
		"another maker":    func(_ *tenant, c *nexus.Claim) { c.Maker = nexus.NewJobID() },
		"another name":     func(_ *tenant, c *nexus.Claim) { c.Standby = "standby-none" },
		"another database": func(n *tenant, _ *nexus.Claim) { n.db = "" },
		"a template": func(n *tenant, c *nexus.Claim) {
			c.Standby, c.Maker, n.db = template.site, template.owner, template.op(nil).DB
		},
		"the name of a standby, the rest of a template": func(n *tenant, c *nexus.Claim) { c.Maker, n.db = template.owner, template.op(nil).DB },
		"a tenant's site": func(n *tenant, c *nexus.Claim) {
			c.Standby, c.Maker, n.db = served.site, served.owner, served.op(nil).DB
		},
		"the name of a standby, the rest of a tenant's site": func(n *tenant, c *nexus.Claim) { c.Maker, n.db = served.owner, served.op(nil).DB },
	} {
		t.Run(name, func(t *testing.T) {
			taker := n.taker("nothing")
			args := n.claimFor(taker)
			change(taker, &args)
			for _, owner := range []*tenant{template, served} {
				if taker.op(nil).DB == owner.op(nil).DB { // it is not fenced, and fences nobody
					taker.gen = owner.gen
				}
			}
			taker.refusedClaim(t, args)
			n.untouched(t)
		})
	}
	for each, want := range before {
		if diff := cmp.Diff(want, each.run(t, nexus.Inspect{}).Site); diff != "" {
			t.Errorf("%s is not what it was:\n%s", each.site, diff)
		}
	}
	if template.listed(t).Problem != "" {
		t.Errorf("the template: %+v", template.listed(t))
	}
	testDrop(t, n)
	testDrop(t, served)
}

// testStandbyNameTaken claims a standby for a name that is somebody else's.
func testStandbyNameTaken(t *testing.T, template *tenant) {
	n := shelved(t, template)
	taker := n.taker("taken")
	look := n.plant(t, taker.site)
	before := look()
	taker.refused(t, n.claimFor(taker), nexus.Conflict)
	taker.run(t, nexus.DropSite{}) // the undo of that refusal
	if diff := cmp.Diff(before, look()); diff != "" || before == "" {
		t.Errorf("somebody else's site was touched:\n%s", diff)
	}
	n.untouched(t)
	other := n.taker("free")
	other.again(t, n.claimFor(other))
	n.becameSite(t, other)
	// The name of a site that was a standby is taken too.
	second := shelved(t, template)
	late := second.taker("late")
	late.site = other.site
	late.refused(t, second.claimFor(late), nexus.Conflict)
	late.run(t, nexus.DropSite{})
	second.untouched(t)
	n.becameSite(t, other)
	testDrop(t, other)
	testDrop(t, second)
}

// testStandbyFence claims with tokens that are too low: of a job on the standby, and of the
// same job.
func testStandbyFence(t *testing.T, template *tenant) {
	n := shelved(t, template)
	n.gen += 10
	n.run(t, nexus.Stop{})
	taker := n.taker("fence")
	taker.gen = n.gen - 1
	if seen := taker.refused(t, n.claimFor(taker), nexus.Fenced); seen != n.gen {
		t.Errorf("seen %d, want %d", seen, n.gen)
	}
	n.untouched(t)
	taker.gen = n.gen + 1
	older := *taker
	taker.gen++
	taker.again(t, n.claimFor(taker))
	for _, args := range []nexus.Args{n.claimFor(&older), nexus.DropSite{}, nexus.Mark{State: nexus.TenantActive}} {
		if seen := older.refused(t, args, nexus.Fenced); seen != taker.gen {
			t.Errorf("%s: seen %d, want %d", args.Op(), seen, taker.gen)
		}
	}
	n.refused(t, nexus.Shelve{}, nexus.Fenced) // the job that made it has no say any more
	n.becameSite(t, taker)
	taker.settles(t)
	testDrop(t, taker)
	if result, err := older.try(t, n.claimFor(&older)); !result.Skipped && nexus.CodeOf(err) != nexus.Fenced {
		t.Errorf("late: %+v, %v", result, err)
	}
	older.hasNothing(t)
}

// testStandbyEnded ends claims at several moments. Then the job tries again, or its undo
// removes what it has got. A claim may be faster than the order to end it.
func testStandbyEnded(t *testing.T, template *tenant) {
	for _, tc := range []struct {
		after time.Duration // zero: at the first progress
		undo  bool
	}{{0, false}, {5 * time.Millisecond, true}, {20 * time.Millisecond, false}, {60 * time.Millisecond, true}} {
		n := shelved(t, template)
		taker := n.taker("ended")
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := func() { cancel(nexus.ErrCanceled) }
		op := taker.op(n.claimFor(taker))
		if tc.after == 0 {
			op.Progress = func(string, int) { stop() }
		} else {
			time.AfterFunc(tc.after, stop)
		}
		result, err := n.bench.Run(ctx, op)
		cancel(nil)
		if err != nil && nexus.CodeOf(err) != nexus.CodeCanceled || err == nil && !result.Changed {
			t.Fatalf("ended as %+v, %v", result, err)
		}
		taker.gen++
		if !tc.undo {
			if again := taker.run(t, n.claimFor(taker)); again.Skipped || again.Changed && err == nil {
				t.Errorf("after %v: %+v", err, again)
			}
			n.becameSite(t, taker)
			taker.settles(t)
		}
		taker.run(t, nexus.DropSite{})
		if n.onShelf(t) != nil { // the claim was ended before the bench knew of it
			n.untouched(t)
			n.gen = taker.gen
			testDrop(t, n)
		}
		testDrop(t, taker)
		if kind, job := n.registered(t); job != "" {
			t.Errorf("the database is left, a %s of %s", kind, job)
		}
	}
}

// testStandbyDropped drops by the owner: a site that was a standby goes as a whole, and one
// that the job never began to claim stays where it is.
func testStandbyDropped(t *testing.T, template *tenant) {
	n := shelved(t, template)
	other := n.taker("not-begun")
	if result := other.run(t, nexus.DropSite{}); result.Changed {
		t.Errorf("%+v", result)
	}
	n.untouched(t)
	taker := n.taker("dropped")
	taker.again(t, n.claimFor(taker))
	if result := taker.run(t, nexus.DropSite{}); !result.Changed {
		t.Errorf("%+v", result)
	}
	testDrop(t, taker)
	testDrop(t, n)
	taker.refusedClaim(t, n.claimFor(taker)) // it is not there any more
}

// testStandbyReaped drops by the job that made the standby: before a claim all of it goes,
// and after one nothing.
func testStandbyReaped(t *testing.T, template *tenant) {
	n := shelved(t, template)
	testDrop(t, n)
	if n.onShelf(t) != nil {
		t.Error("it is still listed")
	}
	taker := n.taker("reaped")
	taker.refusedClaim(t, n.claimFor(taker))

	n = shelved(t, template)
	taker = n.taker("kept")
	taker.again(t, n.claimFor(taker))
	n.gen = taker.gen + 1
	if result := n.run(t, nexus.DropSite{}); result.Changed {
		t.Errorf("%+v", result)
	}
	taker.gen = n.gen + 1
	n.becameSite(t, taker)
	taker.settles(t)
	n.gen = taker.gen
	n.run(t, nexus.DropSite{})
	taker.run(t, taker.verify())
	testDrop(t, taker)
}

// testStandbyStrangers checks that no other job changes or drops a standby, or the site that
// it becomes.
func testStandbyStrangers(t *testing.T, template *tenant) {
	n := shelved(t, template)
	other := n.stranger()
	before := n.run(t, nexus.Inspect{}).Site
	for _, args := range []nexus.Args{nexus.Clone{Template: template.site}, nexus.Shelve{}} {
		other.refused(t, args, nexus.Conflict)
	}
	other.run(t, nexus.DropSite{})
	other.db, other.gen = n.op(nil).DB, n.gen // as if it had the standby's database
	other.refused(t, nexus.Shelve{}, nexus.Conflict)
	other.run(t, nexus.DropSite{})
	if diff := cmp.Diff(before, n.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("a stranger changed the standby:\n%s", diff)
	}
	n.untouched(t)
	taker := n.taker("strangers")
	taker.again(t, n.claimFor(taker))
	other = taker.stranger()
	other.gen = taker.gen
	for _, args := range []nexus.Args{n.claimFor(other), nexus.NewSite{}, nexus.Mark{State: nexus.TenantActive}, nexus.Company{Name: "Other"}} {
		other.refused(t, args, nexus.Conflict)
	}
	other.run(t, nexus.DropSite{})
	n.becameSite(t, taker)
	testDrop(t, taker)
}

// testStandbyRooms tries what is not done with standbys, and what is done with nothing else.
func testStandbyRooms(t *testing.T, template *tenant) {
	n := shelved(t, template)
	site := n.tenant("no-standby")
	user := nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"}
	before := n.run(t, nexus.Inspect{}).Site
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: n.app}, user, n.plan("starter", 7), nexus.IssueKey{Email: n.email, Key: "k", Secret: "s"},
		nexus.Mark{State: nexus.TenantActive}, n.freeze(), nexus.Company{Name: "Acme"}, nexus.Adopt{Email: n.email}, nexus.Disown{}, n.claimFor(n)} {
		n.refused(t, args, nexus.Invalid)
	}
	for _, args := range []nexus.Args{nexus.Shelve{}, nexus.Clone{Template: template.site}, n.claimFor(n), user, nexus.Company{Name: "Acme"}} {
		template.refused(t, args, nexus.Invalid)
	}
	site.refused(t, nexus.Shelve{}, nexus.Invalid)
	site.refused(t, nexus.Warm{}, nexus.Invalid)
	site.hasNothing(t)
	if diff := cmp.Diff(before, n.run(t, nexus.Inspect{}).Site); diff != "" || template.listed(t).Problem != "" {
		t.Errorf("the standby is not what it was:\n%s", diff)
	}
	// A site of the standby's name is another thing.
	namesake := n.tenant("namesake")
	namesake.site = n.site
	namesake.run(t, nexus.DropSite{})
	if info := namesake.run(t, nexus.Inspect{}).Site; info.Folder || info.Job != "" {
		t.Errorf("inspect: %+v", info)
	}
	n.untouched(t)
	testDrop(t, n)
}

// testCompany names the company of a site, and of a site that was a standby.
func testCompany(t *testing.T, template *tenant) {
	n := shelved(t, template)
	taker := n.taker("company")
	taker.refused(t, nexus.Company{Name: "Acme"}, nexus.NotFound)
	taker.again(t, n.claimFor(taker))
	for i, name := range []string{"Acme", "Wood & \"Sons\"", "O'Brien \\ 100%s {{ 7*7 }}", "<b>Müller</b> GmbH & Co. KG", "株式会社", "مؤسسة", "1", "...", strings.Repeat("Long ", 28) + "Name", "🏭 " + strings.Repeat("é", 137)} {
		first := taker.run(t, nexus.Company{Name: name})
		if first.Skipped { // the bench's sites have no wizard
			if first.Changed || i > 0 {
				t.Errorf("%q: %+v", name, first)
			}
			break
		}
		if second := taker.run(t, nexus.Company{Name: name}); !first.Changed || second.Changed || second.Skipped {
			t.Errorf("%q: %+v, then %+v", name, first, second)
		}
	}
	taker.settles(t)
	older := *taker
	older.gen--
	older.refused(t, nexus.Company{Name: "Older"}, nexus.Fenced)
	testDrop(t, taker)
}
