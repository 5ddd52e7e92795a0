package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// testAdopt adopts a complete site of another maker, gives it back as it was, adopts it
// again and removes it.
func testAdopt(t *testing.T, n *tenant) {
	n.refused(t, nexus.Adopt{Email: n.email}, nexus.NotFound)
	db, look := n.complete(t, n.site)
	before := look()
	n.db = db
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(before, look()); diff != "" {
			t.Errorf("%s the site is not what it was:\n%s", when, diff)
		}
	}
	testRegister(t, n)
	same("registered,")
	n.run(t, nexus.Disown{}) // the undo of an adoption that was refused
	n.run(t, nexus.DropSite{})
	n.refused(t, nexus.Mark{State: nexus.TenantActive}, nexus.Conflict)
	same("not adopted,")

	n.again(t, nexus.Adopt{Email: n.email})
	n.again(t, nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "http://" + string(n.site)})
	n.again(t, nexus.Mark{State: nexus.TenantSuspended})
	adopted := n.run(t, nexus.Inspect{}).Site
	other := n.stranger()
	other.refused(t, nexus.Adopt{Email: n.email}, nexus.Conflict)
	other.run(t, nexus.Disown{})
	other.run(t, nexus.DropSite{})
	n.gen = other.gen // the fence is of the database, which both mean
	if diff := cmp.Diff(adopted, n.run(t, nexus.Inspect{}).Site); diff != "" {
		t.Errorf("a stranger changed the site:\n%s", diff)
	}

	n.again(t, nexus.Disown{})
	same("given back,")
	other.gen++
	other.run(t, nexus.DropSite{})
	same("after a stranger's drop,")

	n.owner, n.gen = nexus.NewJobID(), other.gen+1
	n.again(t, nexus.Adopt{Email: n.email})
	testAdopted(t, n)
	n.again(t, nexus.Mark{State: nexus.TenantDeleting})
	testDrop(t, n)
}

// testRegister enters the site's database, twice.
func testRegister(t *testing.T, n *tenant) {
	args := nexus.Register{RootUser: n.secrets.RootUser, RootPassword: n.secrets.RootPassword}
	if args.RootUser != "" { // the sandbox has no register
		n.refused(t, nexus.Adopt{Email: n.email}, nexus.Conflict)
		wrong := args
		wrong.RootPassword = "wrong"
		n.refused(t, wrong, nexus.Invalid)
	}
	nobody := *n
	nobody.site = "ct-nobody.localhost"
	nobody.refused(t, args, nexus.NotFound)
	for range 2 {
		if result := n.run(t, args); result.Site == nil || result.Site.DB != n.db {
			t.Fatalf("registered %+v", result.Site)
		}
	}
}

// testAdopted does with an adopted site what is done with any tenant's.
func testAdopted(t *testing.T, n *tenant) {
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	n.again(t, nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "http://" + string(n.site)})
	n.pair = nexus.IssueKey{Email: n.email, Key: nexus.Secret(strings.Repeat("c3", 32)), Secret: nexus.Secret(strings.Repeat("d4", 32))}
	n.again(t, n.pair)
	n.again(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, n.verify())
	site := n.run(t, nexus.Inspect{}).Site
	if !site.Adopted || site.Job != n.owner || site.DB != n.db || site.Install != n.install || site.Plan != "starter" ||
		site.Email != n.email || !site.Database || !slices.Contains(site.Apps, "frappe") {
		t.Errorf("inspect: %+v", site)
	}
	list := n.run(t, nexus.Inventory{}).Inventory
	i := slices.IndexFunc(list.Databases, func(d nexus.DatabaseInfo) bool { return d.Name == n.db })
	if i < 0 || list.Databases[i].Job != n.owner || !list.Databases[i].Adopted || !list.Databases[i].Exists || list.Databases[i].Users != 1 {
		t.Errorf("databases: %+v", list.Databases)
	}
}

// testGivenBack adopts a site, gives its admin a new key, and gives the site back, in each
// order that may occur. Settings and keys must be as before, except for a key that was
// set by somebody else meanwhile.
func testGivenBack(t *testing.T, n *tenant) {
	db, look := n.complete(t, n.site)
	n.db = db
	n.run(t, nexus.Register{RootUser: n.secrets.RootUser, RootPassword: n.secrets.RootPassword})
	for i, had := range []string{"a key", "none"} { // who has one first: Frappe makes the site's encryption_key for it
		n.email = fmt.Sprintf("admin%d@example.com", i)
		old, first, second, theirs := n.key(i, "a"), n.key(i, "b"), n.key(i, "c"), n.key(i, "d")
		if had == "none" {
			old.Key, old.Secret = "", ""
		}
		n.admin(t, n, old)
		for _, way := range []struct {
			name string
			do   func(t *testing.T)
			live nexus.IssueKey // afterwards
		}{
			{"given once", func(t *testing.T) { n.again(t, first); n.works(t, first, true) }, old},
			{"given, and his profile saved", func(t *testing.T) { n.again(t, first); n.saved(t, first) }, old},
			{"given anew", func(t *testing.T) { n.again(t, second); n.again(t, first) }, old},
			{"cut off", func(t *testing.T) {
				n.cutOff(t, first)
				n.works(t, old, true)
			}, old},
			{"cut off, then given", func(t *testing.T) { n.cutOff(t, second); n.again(t, first) }, old},
			{"its return cut off", func(t *testing.T) { n.again(t, first); n.cutOff(t, nexus.Disown{}) }, old},
			{"canceled at the end", func(t *testing.T) { n.again(t, first); n.again(t, nexus.Mark{State: nexus.TenantActive}) }, old},
			{"changed by others", func(t *testing.T) { n.again(t, first); n.admin(t, n, theirs) }, theirs},
			{"long a tenant", func(t *testing.T) {
				n.again(t, first)
				for _, state := range []nexus.TenantState{nexus.TenantActive, nexus.TenantSuspended, nexus.TenantActive} {
					n.again(t, nexus.Mark{State: state})
				}
			}, first},
		} {
			t.Run("had "+had+", "+way.name, func(t *testing.T) {
				before := look()
				n.owner, n.gen = nexus.NewJobID(), n.gen+1
				n.again(t, nexus.Adopt{Email: n.email})
				n.again(t, nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "http://" + string(n.site),
					Country: "Germany", Language: "de", TimeZone: "Europe/Berlin"})
				way.do(t)
				n.again(t, nexus.Disown{})
				if diff := cmp.Diff(before, look()); diff != "" && way.live == old {
					t.Errorf("the site is not what it was:\n%s", diff)
				}
				for range 2 {
					for _, key := range []nexus.IssueKey{old, first, second, theirs} {
						n.works(t, key, key == way.live)
					}
					n.saved(t, way.live)
				}
			})
		}
	}
}

// key is a pair of the tenant's user.
func (n *tenant) key(user int, name string) nexus.IssueKey {
	pair := strings.Repeat(fmt.Sprint(user)+name, 32)
	return nexus.IssueKey{Email: n.email, Key: nexus.Secret("k" + pair), Secret: nexus.Secret("s" + pair)}
}

func (n *tenant) cutOff(t *testing.T, args nexus.Args) {
	t.Helper()
	if n.cut != nil {
		n.cut(t, n, args)
	}
}

// works checks whether the site accepts a key; an empty one is not tried.
func (n *tenant) works(t *testing.T, key nexus.IssueKey, want bool) {
	t.Helper()
	n.pair = key
	if key.Key == "" {
		return
	}
	if _, err := n.try(t, n.verify()); want && err != nil || !want && nexus.CodeOf(err) != nexus.Internal {
		t.Errorf("the key %.3s: %v, should work: %t", key.Key.Reveal(), err, want)
	}
}
