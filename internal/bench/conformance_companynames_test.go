//go:build service || bench

package bench_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// inNames are names and abbreviations of companies that anything but parameters would spoil,
// and what is stored.
var inNames = []struct{ asked, abbr, name, want string }{
	{`O'Neill & "Sons" 100%_ \_x\\ %s %(name)s {0} {{7*7}} &amp; -- ; /* $1 \0 \n \`, "", "", "OS1XS"},
	{"<script>A<>cme</script>", "", "scriptAcme/script", "SS"},
	{"株式会社 東京 製作所", "", "", "株東製"},
	{"مؤسسة النور للتجارة", "ABCDEFGHIJ", "", "ABCDEFGHIJ"},
	{"Straße ﬁ İstanbul 🏭🚀", "ß", "", "ß"},
	{"Sales - Cash - Main", "SCM", "", "SCM"},
	{"máin", "", "máin Company", "MÁIN"}, // equal to the name of a cost center
	{strings.TrimSpace(strings.Repeat("Long name ", 14)), "", strings.TrimSpace(strings.Repeat("Long name ", 14)[:132]), "LNLNL"},
}

// testReplaced names copies, and looks for the template's name and abbreviation in all that a
// copy has.
func testReplaced(t *testing.T, b *standin.Box, f *founded) {
	for i, row := range inNames {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			n := f.from(t, "replaced")
			if said := b.Sh(t, "stat -c %a sites/"+string(n.site)+"/placeholders.json"); said != "600" {
				t.Errorf("the mode of placeholders.json is %s", said)
			}
			f.warm(t, b, string(n.site))
			name := cmp.Or(row.name, row.asked)
			result := n.run(t, nexus.Company{Name: row.asked, Abbr: row.abbr})
			if other := row.name != "" && !strings.Contains(row.asked, "<"); !result.Changed || (result.Note != "") != other {
				t.Errorf("%+v", result)
			}
			f.replaced(t, b, n, name, row.want)
			if again := n.run(t, nexus.Company{Name: row.asked, Abbr: row.abbr}); again.Changed {
				t.Errorf("named again: %+v", again)
			}
			testDrop(t, n)
		})
	}
}

// siteCode is a command that runs code of Frappe's for a site; arguments may follow.
func siteCode(site, code string) string {
	return "cd sites && ../env/bin/python -W ignore -c 'import sys, frappe; frappe.init(site=sys.argv[1]); frappe.connect(); " + code + "' " + site + " "
}

// warm fills the caches of a site that hold its company.
func (f *founded) warm(t *testing.T, b *standin.Box, site string) {
	t.Helper()
	b.Sh(t, siteCode(site, `frappe.get_cached_doc("Company", sys.argv[2]); frappe.db.get_default("company")`)+f.record.Company.Name)
}

// replaced checks that a site is its template's with a name and an abbreviation in the place
// of the template's, in each cell.
func (f *founded) replaced(t *testing.T, b *standin.Box, n *tenant, name, abbr string) {
	t.Helper()
	c, from, to := f.record.Company, f.op(nil).DB, n.op(nil).DB
	if left := f.cells(t, to, c.Name, c.Abbr); len(left) > 0 {
		t.Errorf("the template's names are left in %v", left)
	}
	if left := outside(t, b, "sites/"+string(n.site), to, c.Name, c.Abbr); left != "" {
		t.Errorf("the template's names are left in %s", left)
	}
	expected := fmt.Sprintf("REPLACE(REPLACE(`%%[1]s`, '%s', %s), '%s', %s)", c.Abbr, quoted(abbr), c.Name, quoted(name))
	sums := func(db, table, text string, columns []string) string {
		var out []string
		for _, column := range columns {
			out = append(out, fmt.Sprintf("SUM(CRC32("+text+")) AS `s_%[1]s`, COUNT(`%[1]s`) AS `c_%[1]s`", column))
		}
		return fmt.Sprintf("(SELECT %s FROM %s.`%s`)", strings.Join(out, ", "), db, table)
	}
	other := f.where(t, func(table string, columns []string) string {
		return sums(from, table, expected, columns) + " AS a, " + sums(to, table, "`%[1]s`", columns) + " AS b"
	}, "NOT (a.`s_%[1]s` <=> b.`s_%[1]s` AND a.`c_%[1]s` = b.`c_%[1]s`)")
	delete(other, "__Auth") // Administrator's password
	if len(other) > 0 {
		t.Errorf("other than in the template are %v", other)
	}
	if said := f.ask(t, fmt.Sprintf("SELECT COUNT(*) FROM %[1]s.tabCompany WHERE BINARY name = %[2]s AND BINARY company_name = %[2]s AND BINARY abbr = %[3]s; "+
		"SELECT COUNT(*) FROM %[1]s.`tabCost Center` WHERE BINARY name = CONCAT(%[2]s, ' - ', %[3]s)", to, quoted(name), quoted(abbr))); said != "1\n1\n" {
		t.Errorf("the company is none of name %q and abbreviation %q: %s", name, abbr, said)
	}
	said := b.Sh(t, siteCode(string(n.site), `print(frappe.db.get_default("company").encode().hex())`))
	if said != fmt.Sprintf("%x", name) {
		t.Errorf("Frappe's company by default is %q", unhex(t, said))
	}
}

// testShelvedCompany claims a standby, whose caches are warm, and names its company.
func testShelvedCompany(t *testing.T, b *standin.Box, f *founded) {
	k := (&shelf{f.model}).copy(t)
	f.warm(t, b, ".nexus/standby/"+string(k.site))
	k.run(t, nexus.Shelve{})
	if keys := b.Keys(t, "document_cache::Company::"+f.record.Company.Name); !slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, k.op(nil).DB+"|") }) {
		t.Errorf("the caches are cold, so this shows nothing: %v", keys)
	}
	n := k.taker("shelved")
	n.run(t, k.claim(n))
	n.again(t, nexus.Company{Name: `Wood & "Sons"`, Abbr: "W2"})
	f.replaced(t, b, n, `Wood & "Sons"`, "W2")
	testDrop(t, n)
}

// testCompaniesApart names two copies: neither has a name of the other one, and the template
// is as before.
func testCompaniesApart(t *testing.T, b *standin.Box, f *founded) {
	one, two := f.from(t, "apart-one"), f.from(t, "apart-two")
	one.run(t, nexus.Company{Name: "Onefirst", Abbr: "QQONE"})
	two.run(t, nexus.Company{Name: "Twosecond", Abbr: "QQTWO"})
	f.replaced(t, b, one, "Onefirst", "QQONE")
	f.replaced(t, b, two, "Twosecond", "QQTWO")
	for n, words := range map[*tenant][]string{one: {"Twosecond", "QQTWO"}, two: {"Onefirst", "QQONE"}} {
		if left := f.cells(t, n.op(nil).DB, words...); len(left) > 0 {
			t.Errorf("a site has the other's name in %v", left)
		}
	}
	testCompanyRecord(t, f)
	testDrop(t, one)
	testDrop(t, two)
}

// testCompanyKilled kills the operation at each of its statements and calls. The next attempt
// does the rest, and before it either all names are replaced or none.
func testCompanyKilled(t *testing.T, b *standin.Box, f *founded) {
	killer := &killer{b.Python(t, strings.Replace(killing, `FUNCTIONS = "call`, `FUNCTIONS = "execute delete replace_placeholders forget_company check_company remove call`, 1))}
	killer.session.Send(sourceText(t))
	for _, asked := range []nexus.Company{{Name: `Wood & "Sons"`}, {Name: strings.Repeat("é", 140), Abbr: "LONG"}} {
		name, abbr := asked.Name, cmp.Or(asked.Abbr, "WS")
		name = string([]rune(name)[:min(len([]rune(name)), 140-len(" - "+abbr))])
		n, at, before, after := f.from(t, "killed"), 1, 0, 0
		for ; ; at++ {
			fate := killer.run(t, n, asked, at)
			if !fate.Killed {
				if !strings.Contains(fate.Answer, `"ok": true`) {
					t.Errorf("attempt %d: %s", at, fate.Answer)
				}
				break
			}
			switch left := f.cells(t, n.op(nil).DB, f.record.Company.Name, f.record.Company.Abbr); {
			case len(left) == 0:
				after++
			case maps.EqualFunc(left, f.record.Company.Columns, slices.Equal):
				before++
			default:
				t.Fatalf("attempt %d: replaced in part, left are %v", at, left)
			}
			if at > 200 {
				t.Fatal("it does not end")
			}
		}
		t.Logf("%d attempts were killed before the names were replaced, %d after it", before, after)
		if before < 10 || after < 3 {
			t.Error("these are not all states")
		}
		f.replaced(t, b, n, name, abbr)
		n.gen++
		if result := n.run(t, asked); result.Changed {
			t.Errorf("the last attempt left something to do: %+v", result)
		}
		testDrop(t, n)
	}
}

// testSetUpKilled ends the wizard after it has made a company, which the wizard itself would
// take for its own work.
func testSetUpKilled(t *testing.T, b *standin.Box, g *target) {
	f := g.founded(t, b, german)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	op := f.op(setUp(f.spec))
	op.Room = nexus.RoomTemplates
	holder, root := b.Session(t, "root", b.RootPassword), b.Session(t, "root", b.RootPassword)
	if said := holder.Ask("LOCK TABLES " + op.DB + ".tabWarehouse READ"); said != "" { // the wizard makes them after the accounts
		t.Fatal(said)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.bench.Run(ctx, op)
		done <- err
	}()
	root.Ask("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED") // Frappe commits at the wizard's end
	standin.Await(t, "the wizard makes accounts", func() bool {
		return still(t, done) && root.Ask("SELECT COUNT(*) > 0 FROM "+f.op(nil).DB+".tabAccount") == "1\n"
	})
	cancel(nexus.ErrCanceled)
	err := <-done
	holder.Close()
	root.Close()
	if nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatalf("ended as %v", err)
	}
	f.gen++
	for range 2 {
		if result := f.must(t, setUp(f.spec)); !result.Skipped || result.Changed || len(result.Note) < 10 {
			t.Errorf("the next attempt: %+v", result)
		}
	}
	if _, err := f.do(t, nexus.Freeze{Spec: f.spec, Apps: f.apps}); nexus.CodeOf(err) != nexus.Internal {
		t.Errorf("half a company was frozen: %v", err)
	}
	f.must(t, nexus.DropSite{})
	f.gen++
	f.raw(t)
	f.must(t, setUp(f.spec))
	f.freezes(t)
	testCompanyRecord(t, f)
	f.must(t, nexus.DropSite{})
	if left := f.left(t, f.site, f.op(nil).DB); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
