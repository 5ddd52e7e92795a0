//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// founded is a template with a company.
type founded struct {
	*model
	spec   nexus.TemplateSpec
	record foundedRecord // once it is frozen

	columns map[string][]string // see texts
}

// foundedRecord is what template.json has of a company.
type foundedRecord struct {
	Company struct {
		Name, Abbr string
		Columns    map[string][]string
	}
	RenewFrom string `json:"renew_from"`
	Ends      string
}

func (g *target) founded(t *testing.T, b *standin.Box, spec nexus.TemplateSpec) *founded {
	t.Helper()
	f := &founded{model: g.model(t, b, "founded"), spec: spec}
	f.site = nexus.TemplateName(spec, f.owner)
	f.raw(t)
	return f
}

func (f *founded) folder() string { return "sites/.nexus/templates/" + string(f.site) }

// freezes freezes the template and reads its record.
func (f *founded) freezes(t *testing.T) {
	t.Helper()
	f.must(t, nexus.Freeze{Spec: f.spec, Apps: f.apps})
	if err := json.Unmarshal([]byte(f.box.Sh(t, "cat "+f.folder()+"/template.json")), &f.record); err != nil {
		t.Fatal(err)
	}
}

// texts lists the text columns of the tables of the template and its copies.
func (f *founded) texts(t *testing.T) map[string][]string {
	t.Helper()
	if f.columns == nil {
		f.columns = map[string][]string{}
		for line := range strings.Lines(f.ask(t, "SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) "+
			"WHERE table_schema = '"+f.op(nil).DB+"' AND table_type = 'BASE TABLE' AND c.character_set_name IS NOT NULL ORDER BY 1, 2")) {
			table, column, _ := strings.Cut(strings.TrimSpace(line), "\t")
			f.columns[table] = append(f.columns[table], column)
		}
	}
	return f.columns
}

// where lists the columns for which the text is true. It has %[1]s for a column.
func (f *founded) where(t *testing.T, from func(table string, columns []string) string, condition string) map[string][]string {
	t.Helper()
	var ask strings.Builder
	columns := f.texts(t)
	for _, table := range slices.Sorted(maps.Keys(columns)) {
		var found []string
		for _, column := range columns[table] {
			found = append(found, "IF("+fmt.Sprintf(condition, column)+", '"+column+"', NULL)")
		}
		fmt.Fprintf(&ask, "SELECT '%s', CONCAT_WS(' ', %s) AS found FROM %s HAVING found <> ''; ", table, strings.Join(found, ", "), from(table, columns[table]))
	}
	out := map[string][]string{}
	for line := range strings.Lines(f.ask(t, strings.TrimSuffix(ask.String(), "; "))) {
		table, names, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			t.Fatalf("the database says %s", line)
		}
		out[table] = strings.Fields(names)
	}
	return out
}

// cells lists the columns of a database in which one of the words stands, in any case.
func (f *founded) cells(t *testing.T, db string, words ...string) map[string][]string {
	t.Helper()
	var found []string
	for _, word := range words {
		found = append(found, "MAX(LOCATE("+quoted(strings.ToLower(word))+", LOWER(`%[1]s`))) > 0")
	}
	return f.where(t, func(table string, _ []string) string { return db + ".`" + table + "`" }, strings.Join(found, " OR "))
}

// quoted is a text as an expression of SQL.
func quoted(text string) string { return fmt.Sprintf("_utf8mb4 X'%X'", text) }

// found is a program that lists files and keys of Redis with one of the words.
const found = `
import json, os, sys
sys.path.insert(0, "apps/frappe")
import redis
words, folder, db = json.loads(sys.argv[1])
words = [word.encode() for word in words]
has = lambda text: any(word.lower() in text.lower() for word in words)
for root, _, names in os.walk(folder):
    for name in names:
        with open(os.path.join(root, name), "rb") as f:
            if has(name.encode()) or has(f.read()):
                print("file", os.path.join(root, name))
config = json.load(open("sites/common_site_config.json"))
for url in {config["redis_cache"], config["redis_queue"]}:
    server = redis.Redis.from_url(url)
    for key in server.scan_iter(count=1000):
        read = {b"string": server.get, b"hash": server.hgetall, b"list": lambda key: server.lrange(key, 0, -1), b"set": server.smembers}
        if (db.encode() in key or has(key)) and has(key + repr(read.get(server.type(key), str)(key)).encode()):
            print("key", key.decode())
`

// outside lists the files of a site and the keys of its database in Redis that have one of
// the words in their name or content.
func outside(t *testing.T, b *standin.Box, folder, db string, words ...string) string {
	t.Helper()
	args, err := json.Marshal([]any{words, folder, db})
	if err != nil {
		t.Fatal(err)
	}
	return b.Sh(t, "env/bin/python - '"+string(args)+"' <<'END'\n"+found+"\nEND")
}

// testCompanies checks of companies what only a look into database, files and Redis shows.
func testCompanies(t *testing.T, b *standin.Box, g *target) {
	f := g.founded(t, b, german)
	t.Run("set up", func(t *testing.T) { testSetUpLeft(t, b, f) })
	t.Run("what must not be replaced", func(t *testing.T) { testUnreplaced(t, f) })
	f.freezes(t)
	t.Run("record", func(t *testing.T) { testCompanyRecord(t, f) })
	t.Run("names", func(t *testing.T) { testReplaced(t, b, f) })
	t.Run("on the shelf", func(t *testing.T) { testShelvedCompany(t, b, f) })
	t.Run("warmed", func(t *testing.T) { testWarm(t, b, f) })
	t.Run("killed while it is warmed", func(t *testing.T) { testWarmKilled(t, b, f) })
	t.Run("nothing shared", func(t *testing.T) { testCompaniesApart(t, b, f) })
	t.Run("killed", func(t *testing.T) { testCompanyKilled(t, b, f) })
	t.Run("its years end", func(t *testing.T) { testYearsEnd(t, b, f) })
	f.must(t, nexus.DropSite{})
	t.Run("killed in the wizard", func(t *testing.T) { testSetUpKilled(t, b, g) })
	t.Run("another fiscal year", func(t *testing.T) { testOtherYear(t, b, g) })
}

// testSetUpLeft does the wizard and looks at what that leaves besides the company.
func testSetUpLeft(t *testing.T, b *standin.Box, f *founded) {
	db := f.op(nil).DB
	state := func() string {
		values := config(t, b, f.folder()+"/site_config.json")
		for _, name := range []string{"nexus", "db_password", "encryption_key"} {
			delete(values, name)
		}
		return fmt.Sprint(values, f.ask(t, "SELECT value FROM "+db+".tabSingles WHERE doctype = 'System Settings' AND field = 'enable_scheduler'; "+
			"SELECT name, enabled FROM "+db+".tabUser ORDER BY 1; SELECT COUNT(*) FROM "+db+".__Auth"))
	}
	before := state()
	if result := f.must(t, setUp(f.spec)); !result.Changed || result.Skipped {
		t.Fatalf("%+v", result)
	}
	if after := state(); after != before {
		t.Errorf("switches and users are\n%s\nbefore:\n%s", after, before)
	}
	if jobs := b.Jobs(t, f.site); len(jobs) > 0 {
		t.Errorf("jobs are queued: %v", jobs)
	}
	if said := f.ask(t, "SELECT COUNT(*), MIN(country), MIN(default_currency), MIN(chart_of_accounts) FROM "+db+".tabCompany"); !strings.HasPrefix(said, "1\tGermany\tEUR\tSKR04") {
		t.Errorf("the company: %s", said)
	}
	if said := f.ask(t, "SELECT COUNT(*) FROM "+db+".tabAccount WHERE company = (SELECT name FROM "+db+".tabCompany)"); len(said) < 3 {
		t.Errorf("accounts: %s", said)
	}
	if said := f.ask(t, "SELECT name FROM "+db+".`tabItem Group` WHERE name = 'Services'"); said != "Services\n" {
		t.Errorf("the master data is not in English: %q", said)
	}
	f.years(t, time.January, 1)
}

// years checks the fiscal years: one that has begun and the next one.
func (f *founded) years(t *testing.T, month time.Month, day int) {
	t.Helper()
	today := time.Now().UTC().Add(-12 * time.Hour)
	first := time.Date(today.Year(), month, day, 0, 0, 0, 0, time.UTC)
	if first.After(today) {
		first = first.AddDate(-1, 0, 0)
	}
	var want strings.Builder
	for year := range 2 {
		from, to := first.AddDate(year, 0, 0), first.AddDate(year+1, 0, -1)
		name := fmt.Sprint(from.Year())
		if to.Year() != from.Year() {
			name += fmt.Sprintf("-%d", to.Year())
		}
		fmt.Fprintf(&want, "%s\t%s\t%s\n", name, from.Format(time.DateOnly), to.Format(time.DateOnly))
	}
	if said := f.ask(t, "SELECT name, year_start_date, year_end_date FROM "+f.op(nil).DB+".`tabFiscal Year` ORDER BY 2"); said != want.String() {
		t.Errorf("fiscal years:\n%s\nwant:\n%s", said, want.String())
	}
}

// testUnreplaced tries to freeze a template in which the company's name cannot be replaced,
// and one without what a company needs.
func testUnreplaced(t *testing.T, f *founded) {
	use := "USE " + f.op(nil).DB + "; "
	name, abbr, _ := strings.Cut(strings.TrimSpace(f.ask(t, "SELECT name, abbr FROM "+f.op(nil).DB+".tabCompany")), "\t")
	note := func(text string) string {
		return "INSERT INTO tabNote (name, title, content) VALUES ('ct-n', 'ct', " + quoted(text) + ")"
	}
	const noNote = "DELETE FROM tabNote WHERE name = 'ct-n'"
	move := func(sign, where string) string {
		return fmt.Sprintf("UPDATE `tabFiscal Year` SET year_start_date = year_start_date %[1]s INTERVAL 9 YEAR, year_end_date = year_end_date %[1]s INTERVAL 9 YEAR WHERE %[2]s", sign, where)
	}
	last := strings.TrimSpace(f.ask(t, use+"SELECT MAX(year_start_date) FROM `tabFiscal Year`"))
	for _, row := range []struct{ name, make, remove, said string }{
		{"an object of JSON", note(`{"company": "` + name + `"}`), noNote, "tabNote.content"},
		{"a list of JSON", note(` ["Cash - ` + abbr + `"]`), noNote, "tabNote.content"},
		{"HTML", note("<div>" + name + "</div>"), noNote, "tabNote.content"},
		{"HTML around it", note("Welcome to " + name + "<br>"), noNote, "tabNote.content"},
		{"an entity", note("Cash &amp; more - " + abbr), noNote, "tabNote.content"},
		{"lower case", note("cash-" + strings.ToLower(abbr)), noNote, "tabNote.content"},
		{"another case once", note(name + " " + strings.ToUpper(name)), noNote, "tabNote.content"},
		{"another case in a name", "INSERT INTO tabNote (name) VALUES ('" + strings.ToLower(name) + "')", "DELETE FROM tabNote WHERE name LIKE 'nexus%'", "tabNote.name"},
		{"a second company", "INSERT INTO tabCompany (name, company_name, abbr) VALUES ('Second', 'Second', 'S')", "DELETE FROM tabCompany WHERE name = 'Second'", "Second"},
		{"another name", "UPDATE tabCompany SET name = 'Third'", "UPDATE tabCompany SET name = '" + name + "'", "Third"},
		{"no accounts", "UPDATE tabAccount SET company = 'Third'", "UPDATE tabAccount SET company = '" + name + "'", "accounts"},
		{"no next year", move("+", "year_start_date = '"+last+"'"), move("-", "year_start_date > '"+last+"'"), "fiscal year"},
		{"no year of today", move("+", "TRUE"), move("-", "TRUE"), "fiscal year"},
		{"one year too many", "INSERT INTO `tabFiscal Year` (name, year, year_start_date, year_end_date) SELECT 'ct', 'ct', MAX(year_end_date) + INTERVAL 1 DAY, MAX(year_end_date) + INTERVAL 1 YEAR FROM `tabFiscal Year`",
			"DELETE FROM `tabFiscal Year` WHERE name = 'ct'", "fiscal year"},
	} {
		if said := f.ask(t, use+row.make); said != "" {
			t.Fatalf("%s: %s", row.name, said)
		}
		_, err := f.do(t, nexus.Freeze{Spec: f.spec, Apps: f.apps})
		if nexus.CodeOf(err) != nexus.Internal || !strings.Contains(err.Error(), row.said) {
			t.Errorf("%s: %v", row.name, err)
		}
		if f.problem(t) == "" {
			t.Errorf("%s: sites are copied from it", row.name)
		}
		if said := f.ask(t, use+row.remove); said != "" {
			t.Fatalf("%s: %s", row.name, said)
		}
	}
}

// testCompanyRecord compares what the template's record tells with the database.
func testCompanyRecord(t *testing.T, f *founded) {
	c, db := f.record.Company, f.op(nil).DB
	if said := f.ask(t, "SELECT name, abbr FROM "+db+".tabCompany"); said != c.Name+"\t"+c.Abbr+"\n" || len(c.Abbr) != 10 || len(c.Name) < 15 || strings.ContainsAny(c.Name+c.Abbr, " -") {
		t.Errorf("the company %q, recorded as %s, %s", said, c.Name, c.Abbr)
	}
	want := f.cells(t, db, c.Name, c.Abbr)
	for _, columns := range c.Columns {
		slices.Sort(columns)
	}
	if !maps.EqualFunc(want, c.Columns, slices.Equal) || len(want) < 12 {
		t.Errorf("recorded are %v, want %v", c.Columns, want)
	}
	if left := f.ask(t, "SELECT COUNT(*) FROM "+db+".tabVersion UNION ALL SELECT COUNT(*) FROM "+db+".tabComment"); left != "0\n0\n" {
		t.Errorf("versions and comments: %s", left)
	}
	if said := f.ask(t, "SELECT year_start_date, year_end_date FROM "+db+".`tabFiscal Year` ORDER BY 1 DESC LIMIT 1"); said != f.record.RenewFrom+"\t"+f.record.Ends+"\n" {
		t.Errorf("the last fiscal year is %s, recorded are %s and %s", said, f.record.RenewFrom, f.record.Ends)
	}
}

// testOtherYear sets up companies of a country whose fiscal year begins on the first of
// March, and ends in some years on the 29th of February.
func testOtherYear(t *testing.T, b *standin.Box, g *target) {
	f := g.founded(t, b, "ZA")
	f.must(t, setUp(f.spec))
	f.years(t, time.March, 1)
	f.freezes(t)
	if problem := f.problem(t); problem != "" {
		t.Error(problem)
	}
	f.must(t, nexus.DropSite{})
}

// testYearsEnd changes the dates in the template's record, as if time had passed.
func testYearsEnd(t *testing.T, b *standin.Box, f *founded) {
	today := time.Now().UTC()
	day := func(offset int) string { return today.AddDate(0, 0, offset).Format(time.DateOnly) }
	set := func(from, ends string) {
		path := f.folder() + "/template.json"
		b.Sh(t, `sed -i -e 's/"renew_from": "[^"]*"/"renew_from": "`+from+`"/' -e 's/"ends": "[^"]*"/"ends": "`+ends+`"/' `+path+" && grep -q "+from+" "+path+" && grep -q "+ends+" "+path)
	}
	for _, row := range []struct {
		name, from, ends string
		renew            bool
		problem          string
	}{
		{"it has begun", day(-1), day(360), true, ""},
		{"it is about to end", day(-360), day(1), true, ""},
		{"it is over", day(-380), day(-2), true, "Its last fiscal year is over."},
		{"it is to come", day(2), day(366), false, ""},
	} {
		set(row.from, row.ends)
		i := slices.IndexFunc(f.must(t, nexus.Templates{}).Templates, func(each nexus.Template) bool {
			return each.Name == f.site && each.Renew == row.renew && each.Problem == row.problem
		})
		if i < 0 {
			t.Errorf("%s: %+v", row.name, f.must(t, nexus.Templates{}).Templates)
		}
		if row.problem != "" {
			f.skipped(t, "over", row.problem)
		}
	}
	set(f.record.RenewFrom, f.record.Ends)
	testDrop(t, f.from(t, "in-time"))
}
