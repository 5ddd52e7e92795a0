//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// userRecord is what template.json has of a user.
type userRecord struct {
	User struct {
		Email     string
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Columns   map[string][]string
	}
}

// words are those that are nowhere but in the placeholder's rows.
func (r userRecord) words() []string {
	return []string{r.User.Email, r.User.FirstName, r.User.LastName}
}

// users is a template with a user.
type users struct {
	*founded
	user userRecord
}

// testUsers checks the user of a template, and those of its copies, in all tables.
func testUsers(t *testing.T, b *standin.Box, g *target) {
	u := &users{founded: g.founded(t, b, nexus.TemplatePlain)}
	u.freezes(t)
	if err := json.Unmarshal([]byte(b.Sh(t, "cat "+u.folder()+"/template.json")), &u.user); err != nil {
		t.Fatal(err)
	}
	t.Run("at rest", func(t *testing.T) { testUserAtRest(t, u) })
	t.Run("as Frappe makes it", func(t *testing.T) { testUserAsMade(t, b, u) })
	t.Run("names", func(t *testing.T) { testUserNames(t, b, u) })
	t.Run("roles", func(t *testing.T) { testUserRoles(t, u) })
	t.Run("name taken", func(t *testing.T) { testUserTaken(t, b, u) })
	t.Run("made by a former version", func(t *testing.T) { testUserOfFormer(t, b, u) })
	t.Run("killed", func(t *testing.T) { testUserKilled(t, b, u) })
	u.must(t, nexus.DropSite{})
	t.Run("made by Frappe", func(t *testing.T) { testUserOfFrappe(t, b, g) })
	t.Run("frozen again", func(t *testing.T) { testUserFrozenAgain(t, b, g) })
}

// testUserOfFrappe freezes templates that get no user, and says why: an app does something of
// its own with users, or keeps their addresses elsewhere. Frappe makes those of their copies.
func testUserOfFrappe(t *testing.T, b *standin.Box, g *target) {
	hooks := g.model(t, b, "hooks")
	back := sync.OnceFunc(hooks.changeApp(t, b, "hooks.py", `globals().setdefault("doc_events", {}).setdefault("User", {})["on_trash"] = "ct_other.users.remove"`))
	t.Cleanup(back)
	hooks.raw(t)
	hooks.must(t, hooks.freeze())
	back()
	column := g.model(t, b, "column")
	column.raw(t)
	if said := column.ask(t, "USE "+column.op(nil).DB+"; ALTER TABLE tabUser ADD COLUMN ct_other VARCHAR(140) DEFAULT (CONCAT('to ', email)); "+
		"INSERT INTO tabWorkflow (name, document_type, is_active) VALUES ('ct', 'Customer', 1)"); said != "" {
		t.Fatal(said)
	}
	for _, row := range []struct {
		m      *model
		reason string
	}{{hooks, "the app ct_other has hooks of its own on users"}, {column, "its address or names are in tabUser.ct_other too"}} {
		for range 2 { // a repeated operation says it too
			if result := row.m.must(t, row.m.freeze()); !strings.Contains(result.Note, row.reason) {
				t.Errorf("%+v", result)
			}
		}
		n := row.m.from(t, "by-frappe")
		if said := b.Sh(t, "ls sites/"+string(n.site)); strings.Contains(said, "placeholder") || row.m.ask(t, "SELECT COUNT(*) FROM "+n.op(nil).DB+".tabUser") != "2\n" {
			t.Errorf("the template has a user: %s", said)
		}
		if result := n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"}); !result.Changed {
			t.Errorf("%+v", result)
		}
		testDrop(t, n)
		row.m.must(t, nexus.DropSite{})
	}
}

// testUserFrozenAgain freezes a template after an attempt that failed when it had made the
// user. This attempt finds that the template can have none, and removes it.
func testUserFrozenAgain(t *testing.T, b *standin.Box, g *target) {
	m := g.model(t, b, "again")
	m.raw(t)
	record := "sites/.nexus/templates/" + string(m.site) + "/template.json"
	b.Sh(t, "mkdir "+record)
	if result, err := m.do(t, m.freeze()); err == nil {
		t.Fatalf("frozen without a record: %+v", result)
	}
	b.Sh(t, "rmdir "+record)
	users := "SELECT COUNT(*) FROM " + m.op(nil).DB + ".tabUser; SELECT COUNT(*) FROM " + m.op(nil).DB + ".tabContact"
	if said := m.ask(t, users); said != "3\n1\n" {
		t.Fatalf("users and contacts: %q, so this shows nothing", said)
	}
	if said := m.ask(t, "INSERT INTO "+m.op(nil).DB+".tabWorkflow (name, document_type, is_active) VALUES ('ct', 'Contact', 1)"); said != "" {
		t.Fatal(said)
	}
	if result := m.must(t, m.freeze()); !strings.Contains(result.Note, "Workflow ct is for users") {
		t.Errorf("%+v", result)
	}
	if said := m.ask(t, users); said != "2\n0\n" {
		t.Errorf("users and contacts: %q", said)
	}
	m.must(t, nexus.DropSite{})
}

// testUserAtRest looks at the template's own user: nobody can log in as it.
func testUserAtRest(t *testing.T, u *users) {
	db, r := u.op(nil).DB, u.user.User
	if said := u.ask(t, "USE "+db+"; SELECT enabled, IFNULL(api_key, '') FROM tabUser WHERE name = '"+r.Email+"'; SELECT COUNT(*) FROM __Auth WHERE name = '"+r.Email+"'; SELECT COUNT(*) > 20 FROM `tabHas Role` WHERE parent = '"+r.Email+"'"); said != "0\t\n0\n1\n" {
		t.Errorf("the template's user: %q", said)
	}
	want := u.cells(t, db, u.user.words()...)
	for _, columns := range r.Columns {
		slices.Sort(columns)
	}
	if !maps.EqualFunc(want, r.Columns, slices.Equal) || len(want) < 7 {
		t.Errorf("recorded are %v, want %v", r.Columns, want)
	}
}

// rowsOf prints the rows of tables that have one of the words, without their keys and times.
const rowsOf = `import json; words = sys.argv[2].split(chr(10)); skip = ("creation", "modified", "name", "userid"); ` +
	`print(json.dumps([[t, sorted([[k, str(v)] for k, v in sorted(row.items()) if k not in skip] for row in frappe.db.sql("select * from " + chr(96) + t + chr(96), as_dict=True) ` +
	`if any(w in str(v) for v in row.values() for w in words))] for t in sys.argv[3:]], indent=1))`

// madeByFrappe makes the user of a copy as on a site that was not copied, with the contact that
// a background job makes.
func (u *users) madeByFrappe(t *testing.T, b *standin.Box, n *tenant, user nexus.EnsureUser) {
	t.Helper()
	var remove strings.Builder
	for table, columns := range u.user.User.Columns {
		for _, column := range columns {
			fmt.Fprintf(&remove, "DELETE FROM %s.`%s` WHERE LOCATE('%s', `%s`) OR LOCATE('%s', `%s`); ", n.op(nil).DB, table, u.user.User.Email, column, u.user.User.FirstName, column)
		}
	}
	u.ask(t, remove.String())
	b.Sh(t, "rm sites/"+string(n.site)+"/placeholder_user.json")
	n.run(t, user)
	b.Sh(t, siteCode(string(n.site), `from frappe.core.doctype.user.user import create_contact; create_contact(frappe.get_doc("User", sys.argv[2]), ignore_mandatory=True); frappe.db.commit()`)+n.email)
}

// testUserAsMade compares the user of a copy with one that Frappe has made, in all tables.
func testUserAsMade(t *testing.T, b *standin.Box, u *users) {
	for _, asked := range []nexus.EnsureUser{
		{FullName: "Jane Mary Doe"},
		{FullName: "Solo"},
		{FullName: "Jane-Ann Doe", Language: "de", TimeZone: "Europe/Berlin"},
		{FullName: "Administrator Smith"}, // the name of a user
		{FullName: "Jane Doe", Roles: []string{"Accounts User", "System Manager"}},
	} {
		t.Run(asked.FullName, func(t *testing.T) {
			one, two := u.from(t, "given"), u.from(t, "made")
			two.email = one.email
			for _, n := range []*tenant{one, two} {
				u.setFormats(t, n)
			}
			asked.Email, asked.Password = one.email, "Passw0rdXyz"
			if result := one.run(t, asked); !result.Changed || result.Note != "" {
				t.Errorf("%+v", result)
			}
			u.madeByFrappe(t, b, two, asked)
			first, _, _ := strings.Cut(asked.FullName, " ")
			tables := u.cells(t, one.op(nil).DB, one.email)
			maps.Copy(tables, u.cells(t, two.op(nil).DB, one.email))
			for _, skip := range append([]string{"__Auth"}, logs...) {
				delete(tables, skip)
			}
			rows := func(n *tenant) string {
				return b.Sh(t, siteCode(string(n.site), rowsOf)+fmt.Sprintf("'%s\n%s' '%s'", one.email, first, strings.Join(slices.Sorted(maps.Keys(tables)), "' '")))
			}
			if diff := cmp.Diff(rows(two), rows(one)); diff != "" {
				t.Errorf("other than Frappe makes it:\n%s", diff)
			}
			searched := func(n *tenant) string {
				return b.Sh(t, siteCode(string(n.site), `import json; print("\n".join(sorted(set(json.dumps(json.loads(e), sort_keys=True) for e in frappe.cache.lrange("global_search_queue", 0, -1) if sys.argv[2].encode() in e))))`)+one.email)
			}
			if made := searched(two); made == "" || searched(one) != made {
				t.Errorf("the search finds %s\nwant %s", searched(one), made)
			}
			u.taken(t, b, one)
			if ids := u.ask(t, fmt.Sprintf("SELECT COUNT(DISTINCT userid) FROM (SELECT userid FROM %s.`tabUser Social Login` UNION ALL SELECT userid FROM %s.`tabUser Social Login`) AS all_of_them", one.op(nil).DB, u.op(nil).DB)); ids != "2\n" {
				t.Errorf("its id for other sites' logins is the template's")
			}
			testDrop(t, one)
			testDrop(t, two)
		})
	}
}

// setFormats gives the languages of a copy formats, which Frappe 15 does not have.
func (u *users) setFormats(t *testing.T, n *tenant) {
	t.Helper()
	if u.ask(t, "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = '"+n.op(nil).DB+"' AND table_name = 'tabLanguage' AND column_name IN ('date_format', 'number_format')") == "2\n" {
		u.ask(t, "USE "+n.op(nil).DB+"; UPDATE tabLanguage SET date_format = 'dd.mm.yyyy', number_format = '#.###,##' WHERE name = 'de'")
	}
}

// logs are tables that a template has no rows of.
var logs = []string{"tabActivity Log", "tabComment", "tabPermission Log", "tabVersion", "tabAccess Log", "tabEmail Queue", "tabEmail Queue Recipient"}

// taken checks that nothing of the placeholder is left, and that the user can log in.
func (u *users) taken(t *testing.T, b *standin.Box, n *tenant) {
	t.Helper()
	if left := u.cells(t, n.op(nil).DB, u.user.words()...); len(left) > 0 {
		t.Errorf("the placeholder is left in %v", left)
	}
	if left := outside(t, b, "sites/"+string(n.site), n.op(nil).DB, u.user.words()...); left != "" {
		t.Errorf("the placeholder is left in %s", left)
	}
	if said := b.Sh(t, siteCode(string(n.site), `from frappe.utils.password import check_password; print(check_password(sys.argv[2], "Passw0rdXyz"))`)+n.email); said != n.email {
		t.Errorf("the password is not the user's: %s", said)
	}
}

// testUserNames gives users names that anything but parameters would spoil, and those that
// Frappe has to store.
func testUserNames(t *testing.T, b *standin.Box, u *users) {
	for i, name := range []string{`O'Neill "Jr" 100%_\x\ %s %(x)s &amp; ; -- `, "Tom & Jerry", "李 小龙", "... ...", strings.Repeat("é", 70) + " " + strings.Repeat("ü", 69), "<b>Bold</b> Jane"} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			n := u.from(t, "names")
			if said := b.Sh(t, "stat -c %a sites/"+string(n.site)+"/placeholder_user.json"); said != "600" {
				t.Errorf("the mode of placeholder_user.json is %s", said)
			}
			result := n.run(t, nexus.EnsureUser{Email: n.email, FullName: name, Password: "Passw0rdXyz"})
			asIs := !strings.Contains(name, "<")
			if !result.Changed || asIs && result.Note != "" {
				t.Errorf("%+v", result)
			}
			u.taken(t, b, n)
			if said := u.ask(t, fmt.Sprintf("SELECT COUNT(*) FROM %s.tabUser WHERE name = '%s' AND enabled AND BINARY full_name = %s", n.op(nil).DB, n.email, quoted(strings.TrimSpace(name)))); asIs && said != "1\n" {
				t.Errorf("its name: %s", u.ask(t, "SELECT full_name FROM "+n.op(nil).DB+".tabUser"))
			}
			if said := u.ask(t, "SELECT COUNT(*) FROM "+n.op(nil).DB+".tabContact WHERE user = '"+n.email+"'"); asIs != (said == "1\n") {
				t.Errorf("contacts: %q, so it was made by the wrong way", said) // Frappe's job makes it later
			}
			testDrop(t, n)
		})
	}
}

// testUserRoles asks for roles that the bench has not, for some that the placeholder has, and
// for one that it has not.
func testUserRoles(t *testing.T, u *users) {
	n := u.from(t, "roles")
	n.refused(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz", Roles: []string{"No Such Role"}}, nexus.Invalid)
	for _, db := range []string{"", "DELETE FROM `tabHas Role` WHERE role = 'Accounts User'"} {
		if db != "" {
			n = u.from(t, "roles")
			u.ask(t, "USE "+n.op(nil).DB+"; "+db)
		}
		n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz", Roles: []string{"System Manager", "Accounts User"}})
		if said := u.ask(t, "SELECT role FROM "+n.op(nil).DB+".`tabHas Role` WHERE parent = '"+n.email+"' ORDER BY 1"); said != "Accounts User\nSystem Manager\n" {
			t.Errorf("its roles: %q", said)
		}
		if left := u.cells(t, n.op(nil).DB, u.user.words()...); len(left) > 0 {
			t.Errorf("the placeholder is left in %v", left)
		}
		testDrop(t, n)
	}
}

// testUserTaken makes a user whose contact's name is taken: Frappe makes it.
func testUserTaken(t *testing.T, b *standin.Box, u *users) {
	n := u.from(t, "taken")
	if said := u.ask(t, "INSERT INTO "+n.op(nil).DB+".tabContact (name) VALUES ('Jane Doe')"); said != "" {
		t.Fatal(said)
	}
	if result := n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"}); !result.Changed {
		t.Errorf("%+v", result)
	}
	u.taken(t, b, n)
	testDrop(t, n)
}

// testUserOfFormer has a user made by a worker of a former version, which does not know the
// placeholder.
func testUserOfFormer(t *testing.T, b *standin.Box, u *users) {
	n := u.from(t, "former")
	file := "sites/" + string(n.site) + "/placeholder_user.json"
	b.Sh(t, "mv "+file+" "+file+".ct")
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	b.Sh(t, "mv "+file+".ct "+file)
	n.run(t, nexus.Mark{State: nexus.TenantActive})
	u.taken(t, b, n)
	testDrop(t, n)
}

// testUserKilled kills the operation at each of its statements and calls. The next attempt
// does the rest, and before it there is either the placeholder or the user. Once there is the
// user, an attempt has other steps, so it begins with the first again.
func testUserKilled(t *testing.T, b *standin.Box, u *users) {
	killer := newKiller(t, b, "execute", "commit", "swap_user", "update_password", "delete_value", "remove")
	n, before, after := u.from(t, "killed"), 0, 0
	asked := nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"}
	for at := 1; ; at++ {
		fate := killer.run(t, n, asked, at)
		if !fate.Killed {
			if !strings.Contains(fate.Answer, `"ok": true`) {
				t.Errorf("attempt %d: %s", at, fate.Answer)
			}
			break
		}
		switch left := u.cells(t, n.op(nil).DB, u.user.words()...); {
		case len(left) == 0:
			if after++; after == 1 {
				at = 0
			}
		case maps.EqualFunc(left, u.user.User.Columns, slices.Equal):
			before++
		default:
			t.Fatalf("attempt %d: left are %v", at, left)
		}
		if b.Sh(t, "ls sites/"+string(n.site)+" | grep -c placeholder_user.json || true") == "0" {
			break // what follows is what every user gets
		}
		if at > 500 {
			t.Fatal("it does not end")
		}
	}
	t.Logf("%d attempts were killed before the user was there, %d after it", before, after)
	if before < 10 || after < 5 {
		t.Error("these are not all states")
	}
	u.taken(t, b, n)
	testDrop(t, n)
}
