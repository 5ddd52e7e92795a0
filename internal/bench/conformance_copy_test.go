//go:build service || bench

package bench_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// model is a template of the tests.
type model struct {
	*tenant
	apps []string
	box  *standin.Box
}

// ask sends statements as the database's root, in a session of their own, since freezing
// and copying end those that use the database.
func (m *model) ask(t *testing.T, statements string) string {
	t.Helper()
	root := m.box.Session(t, "root", m.box.RootPassword)
	defer root.Close()
	return root.Ask(statements)
}

func (g *target) model(t *testing.T, b *standin.Box, name string) *model {
	t.Helper()
	m := &model{tenant: g.tenant(name), apps: []string{g.app}, box: b}
	m.site = nexus.TemplateName(nexus.TemplatePlain, m.owner)
	return m
}

// do runs an operation in the room of templates.
func (m *model) do(t *testing.T, args nexus.Args) (nexus.Result, error) {
	t.Helper()
	op := m.op(args)
	op.Room = nexus.RoomTemplates
	return m.bench.Run(t.Context(), op)
}

func (m *model) must(t *testing.T, args nexus.Args) nexus.Result {
	t.Helper()
	result, err := m.do(t, args)
	if err != nil {
		t.Fatalf("%s: %v", args.Op(), err)
	}
	return result
}

// raw makes the template's site, which is not frozen yet.
func (m *model) raw(t *testing.T) {
	t.Helper()
	m.must(t, nexus.NewSite{})
	m.must(t, nexus.InstallApp{App: m.app})
}

func (m *model) freeze() nexus.Freeze { return nexus.Freeze{Spec: nexus.TemplatePlain, Apps: m.apps} }

// problem is what Templates says of the template.
func (m *model) problem(t *testing.T) string {
	t.Helper()
	for _, found := range m.must(t, nexus.Templates{}).Templates {
		if found.Name == m.site {
			return found.Problem
		}
	}
	return "It is not listed."
}

// from copies the template to a new tenant.
func (m *model) from(t *testing.T, name string) *tenant {
	t.Helper()
	n := m.target.tenant(name)
	if result := n.run(t, nexus.Clone{Template: m.site}); !result.Changed {
		t.Fatalf("not copied: %+v", result)
	}
	return n
}

// testCopies checks what only a look into the database shows.
func testCopies(t *testing.T, b *standin.Box, g *target) {
	m := g.model(t, b, "model")
	m.raw(t)
	db := m.op(nil).DB
	// One of each kind that CREATE TABLE … LIKE, or the copy of its rows, treats differently.
	if said := m.ask(t, "USE "+db+"; CREATE DEFINER = '"+db+"'@'%' VIEW roles AS SELECT name FROM tabRole; CREATE DEFINER = '"+db+"'@'%' VIEW aroles AS SELECT name FROM roles; "+
		"INSERT INTO __global_search (doctype, name, content) VALUES ('Note', 'n', 'some words'); DO NEXTVAL(crm_note_id_seq); INSERT INTO tabVersion (name) VALUES ('v'); "+
		"INSERT IGNORE INTO `tabScheduled Job Type` (name, last_execution) VALUES ('ct.old', '2020-01-01'), ('ct.never', NULL)"); said != "" {
		t.Fatal(said)
	}
	b.Sh(t, "cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe --site .nexus/templates/"+string(m.site)+
		` execute frappe.utils.background_jobs.enqueue --args "['frappe.ping']" >/dev/null 2>&1 || true`) // Frappe cannot print what that returns
	if jobs := b.Jobs(t, m.site); len(jobs) == 0 {
		t.Error("no job is queued: this shows nothing")
	}
	t.Run("what must not be copied", func(t *testing.T) { testUnclean(t, b, m) })
	if !m.must(t, m.freeze()).Changed || m.must(t, m.freeze()).Changed || m.problem(t) != "" {
		t.Fatalf("it is not frozen: %s", m.problem(t))
	}
	if jobs := b.Jobs(t, m.site); len(jobs) > 0 {
		t.Errorf("jobs of the frozen site are queued: %v", jobs)
	}
	one, two := m.from(t, "copy-one"), m.from(t, "copy-two")
	t.Run("the same in all tables", func(t *testing.T) { testSame(t, b, m, one) })
	t.Run("nothing shared", func(t *testing.T) { testApart(t, b, m, one, two) })
	t.Run("scheduled jobs", func(t *testing.T) { testSchedule(t, m, one) })
	t.Run("the bench's apps change", func(t *testing.T) { testChanged(t, b, m) })
	t.Run("ended in the middle", func(t *testing.T) { testHalfCopied(t, b, m) })
	t.Run("while it is removed", func(t *testing.T) { testCopyAndDrop(t, b, m) })
	t.Run("a damaged one", func(t *testing.T) { testDamaged(t, m) })
	testDrop(t, one)
	testDrop(t, two)
	m.must(t, nexus.DropSite{})
	if left := m.left(t, m.site, db); len(left) > 0 {
		t.Errorf("left of the template: %v", left)
	}
	if left := m.ask(t, "SELECT COUNT(*) FROM nexus.tables WHERE template = '"+db+"'"); left != "0\n" {
		t.Errorf("the register keeps its tables: %s", left)
	}
	if left := b.Sh(t, "find sites/.nexus -name '*"+string(m.site)+"*'"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// testUnclean tries to freeze a template with what copies must not have.
func testUnclean(t *testing.T, b *standin.Box, m *model) {
	use, folder := "USE "+m.op(nil).DB+"; ", "sites/.nexus/templates/"+string(m.site)
	back := m.changeApp(t, b, "patches.txt", "ct.patch")
	if _, err := m.do(t, m.freeze()); nexus.CodeOf(err) != nexus.Conflict || m.problem(t) == "" {
		t.Errorf("an app that changed since the site was made: %v", err)
	}
	back()
	b.Sh(t, "touch "+folder+"/private/files/left.txt")
	if _, err := m.do(t, m.freeze()); nexus.CodeOf(err) != nexus.Internal || !strings.Contains(err.Error(), "left.txt") {
		t.Errorf("a file: %v", err)
	}
	b.Sh(t, "rm "+folder+"/private/files/left.txt")
	for _, row := range []struct{ name, make, remove, said string }{
		{"a user", "INSERT INTO tabUser (name, email, first_name) VALUES ('a@b.c', 'a@b.c', 'A')", "DELETE FROM tabUser WHERE name = 'a@b.c'", "a user"},
		{"another's social login", "INSERT INTO `tabUser Social Login` (name, parent, provider, userid) VALUES ('ct', 'Administrator', 'frappe', 'x')", "DELETE FROM `tabUser Social Login` WHERE name = 'ct'", "the social login of a user"},
		{"a key", "UPDATE tabUser SET api_key = 'k' WHERE name = 'Administrator'", "UPDATE tabUser SET api_key = NULL", "a user"},
		{"a secret", "INSERT INTO __Auth (doctype, name, fieldname, password, encrypted) VALUES ('Note', 'n', 's', 'x', 1)", "DELETE FROM __Auth WHERE doctype = 'Note'", "encrypted"},
		{"a session", "INSERT INTO tabSessions (sid) VALUES ('s')", "DELETE FROM tabSessions", "Sessions"},
		{"a webhook", "INSERT INTO tabWebhook (name) VALUES ('w')", "DELETE FROM tabWebhook", "Webhook"},
		{"a script", "INSERT INTO `tabServer Script` (name) VALUES ('s')", "DELETE FROM `tabServer Script`", "Server Script"},
		{"an account", "INSERT INTO `tabEmail Account` (name) VALUES ('e')", "DELETE FROM `tabEmail Account`", "Email Account"},
		{"a file", "INSERT INTO tabFile (name, file_name) VALUES ('f', 'f')", "DELETE FROM tabFile WHERE name = 'f'", "a file"},
		{"a trigger", "CREATE TRIGGER t BEFORE INSERT ON tabRole FOR EACH ROW SET NEW.idx = 1", "DROP TRIGGER t", "31008"},
		{"a foreign key", "CREATE TABLE pa (i INT PRIMARY KEY); CREATE TABLE ch (i INT, FOREIGN KEY (i) REFERENCES pa (i))", "DROP TABLE ch; DROP TABLE pa", "31009"},
		{"tables in one", "CREATE TABLE a (i INT) ENGINE=MyISAM; CREATE TABLE b (i INT) ENGINE=MERGE UNION=(a)", "DROP TABLE b; DROP TABLE a", "31009"},
	} {
		if said := m.ask(t, use+row.make); said != "" {
			t.Fatalf("%s: %s", row.name, said)
		}
		_, err := m.do(t, m.freeze())
		if nexus.CodeOf(err) != nexus.Internal || !strings.Contains(err.Error(), row.said) {
			t.Errorf("%s: %v", row.name, err)
		}
		if m.problem(t) == "" {
			t.Errorf("%s: sites are copied from it", row.name)
		}
		if said := m.ask(t, use+row.remove); said != "" {
			t.Fatalf("%s: %s", row.name, said)
		}
	}
}

// testSame compares a copy with its template.
func testSame(t *testing.T, b *standin.Box, m *model, n *tenant) {
	from, to := m.op(nil).DB, n.op(nil).DB
	list := func(db string) string {
		return m.ask(t, "SELECT table_name, table_type, engine, table_collation, row_format FROM information_schema.tables WHERE table_schema = '"+db+"' ORDER BY 1; "+
			"SELECT table_name, column_name, column_type, column_default, is_nullable, extra FROM information_schema.columns WHERE table_schema = '"+db+"' ORDER BY 1, 2; "+
			"SELECT table_name, index_name, seq_in_index, column_name, index_type, non_unique FROM information_schema.statistics WHERE table_schema = '"+db+"' ORDER BY 1, 2, 3")
	}
	if a, c := list(from), list(to); a != c || strings.Count(a, "\n") < 1000 {
		t.Errorf("the tables differ (%d and %d lines)", strings.Count(a, "\n"), strings.Count(c, "\n"))
	}
	// A thread's own hash of all rows; the copy's own differ by Administrator's password only.
	sums := func(db string) []string {
		names := strings.Fields(m.ask(t, "SET group_concat_max_len = 1000000; SELECT GROUP_CONCAT(CONCAT(HEX(table_name)) ORDER BY table_name SEPARATOR ' ') FROM information_schema.tables WHERE table_schema = '"+db+"' AND table_type = 'BASE TABLE' AND table_name <> '__Auth'"))
		var ask strings.Builder
		for _, name := range names {
			fmt.Fprintf(&ask, "CHECKSUM TABLE %s.`%s`;", db, unhex(t, name))
		}
		return strings.Fields(strings.ReplaceAll(m.ask(t, ask.String()), db+".", ""))
	}
	if a, c := sums(from), sums(to); !slices.Equal(a, c) || len(a) < 100 {
		t.Errorf("the rows differ: %v, %v", a, c)
	}
	if said := m.ask(t, "SELECT COUNT(*) FROM "+to+".tabVersion"); said != "0\n" {
		t.Errorf("versions were copied: %s", said)
	}
	if a, c := m.ask(t, "SELECT next_not_cached_value FROM "+from+".crm_note_id_seq"), m.ask(t, "SELECT next_not_cached_value FROM "+to+".crm_note_id_seq"); a != c || !strings.HasPrefix(a, "2") {
		t.Errorf("the sequence is at %q, of the template at %q", c, a)
	}
	if said := m.ask(t, "SELECT COUNT(*) FROM information_schema.views WHERE table_schema = '"+to+"' AND definer = '"+to+"@%' AND security_type = 'INVOKER' AND view_definition NOT LIKE '%"+from+"%'"); said != "2\n" {
		t.Errorf("views of its own: %s", said)
	}
	inside := b.Session(t, to, b.Password(t, n.site))
	if said := inside.Ask("USE " + to + "; INSERT INTO tabRole (name) VALUES ('ct-mine'); SELECT name FROM aroles WHERE name = 'ct-mine'; DELETE FROM tabRole WHERE name = 'ct-mine'"); said != "ct-mine\n" {
		t.Errorf("the view shows %q", said)
	}
	inside.Close()
}

// testApart checks that copies share no secret, and that none reads another's database.
func testApart(t *testing.T, b *standin.Box, m *model, one, two *tenant) {
	secrets := func(db, config string) []string {
		out := strings.Fields(m.ask(t, "SELECT password FROM "+db+".__Auth WHERE name = 'Administrator'"))
		for _, line := range strings.Split(b.Sh(t, "cat "+config), "\n") {
			if _, value, ok := strings.Cut(line, ":"); ok && (strings.Contains(line, "db_password") || strings.Contains(line, "encryption_key")) {
				out = append(out, strings.Trim(value, `", `))
			}
		}
		return out
	}
	all := secrets(m.op(nil).DB, "sites/.nexus/templates/"+string(m.site)+"/resting_config.json")
	for _, n := range []*tenant{one, two} {
		all = append(all, secrets(n.op(nil).DB, "sites/"+string(n.site)+"/site_config.json")...)
	}
	slices.Sort(all)
	if len(all) != 9 || len(slices.Compact(slices.Clone(all))) != 9 {
		t.Errorf("%d secrets of three sites, %d different", len(all), len(slices.Compact(all)))
	}
	inside := b.Session(t, one.op(nil).DB, b.Password(t, one.site))
	for _, other := range []string{two.op(nil).DB, m.op(nil).DB} {
		if said := inside.Ask("SELECT name FROM " + other + ".tabUser"); !strings.Contains(said, "ERROR 1142") && !strings.Contains(said, "ERROR 1044") {
			t.Errorf("it reads %s: %q", other, said)
		}
	}
	inside.Close()
	resting := b.Sh(t, "sed -n 's/.*\"db_password\": \"\\(.*\\)\".*/\\1/p' sites/.nexus/templates/"+string(m.site)+"/resting_config.json")
	if said := b.Session(t, m.op(nil).DB, resting).Ask("SELECT 'in'"); strings.Contains(said, "in\n") || resting == "" {
		t.Errorf("the template's user logs in: %q", said)
	}
}

// testSchedule checks that no scheduled job of a new site is due at once.
func testSchedule(t *testing.T, m *model, n *tenant) {
	n.run(t, nexus.ApplyPlan{Plan: "free", HostName: "https://" + string(n.site), TimeZone: "Asia/Tokyo", Country: "DE", Language: "de", Currency: "EUR"})
	db := n.op(nil).DB
	if said := m.ask(t, "SELECT COUNT(*) FROM "+db+".`tabScheduled Job Type` WHERE last_execution IS NULL OR last_execution < UTC_TIMESTAMP() + INTERVAL 8 HOUR"); said != "0\n" {
		t.Errorf("jobs that are due: %s", said)
	}
	m.ask(t, "UPDATE "+db+".`tabScheduled Job Type` SET last_execution = '2020-01-01' WHERE name = 'ct.old'")
	n.run(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, nexus.ApplyPlan{Plan: "free", HostName: "https://" + string(n.site)})
	if said := m.ask(t, "SELECT last_execution FROM "+db+".`tabScheduled Job Type` WHERE name = 'ct.old'"); !strings.HasPrefix(said, "2020") {
		t.Errorf("the schedule of a site in use was changed: %s", said)
	}
}

// skipped checks that a copy is refused with a sentence, and that nothing is made.
func (m *model) skipped(t *testing.T, name, why string) {
	t.Helper()
	n := m.target.tenant(name)
	result := n.run(t, nexus.Clone{Template: m.site})
	if !result.Skipped || !strings.Contains(result.Note, why) {
		t.Errorf("%+v, want %q", result, why)
	}
	if info := n.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
		t.Errorf("left: %+v", info)
	}
	testDrop(t, n)
}

// changeApp adds a line to a file of the app; back changes it back.
func (m *model) changeApp(t *testing.T, b *standin.Box, file, line string) (back func()) {
	path := fmt.Sprintf("apps/%[1]s/%[1]s/%[2]s", m.app, file)
	b.Sh(t, fmt.Sprintf("if [ -e %[1]s ]; then cp -p %[1]s %[1]s.ct; fi; echo '%[2]s' >> %[1]s", path, line))
	t.Cleanup(func() { b.Sh(t, "rm -f "+path+".ct") })
	return func() {
		b.Sh(t, fmt.Sprintf("if [ -e %[1]s.ct ]; then mv %[1]s.ct %[1]s; else rm -f %[1]s; fi", path))
	}
}

// testChanged changes an app on the disk and back.
func testChanged(t *testing.T, b *standin.Box, m *model) {
	for file, line := range map[string]string{"patches.txt": "ct.patch", "__init__.py": `__version__ = "99.0.0"`} {
		back := m.changeApp(t, b, file, line)
		m.skipped(t, "changed", "have changed")
		if said := m.problem(t); !strings.Contains(said, "have changed") {
			t.Errorf("%s: listed as %q", file, said)
		}
		back()
		if said := m.problem(t); said != "" {
			t.Errorf("%s as it was: %q", file, said)
		}
	}
}

// stuck starts a copy that waits for a row of the template, and returns once it does. Wait
// returns the copy's error, kill ends it before, let frees the row.
func (m *model) stuck(t *testing.T, b *standin.Box, n *tenant) (wait, kill func() error, let func()) {
	t.Helper()
	let = b.Busy(t, "SELECT SLEEP(602) FROM "+m.op(nil).DB+".tabRole WHERE name LIKE 'System Manager' FOR UPDATE")
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	done := make(chan error, 1)
	go func() {
		_, err := n.bench.Run(ctx, n.op(nexus.Clone{Template: m.site}))
		done <- err
	}()
	standin.Await(t, "the copy waits", func() bool {
		return still(t, done) && b.SQL(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO%"+n.op(nil).DB+"%tabRole_ SELECT%'") == "1"
	})
	wait = func() error { return <-done }
	return wait, func() error {
		cancel(nexus.ErrCanceled)
		return wait()
	}, let
}

// testHalfCopied ends copies in their middle: a newer owner copies again, or removes all.
func testHalfCopied(t *testing.T, b *standin.Box, m *model) {
	again, never := m.target.tenant("half"), m.target.tenant("half-never")
	for _, n := range []*tenant{again, never} {
		_, kill, let := m.stuck(t, b, n)
		if err := kill(); nexus.CodeOf(err) != nexus.CodeCanceled {
			t.Errorf("ended as %v", err)
		}
		n.gen++
		if n == never {
			testDrop(t, n) // while a session of the copy still waits
			let()
			continue
		}
		let()
		if result := n.run(t, nexus.Clone{Template: m.site}); !result.Changed {
			t.Errorf("not copied again: %+v", result)
		}
		testSame(t, b, m, n)
		testDrop(t, n)
	}
}

// testCopyAndDrop removes the template while it is copied: the removal waits.
func testCopyAndDrop(t *testing.T, b *standin.Box, m *model) {
	gone, n := m.model(t, b, "gone"), m.target.tenant("of-gone")
	gone.raw(t)
	gone.must(t, gone.freeze())
	_, _, let := gone.stuck(t, b, n)
	dropped := make(chan error, 1)
	go func() {
		_, err := gone.do(t, nexus.DropSite{})
		dropped <- err
	}()
	standin.Await(t, "the removal waits", func() bool {
		return strings.Contains(b.Sh(t, "cat sites/.nexus/fence/"+gone.op(nil).DB+".gen"), "clean\": true") || still(t, dropped)
	})
	let()
	if err := <-dropped; err != nil && nexus.CodeOf(err) != nexus.Unavailable {
		t.Errorf("the removal: %v", err)
	}
	gone.gen++
	gone.must(t, nexus.DropSite{})
	if info := n.run(t, nexus.Inspect{}).Site; info.State != string(nexus.TenantMaking) || !info.Database {
		t.Errorf("the copy of a removed template: %+v", info)
	}
	gone.skipped(t, "of-none", "There is no template")
	testDrop(t, n)
}

// testDamaged removes a table of the template: it must be set aside, and nothing be left
// of the copy.
func testDamaged(t *testing.T, m *model) {
	m.ask(t, "DROP TABLE "+m.op(nil).DB+".tabRole")
	m.skipped(t, "damaged", "damaged")
	if said := m.problem(t); !strings.Contains(said, "could not be copied") {
		t.Errorf("listed as: %q", said)
	}
	m.skipped(t, "damaged-again", "could not be copied")
}

func unhex(t *testing.T, text string) string {
	t.Helper()
	var out []byte
	if _, err := fmt.Sscanf(text, "%x", &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return string(out)
}
