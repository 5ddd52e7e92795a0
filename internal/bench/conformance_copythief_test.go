//go:build service

package bench_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestThiefOfCopiesStandin misuses the workers' database account to copy what is not its
// own: the data of a tenant must stay out of reach.
func TestThiefOfCopiesStandin(t *testing.T) {
	standin.NewMariaDB(t)
	s := standin.Start(t, 0)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	victim, m := g.tenant("victim"), g.model(t, b, "thief")
	victim.again(t, nexus.NewSite{})
	m.raw(t)
	t.Run("from what is no template", func(t *testing.T) { testStolen(t, b, m, victim) })
	m.must(t, m.freeze())
	t.Run("to what is not its own", func(t *testing.T) { testForced(t, b, m, victim) })
	t.Run("what a copy is sealed with", func(t *testing.T) { testSealedCopy(t, b, m) })
	t.Run("almost the right argument", func(t *testing.T) { testExactCopy(t, b, m) })
	t.Run("a template of its own", func(t *testing.T) { testOwnTemplate(t, b, g, victim) })
	t.Run("without the procedures", func(t *testing.T) { testNoProcedures(t, b, g, m) })
	victim.whole(t, b)
}

const first = "First1234567890abcde"

// copied calls the procedures that copy one database to another, and returns the errors.
func copied(s *standin.Session, from string, to *tenant, ticket string) (said string) {
	db := to.op(nil).DB
	for _, shard := range []string{"'1', '2'", "'2', '2'"} {
		said += s.Ask(fmt.Sprintf("CALL nexus.clone_database('%s', '%s', '%s', '%s', '%s', %s)", from, db, to.install, to.owner, ticket, shard))
	}
	return said + s.Ask(fmt.Sprintf("CALL nexus.finish_clone('%s', '%s', '%s', '%s', '%s')", from, db, to.install, to.owner, ticket))
}

// refusals counts the errors of a number.
func refusals(said, number string) int { return strings.Count(said, "ERROR "+number) }

// testStolen tries to make a template of a tenant's database, and to copy what is no
// template, or not frozen.
func testStolen(t *testing.T, b *standin.Box, m *model, victim *tenant) {
	s, loot := m.thief(t, b), m.target.tenant("loot")
	ticket := loot.create(t, s, first)
	db := victim.op(nil).DB
	for _, from := range []string{db, "mysql", "nexus", loot.op(nil).DB, m.op(nil).DB, "", db + " ", strings.ToUpper(db)} {
		if said := copied(s, from, loot, ticket); refusals(said, "31009") != 3 {
			t.Errorf("copied from %q: %s", from, said)
		}
	}
	if said := s.Ask(fmt.Sprintf("CALL nexus.freeze_database('%s', '%s', '%s')", db, m.install, victim.owner)); refusals(said, "31009") != 1 {
		t.Errorf("a tenant's database was frozen: %s", said)
	}
	if said := s.Ask(fmt.Sprintf("CALL nexus.create_template('%s', '%s', '%s', '%d', '%s')", db, m.install, victim.owner, victim.gen+1, nativeHash(tried))); refusals(said, "31006") != 1 {
		t.Errorf("a tenant's database was made a template: %s", said)
	}
	for _, statement := range []string{"UPDATE nexus.register SET kind = 'template', frozen = 1", "INSERT INTO nexus.tables VALUES ('" + db + "', 1, 'tabUser', 'table', 1)",
		"CALL nexus.freeze_named('" + db + "', '" + string(m.install) + "')", "CALL nexus.check_clone(1, 2, 3, 4, 5)"} {
		if said := s.Ask(statement); refusals(said, "1142")+refusals(said, "1370") != 1 {
			t.Errorf("%s: %s", statement, said)
		}
	}
	if said := m.ask(t, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '"+loot.op(nil).DB+"'"); said != "0\n" {
		t.Errorf("tables were copied: %s", said)
	}
	testDrop(t, loot)
}

// testForced tries to copy a template over databases of others.
func testForced(t *testing.T, b *standin.Box, m *model, victim *tenant) {
	s, from := m.thief(t, b), m.op(nil).DB
	zeros := strings.Repeat("0", 64)
	if said := copied(s, from, victim, zeros); refusals(said, "31005") != 3 {
		t.Errorf("over a finished site: %s", said)
	}
	other := m.target.tenant("forced")
	ticket := other.create(t, s, first)
	for _, wrong := range []string{"", zeros, ticket + " ", strings.ToUpper(ticket)} {
		if said := copied(s, from, other, wrong); refusals(said, "31006") != 3 {
			t.Errorf("with the ticket %q: %s", wrong, said)
		}
	}
	if said := copied(s, from, other.stranger(), ticket); refusals(said, "31002") != 3 {
		t.Errorf("by another job: %s", said)
	}
	if said := copied(s, from, m.tenant, ticket); refusals(said, "31005") != 3 {
		t.Errorf("over the template: %s", said)
	}
	another := m.model(t, b, "forced-model") // a template that is being made is no target either
	made := s.Ask(fmt.Sprintf("CALL nexus.create_template('%s', '%s', '%s', '%d', '%s')", another.op(nil).DB, m.install, another.owner, another.gen, nativeHash(first)))
	if said := copied(s, from, another.tenant, strings.TrimSpace(made)); refusals(said, "31006") != 3 {
		t.Errorf("to another template: %s", said)
	}
	testDrop(t, another.tenant)
	half, end := m.target.tenant("half-forced"), "CALL nexus.finish_clone('%s', '%s', '%s', '%s', '%s')"
	part := half.create(t, s, first)
	copyPart := fmt.Sprintf("CALL nexus.clone_database('%s', '%s', '%s', '%s', '%s', '1', '2')", from, half.op(nil).DB, half.install, half.owner, part)
	said := s.Ask(copyPart)
	if again := s.Ask(copyPart); refusals(again, "1050") != 1 { // the tables are not replaced
		t.Errorf("twice: %s", again)
	}
	if said += s.Ask(fmt.Sprintf(end, from, half.op(nil).DB, half.install, half.owner, part)); refusals(said, "31010") != 1 {
		t.Errorf("half a copy: %s", said)
	}
	testDrop(t, half)
	if said := copied(s, from, other, ticket); said != "" {
		t.Fatal(said)
	}
	if said := copied(s, from, other, ticket); refusals(said, "31006") != 3 { // once compared, it stays as it is
		t.Errorf("to a finished copy: %s", said)
	}
	testDrop(t, other)
}

// testSealedCopy leaves something in a copy before it is sealed.
func testSealedCopy(t *testing.T, b *standin.Box, m *model) {
	s, from := m.thief(t, b), m.op(nil).DB
	for name, left := range map[string]string{
		"nothing":      "SELECT 1",
		"a trigger":    "CREATE TRIGGER t BEFORE INSERT ON tabRole FOR EACH ROW SET NEW.idx = 1",
		"a view":       "CREATE VIEW mine AS SELECT * FROM __Auth",
		"a procedure":  "CREATE PROCEDURE p() DELETE FROM tabRole",
		"a view twice": "CREATE SQL SECURITY INVOKER VIEW tabview AS SELECT * FROM __Auth",
	} {
		n := m.target.tenant("sealed-copy")
		ticket := n.create(t, s, first)
		if said := copied(s, from, n, ticket); said != "" {
			t.Fatal(said)
		}
		inside := b.Session(t, n.op(nil).DB, first)
		if said := inside.Ask("USE " + n.op(nil).DB + "; " + left); strings.Contains(said, "ERROR") {
			t.Fatalf("%s: %s", name, said)
		}
		inside.Close()
		if said := n.seal(s, ticket); (said == "") != (name == "nothing") || said != "" && refusals(said, "31008") != 1 {
			t.Errorf("sealed with %s: %q", name, said)
		}
		testDrop(t, n)
	}
}

// testExactCopy passes arguments that MariaDB compares as equal to the right ones, NULL,
// and shards that there are not.
func testExactCopy(t *testing.T, b *standin.Box, m *model) {
	s, n, from := m.thief(t, b), m.target.tenant("exact-copy"), m.op(nil).DB
	ticket, db := n.create(t, s, first), n.op(nil).DB
	quote := func(text string) string { return "'" + text + "'" }
	right := []string{quote(from), quote(db), quote(string(n.install)), quote(string(n.owner)), quote(ticket)}
	for i, value := range right {
		for _, wrong := range []string{"NULL", "''", strings.TrimSuffix(value, "'") + " '", strings.TrimSuffix(value, "'") + "\\0'", strings.ToUpper(value)} {
			if wrong == value {
				continue
			}
			args := append([]string{}, right...)
			args[i] = wrong
			all := strings.Join(args, ", ")
			if said := s.Ask("CALL nexus.clone_database("+all+", '1', '2')") + s.Ask("CALL nexus.finish_clone("+all+")"); refusals(said, "310") != 2 {
				t.Errorf("argument %d as %s: %s", i, wrong, said)
			}
		}
	}
	for _, shard := range []string{"'0', '2'", "'3', '2'", "'9', '9'", "'1', '9'", "'1', '0'", "NULL, '2'", "'1', NULL", "'1 ', '2'", "'01', '2'", "'-1', '2'", "'1', ''"} {
		if said := s.Ask("CALL nexus.clone_database(" + strings.Join(right, ", ") + ", " + shard + ")"); refusals(said, "31001") != 1 {
			t.Errorf("the shard %s: %s", shard, said)
		}
	}
	for _, args := range []string{"NULL, NULL, NULL", quote(from) + ", NULL, " + quote(string(m.owner)), quote(from) + ", " + quote(string(m.install)) + ", NULL", quote(from) + ", '0000', " + quote(string(m.owner))} {
		if said := s.Ask("CALL nexus.freeze_database(" + args + ")"); refusals(said, "310") != 1 {
			t.Errorf("freeze_database(%s): %s", args, said)
		}
	}
	testDrop(t, n)
}

// testOwnTemplate makes a template with views that read another's tables, and copies it:
// they read nothing.
func testOwnTemplate(t *testing.T, b *standin.Box, g *target, victim *tenant) {
	m, n := g.model(t, b, "own"), g.tenant("own-copy")
	s, db, secret := m.thief(t, b), m.op(nil).DB, victim.op(nil).DB
	ticket := strings.TrimSpace(s.Ask(fmt.Sprintf("CALL nexus.create_template('%s', '%s', '%s', '%d', '%s')", db, m.install, m.owner, m.gen, nativeHash(first))))
	if said := m.seal(s, ticket); said != "" {
		t.Fatal(said)
	}
	inside := b.Session(t, db, "Last1234567890abcdef")
	inside.Ask("USE " + db + "; CREATE TABLE a (name VARCHAR(140))")
	for _, steal := range []string{"CREATE VIEW v AS SELECT * FROM " + secret + ".tabUser", "CREATE TABLE b LIKE " + secret + ".tabUser",
		"CREATE TABLE c (name VARCHAR(140)) ENGINE=MERGE UNION=(" + secret + ".tabVersion)", "CREATE SQL SECURITY INVOKER VIEW v AS SELECT * FROM " + secret + ".tabUser"} {
		if said := inside.Ask(steal); refusals(said, "1") != 1 {
			t.Errorf("%s: %s", steal, said)
		}
	}
	if said := inside.Ask("CREATE VIEW w AS SELECT name, '`" + db + "`.' AS text FROM a"); said != "" {
		t.Fatal(said)
	}
	inside.Close()
	if said := s.Ask(fmt.Sprintf("CALL nexus.freeze_database('%s', '%s', '%s')", db, m.install, m.owner)); said != "" {
		t.Fatal(said)
	}
	if said := b.Session(t, db, "Last1234567890abcdef").Ask("SELECT 'in'"); strings.Contains(said, "in\n") {
		t.Error("a frozen template's user logs in")
	}
	mine := n.create(t, s, first)
	if said := copied(s, db, n, mine) + n.seal(s, mine); said != "" {
		t.Errorf("its own template: %s", said)
	}
	testDrop(t, n)
	if said := s.Ask(fmt.Sprintf("CALL nexus.remove_database('%s', '%s', '%s', '%d')", db, m.install, m.owner, m.gen+1)); said != "" {
		t.Errorf("removed: %s", said)
	}
}

// testNoProcedures revokes the rights on the procedures of templates, as if nexus bench
// init had not run since: sites are made as before, and people are told what to do.
func testNoProcedures(t *testing.T, b *standin.Box, g *target, m *model) {
	for _, name := range []string{"create_template", "freeze_database", "clone_database", "finish_clone"} {
		b.SQL(t, "REVOKE EXECUTE ON PROCEDURE nexus."+name+" FROM "+g.secrets.Account)
	}
	n, other := g.tenant("unprepared"), g.model(t, b, "unprepared-model")
	if result := n.run(t, nexus.Clone{Template: m.site}); !result.Skipped || !strings.Contains(result.Note, "nexus bench init") {
		t.Errorf("copied: %+v", result)
	}
	if _, err := other.do(t, nexus.NewSite{}); nexus.CodeOf(err) != nexus.Invalid || !strings.Contains(nexus.MessageOf(err), "nexus bench init") {
		t.Errorf("a template: %v", err)
	}
	other.must(t, nexus.DropSite{})
	n.again(t, nexus.NewSite{})
	testDrop(t, n)
	init := g.secrets
	init.Install = g.install
	g.tenant("init").run(t, init)
	n = g.tenant("prepared")
	n.again(t, nexus.Clone{Template: m.site})
	testDrop(t, n)
}
