package bench_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is one implementation of nexus.Bench, and what the table must know of it.
type target struct {
	bench   nexus.Bench
	install nexus.InstallID
	addr    string // where its sites answer
	app     string // one it has
	secrets nexus.Init

	// plant makes a site of somebody else's under a name; the answer tells what
	// it looks like now, byte for byte.
	plant func(t *testing.T, site nexus.SiteName) (look func() string)
	// complete makes a whole site as 1.0's scripts did; its database is not registered.
	complete func(t *testing.T, site nexus.SiteName) (db string, look func() string)
	// admin makes a complete site's user n.email, or gives it this key, past us; an
	// empty one: none.
	admin func(t *testing.T, n *tenant, key nexus.IssueKey)
	// cut ends the gift of a key, or the return of a site, in its middle; nil: that
	// is one write.
	cut func(t *testing.T, n *tenant, args nexus.Args)
	// frappe: its sites answer as Frappe's do; the sandbox's have no login and take
	// no document.
	frappe bool
	// company looks for a company's name and abbreviation where only the bench knows them;
	// nil: the site's answers show all of it.
	company func(t *testing.T, n *tenant, name, abbr string)
	// search looks for a file of this name below the bench's folder.
	search func(t *testing.T, name string) (where string)
	// left lists what is left of a site and its database, outside our own view.
	left func(t *testing.T, site nexus.SiteName, db string) []string
}

// tenant is one site of the table, and the operations on it.
type tenant struct {
	*target
	site  nexus.SiteName
	room  nexus.Room // of a template; empty: a site that is served
	owner nexus.JobID
	gen   nexus.Gen
	pair  nexus.IssueKey
	email string
	db    string    // of another maker; empty: derived from the owner
	since nexus.Gen // Submitted; zero: as gen
}

func (g *target) tenant(name string) *tenant {
	return &tenant{target: g, site: nexus.SiteName(fmt.Sprintf("ct-%s-%s.localhost", name, nexus.NewJobID()[:6])), owner: nexus.NewJobID(),
		gen: nexus.Gen(time.Now().UnixMicro()), email: "jane." + name + "@example.com"}
}

func (n *tenant) op(args nexus.Args) nexus.Op {
	db := n.db
	if db == "" {
		db = n.owner.Database(n.install)
	}
	since := n.since
	if since == 0 {
		since = n.gen
	}
	return nexus.Op{Site: n.site, Room: n.room, DB: db, Owner: n.owner, Gen: n.gen, Submitted: since, Email: n.email, Args: args}
}

func (n *tenant) run(t *testing.T, args nexus.Args) nexus.Result {
	t.Helper()
	result, err := n.try(t, args)
	if err != nil {
		t.Fatalf("%s: %v", args.Op(), err)
	}
	return result
}

func (n *tenant) try(t *testing.T, args nexus.Args) (nexus.Result, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	return n.bench.Run(ctx, n.op(args))
}

// refused runs an operation that must fail with a code, and hands on the
// highest token that the bench says it has seen.
func (n *tenant) refused(t *testing.T, args nexus.Args, want nexus.Code) (seen nexus.Gen) {
	t.Helper()
	_, err := n.try(t, args)
	if got := nexus.CodeOf(err); got != want {
		t.Fatalf("%s: %q (%v), want %q", args.Op(), got, err, want)
	}
	e, _ := errors.AsType[*nexus.Error](err)
	if len(e.Msg) < 10 {
		t.Errorf("%s: not a sentence for people: %q", args.Op(), e.Msg)
	}
	return e.Seen
}

// again runs an operation twice: first it changes something, then nothing.
func (n *tenant) again(t *testing.T, args nexus.Args) {
	t.Helper()
	if result := n.run(t, args); !result.Changed {
		t.Errorf("%s changed nothing", args.Op())
	}
	if result := n.run(t, args); result.Changed {
		t.Errorf("%s a second time changed something", args.Op())
	}
}

// newer is the next owner of the same job: a higher token.
func (n *tenant) newer() *tenant {
	next := *n
	next.gen++
	return &next
}

// stranger is another job that meets this site.
func (n *tenant) stranger() *tenant {
	other := *n
	other.owner, other.gen = nexus.NewJobID(), n.gen+1000
	return &other
}

// conformance is what every bench must do.
func conformance(t *testing.T, g *target) {
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	one := g.tenant("one")
	t.Run("a site is made once", func(t *testing.T) { one.again(t, nexus.NewSite{AdminPassword: ownPassword}) })
	t.Run("its Administrator", func(t *testing.T) { testAdministrator(t, one) })
	t.Run("apps", func(t *testing.T) { testApps(t, one) })
	t.Run("user, plan, key", func(t *testing.T) { testTenant(t, one) })
	t.Run("country, language, zone, currency", func(t *testing.T) { testRegion(t, one) })
	t.Run("keys outlive a user that is saved", func(t *testing.T) { testSavedUser(t, one) })
	t.Run("a package unpacks nothing", func(t *testing.T) { testPackage(t, one) })
	t.Run("strangers", func(t *testing.T) { testStrangers(t, one) })
	t.Run("fence", func(t *testing.T) { testFence(t, one) })
	t.Run("closed and opened", func(t *testing.T) { testMark(t, one) })
	t.Run("a job that is outdated", func(t *testing.T) { testOutdated(t, one) })
	t.Run("inventory", func(t *testing.T) { testInventory(t, one) })
	t.Run("another site at once", func(t *testing.T) { testTwo(t, one) })
	t.Run("ended in the middle", func(t *testing.T) { testEnded(t, g.tenant("mid")) })
	t.Run("somebody else's site", func(t *testing.T) { testForeign(t, g.tenant("theirs")) })
	t.Run("adopted", func(t *testing.T) { testAdopt(t, g.tenant("adopted")) })
	t.Run("given back with its keys", func(t *testing.T) { testGivenBack(t, g.tenant("back")) })
	t.Run("templates", func(t *testing.T) { testTemplates(t, g, one) })
	t.Run("templates of countries", func(t *testing.T) { testCountries(t, g) })
	t.Run("dropped", func(t *testing.T) { testDrop(t, one) })
	t.Run("never made", func(t *testing.T) { testDrop(t, g.tenant("never")) })
}

func testHello(t *testing.T, g *target) {
	run := func(args nexus.Args) (nexus.Result, error) { return g.bench.Run(t.Context(), nexus.Op{Args: args}) }
	init := g.secrets
	init.Install = g.install
	for range 2 {
		if _, err := run(init); err != nil {
			t.Fatal(err)
		}
	}
	hello, err := run(nexus.Hello{})
	if err != nil || hello.Hello == nil || hello.Hello.Install != g.install || hello.Hello.Apps[g.app] == "" ||
		!strings.HasPrefix(hello.Hello.Frappe, "1") || len(hello.Hello.Problems) > 0 {
		t.Fatalf("%+v, %v", hello.Hello, err)
	}
	testKnows(t, hello.Hello.Knows)
	init.Install = "0000"
	if _, err := run(init); nexus.CodeOf(err) != nexus.Conflict {
		t.Fatalf("the bench of another install: %v", err)
	}
}

// testKnows looks for one of each kind in the bench's lists, and that nothing in them
// is what Frappe could not use.
func testKnows(t *testing.T, k *nexus.Knows) {
	t.Helper()
	if k == nil {
		t.Fatal("the bench tells no countries")
	}
	korea, _ := k.Country("KR")
	germany, _ := k.Country("Germany")
	if korea.Name != "Korea, Republic of" || korea.Currency != "KRW" || germany.Code != "DE" || !slices.Contains(germany.TimeZones, "Europe/Berlin") {
		t.Errorf("countries: %+v, %+v", korea, germany)
	}
	if !slices.Contains(k.Currencies, "EUR") || slices.Contains(k.Currencies, "KZ") || !slices.IsSorted(k.Currencies) ||
		!slices.Contains(k.Languages, nexus.Language{Code: "de", Name: "Deutsch"}) {
		t.Errorf("currencies %v, languages %v", k.Currencies, k.Languages)
	}
	for zone, want := range map[string]bool{"Europe/Berlin": true, "Asia/Calcutta": true, "America/Coyhaique": false} {
		if slices.Contains(k.TimeZones, zone) != want {
			t.Errorf("%s is a time zone of the bench: %t", zone, !want)
		}
	}
	if want := (nexus.FieldLimits{Email: 140, FullName: 140, Organization: 140, Password: 512}); k.Limits != want {
		t.Errorf("limits: %+v", k.Limits)
	}
}

func testApps(t *testing.T, n *tenant) {
	n.refused(t, nexus.InstallApp{App: "no_such_app"}, nexus.NotFound)
	if result := n.run(t, nexus.InstallApp{App: "no_such_app", Optional: true}); !result.Skipped {
		t.Error("an optional app that is not there was not skipped")
	}
	n.again(t, nexus.InstallApp{App: n.app})
	if site := n.run(t, nexus.Inspect{}).Site; !slices.Contains(site.Apps, n.app) {
		t.Errorf("installed: %v", site.Apps)
	}
}

func testTenant(t *testing.T, n *tenant) {
	user := nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz", Language: "en", TimeZone: "Europe/Berlin"}
	long := user
	long.Email = strings.Repeat("a", 60) + "@" + strings.Repeat("b", 60) + "." + strings.Repeat("c", 15) + ".com" // 141
	n.refused(t, long, nexus.Invalid)
	long.Email, long.FullName = n.email, strings.Repeat("x", 70)+" "+strings.Repeat("y", 70)
	n.refused(t, long, nexus.Invalid)
	n.run(t, user)
	user.Password = "An0therPassword" // a retry of a signup whose answer was lost
	if result := n.run(t, user); result.Changed && n.run(t, user).Changed {
		t.Error("the same user is made again and again")
	}
	n.refused(t, nexus.IssueKey{Email: "nobody@example.com", Key: "k", Secret: "s"}, nexus.NotFound)
	n.pair = nexus.IssueKey{Email: n.email, Key: nexus.Secret(strings.Repeat("a1", 32)), Secret: nexus.Secret(strings.Repeat("b2", 32))}
	n.again(t, n.pair)
	n.again(t, nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "http://" + string(n.site),
		TimeZone: "Europe/Berlin", Language: "en"})
	n.run(t, n.verify())
	wrong := n.verify()
	wrong.Secret = "wrong"
	n.refused(t, wrong, nexus.Internal)
	other := n.verify()
	other.Email = "joe@example.com"
	n.refused(t, other, nexus.Internal)
	if site := n.run(t, nexus.Inspect{}).Site; site.Users != 1 || site.Plan != "starter" || site.Job != n.owner || !site.Folder || !site.Database {
		t.Errorf("inspect: %+v", site)
	}
}

func (n *tenant) verify() nexus.Verify {
	return nexus.Verify{Email: n.email, DocType: "User", Key: n.pair.Key, Secret: n.pair.Secret}
}

func testStrangers(t *testing.T, n *tenant) {
	before := n.run(t, nexus.Inspect{}).Site
	other := n.stranger()
	other.refused(t, nexus.NewSite{}, nexus.Conflict)
	other.refused(t, nexus.InstallApp{App: n.app}, nexus.Conflict)
	other.refused(t, nexus.Mark{State: nexus.TenantSuspended}, nexus.Conflict)
	other.run(t, nexus.DropSite{}) // nothing of the stranger's is there
	if diff := cmp.Diff(before, n.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("a stranger changed the site:\n%s", diff)
	}
	n.run(t, n.verify())
}

func testFence(t *testing.T, n *tenant) {
	next := n.newer()
	next.run(t, nexus.Mark{State: nexus.TenantMaking})
	if seen := n.refused(t, nexus.Mark{State: nexus.TenantActive}, nexus.Fenced); seen != next.gen {
		t.Errorf("seen %d, want %d", seen, next.gen)
	}
	n.refused(t, nexus.Stop{}, nexus.Fenced)
	*n = *next
	n.run(t, nexus.Stop{})
	n.run(t, nexus.Mark{State: nexus.TenantMaking}) // the same token may go on
	absurd := *n
	absurd.gen = math.MaxInt64
	absurd.refused(t, nexus.Mark{State: nexus.TenantMaking}, nexus.Unavailable)
	n.run(t, nexus.Mark{State: nexus.TenantMaking}) // it was not kept
}

func testMark(t *testing.T, n *tenant) {
	n.again(t, nexus.Mark{State: nexus.TenantSuspended})
	n.refused(t, n.verify(), nexus.Unavailable)
	n.again(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, n.verify())
	*n = *n.newer()
	n.run(t, nexus.Mark{State: nexus.TenantActive})
	if site := n.run(t, nexus.Inspect{}).Site; site.State != string(nexus.TenantActive) || site.StateGen != n.gen {
		t.Errorf("active as of %d, marked at %d", site.StateGen, n.gen)
	}
}

// testOutdated has a job run that was submitted before the job that last changed the
// site's state, as one from a backup of Redis is: it changes nothing, though its token is
// the newest.
func testOutdated(t *testing.T, n *tenant) {
	first, second := n.newer(), n.newer().newer()
	first.since, second.since = first.gen, second.gen
	first.run(t, nexus.Mark{State: nexus.TenantSuspended})
	second.run(t, nexus.Mark{State: nexus.TenantActive})
	first.gen = second.gen + 1
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.Clone{Template: "ct-none"}, nexus.Mark{State: nexus.TenantSuspended}, nexus.Mark{State: nexus.TenantActive}, n.pair, nexus.Disown{}, nexus.DropSite{}} {
		if _, err := first.try(t, args); nexus.CodeOf(err) != nexus.Conflict || !nexus.IsOutdated(err) {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	second.run(t, nexus.Mark{State: nexus.TenantActive}) // once more, by its own job
	if site := n.run(t, nexus.Inspect{}).Site; site.State != string(nexus.TenantActive) || site.StateGen != second.since {
		t.Errorf("%s as of %d, want active as of %d", site.State, site.StateGen, second.since)
	}
	n.gen = first.gen + 1
	n.run(t, n.verify())
}

func testInventory(t *testing.T, n *tenant) {
	list := n.run(t, nexus.Inventory{}).Inventory
	i := slices.IndexFunc(list.Sites, func(s nexus.SiteInfo) bool { return s.Site == n.site })
	if i < 0 || list.Sites[i].Job != n.owner || list.Sites[i].DB != n.op(nil).DB || list.Sites[i].State != string(nexus.TenantActive) {
		t.Errorf("sites: %+v", list.Sites)
	}
	k := slices.IndexFunc(list.Databases, func(d nexus.DatabaseInfo) bool { return d.Name == n.op(nil).DB })
	if k < 0 || !list.Databases[k].Exists || list.Databases[k].Job != n.owner || list.Databases[k].Users != 1 || !strings.Contains(list.Databases[k].Comment, string(n.owner)) {
		t.Errorf("databases: %+v", list.Databases)
	}
	if rest := n.run(t, nexus.Inventory{After: "~"}).Inventory; len(rest.Sites)+len(rest.Databases) > 0 || rest.Next != "" {
		t.Errorf("after the last page: %+v", rest)
	}
}

// testTwo lets two jobs want one name at once, while another site is worked on:
// one of them gets it, and the key of one site opens no other.
func testTwo(t *testing.T, n *tenant) {
	g := n.target
	a := g.tenant("two")
	b := a.stranger()
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, each := range []*tenant{a, b} {
		group.Go(func() { _, errs[i] = each.try(t, nexus.NewSite{}) })
	}
	group.Go(func() { n.run(t, n.verify()) })
	group.Wait()
	winner, loser := a, b
	if errs[0] != nil {
		winner, loser, errs[0], errs[1] = b, a, errs[1], errs[0]
	}
	if errs[0] != nil || nexus.CodeOf(errs[1]) != nexus.Conflict {
		t.Fatalf("two at once: %v, %v", errs[0], errs[1])
	}
	loser.run(t, nexus.DropSite{})
	if site := winner.run(t, nexus.Inspect{}).Site; site.Job != winner.owner || !site.Database {
		t.Fatalf("the loser's undo hit the winner: %+v", site)
	}
	winner.pair, winner.email = n.pair, n.email
	winner.refused(t, winner.verify(), nexus.Internal)
	testDrop(t, winner)
}

// testEnded ends a new site in its middle: its undo finds it all.
func testEnded(t *testing.T, n *tenant) {
	if ended(t, n.bench, n.op(nexus.NewSite{})) == nil {
		t.Fatal("it was not ended")
	}
	testDrop(t, n.newer())
}

func testForeign(t *testing.T, n *tenant) {
	look := n.plant(t, n.site)
	before := look()
	n.refused(t, nexus.NewSite{}, nexus.Conflict)
	n.run(t, nexus.DropSite{}) // the undo of that refusal
	if diff := cmp.Diff(before, look()); diff != "" || before == "" {
		t.Errorf("somebody else's site was touched:\n%s", diff)
	}
}

func testDrop(t *testing.T, n *tenant) {
	n.run(t, nexus.DropSite{})
	n.run(t, nexus.DropSite{})
	if left := n.left(t, n.site, n.op(nil).DB); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if site := n.run(t, nexus.Inspect{}).Site; site.Folder || site.Database || site.Job != "" {
		t.Errorf("left behind: %+v", site)
	}
	list := n.run(t, nexus.Inventory{}).Inventory
	if slices.ContainsFunc(list.Databases, func(d nexus.DatabaseInfo) bool { return d.Name == n.op(nil).DB }) ||
		slices.ContainsFunc(list.Intents, func(i nexus.Intent) bool { return i.Site == n.site }) {
		t.Errorf("left behind in the registers: %+v", list)
	}
}
