//go:build service

package bench_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestThiefOfStandbysStandin misuses the workers' database account to get what is not its
// own with the procedures of standbys.
func TestThiefOfStandbysStandin(t *testing.T) {
	standin.NewMariaDB(t)
	b, g := onStandin(t)
	shelf, victim := g.shelf(t, b), g.tenant("victim")
	victim.again(t, nexus.NewSite{})
	t.Run("what is no standby", func(t *testing.T) { testTaken(t, b, shelf, victim) })
	t.Run("almost the right argument", func(t *testing.T) { testExactStandby(t, b, shelf) })
	t.Run("an earlier snapshot", func(t *testing.T) { testStandbySnapshot(t, b, shelf) })
	t.Run("the password stays", func(t *testing.T) { testStandbyPassword(t, b, shelf) })
	t.Run("a signup that does not end", func(t *testing.T) { testHeldUp(t, b, shelf, victim) })
	t.Run("without the procedures", func(t *testing.T) { testNoStandbys(t, b, shelf) })
	victim.whole(t, b)
	shelf.must(t, nexus.DropSite{})
}

func handOver(s *standin.Session, n *tenant, db string, maker, job nexus.JobID) string {
	return s.Ask(fmt.Sprintf("CALL nexus.hand_over('%s', '%s', '%s', '%s')", db, n.install, maker, job))
}

// testTaken tries to take databases that are no standbys, or are another job's.
func testTaken(t *testing.T, b *standin.Box, s *shelf, victim *tenant) {
	thief, mine, k := victim.thief(t, b), nexus.NewJobID(), s.keep(t)
	n := k.taker("owner")
	open := s.target.tenant("open") // made as a standby, and not sealed
	if said := thief.Ask(fmt.Sprintf("CALL nexus.create_standby('%s', '%s', '%s', '%d', '%s')", open.op(nil).DB, open.install, open.owner, open.gen, nativeHash(tried))); len(said) != 65 {
		t.Fatalf("create_standby: %s", said)
	}
	before := s.ask(t, "SELECT * FROM nexus.register ORDER BY name")
	for _, row := range []struct {
		what, db string
		maker    nexus.JobID
	}{
		{"a tenant's", victim.op(nil).DB, victim.owner}, {"a template's", s.op(nil).DB, s.owner}, {"one that is not sealed", open.op(nil).DB, open.owner},
		{"with another maker", n.db, mine}, {"one that there is not", "nxffff0123456789", mine}, {"the register", "nexus", victim.owner}, {"MariaDB's own", "mysql", victim.owner},
	} {
		if said := handOver(thief, victim, row.db, row.maker, mine); refusals(said, "31002")+refusals(said, "31001") != 1 {
			t.Errorf("%s: %s", row.what, said)
		}
	}
	if after := s.ask(t, "SELECT * FROM nexus.register ORDER BY name"); after != before {
		t.Errorf("the register was changed:\n%s\nbefore:\n%s", after, before)
	}
	n.again(t, k.claim(n))
	for _, maker := range []nexus.JobID{k.owner, n.owner, mine} {
		if said := handOver(thief, victim, n.db, maker, mine); refusals(said, "31002") != 1 {
			t.Errorf("a claimed one as of %s: %s", maker, said)
		}
	}
	if said := handOver(thief, victim, n.db, k.owner, n.owner); said != "" { // what a retry does
		t.Errorf("again for its own job: %s", said)
	}
	for _, statement := range []string{"UPDATE nexus.register SET kind = 'standby'", "INSERT INTO nexus.register (name, install, job) VALUES ('nxa', 'b', 'c')"} {
		if said := thief.Ask(statement); refusals(said, "1142") != 1 {
			t.Errorf("%s: %s", statement, said)
		}
	}
	if said := thief.Ask(fmt.Sprintf("CALL nexus.create_standby('%s', '%s', '%s', '%d', '%s')", victim.op(nil).DB, victim.install, victim.owner, victim.gen+1, nativeHash(tried))); refusals(said, "31006") != 1 {
		t.Errorf("a tenant's database was made a standby: %s", said)
	}
	if said := thief.Ask(fmt.Sprintf("CALL nexus.find_database('0000', '%s')", victim.owner)); refusals(said, "31004") != 1 {
		t.Errorf("the databases of another install: %s", said)
	}
	testDrop(t, open)
	testDrop(t, n)
}

// testExactStandby passes arguments that MariaDB compares as equal to the right ones, and
// NULL.
func testExactStandby(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("exact")
	thief := k.thief(t, b)
	thief.Ask("SET SESSION default_regex_flags = 'MULTILINE,DOTALL'")
	try := func(name string, right ...string) {
		for i, value := range right {
			for _, wrong := range []string{"NULL", "''", strings.TrimSuffix(value, "'") + " '", strings.TrimSuffix(value, "'") + "\\0'", strings.TrimSuffix(value, "'") + "\\nx'", "'x\\n" + value[1:], strings.ToUpper(value)} {
				if wrong == value {
					continue
				}
				args := append([]string{}, right...)
				args[i] = wrong
				if said := thief.Ask("CALL nexus." + name + "(" + strings.Join(args, ", ") + ")"); refusals(said, "310") != 1 {
					t.Errorf("%s, argument %d as %s: %q", name, i, wrong, said)
				}
			}
		}
	}
	try("hand_over", "'"+n.db+"'", "'"+string(n.install)+"'", "'"+string(k.owner)+"'", "'"+string(n.owner)+"'")
	try("find_database", "'"+string(n.install)+"'", "'"+string(k.owner)+"'")
	if found := k.listed(t); found == nil || found.Problem != "" {
		t.Errorf("listed as %+v", found)
	}
	if said := thief.Ask(fmt.Sprintf("CALL nexus.find_database('%s', '%s')", n.install, k.owner)); said != n.db+"\tstandby\n" {
		t.Errorf("found %q", said)
	}
	k.run(t, nexus.DropSite{})
}

// testStandbySnapshot takes a standby in a transaction that began before it was handed over
// to another.
func testStandbySnapshot(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n, thief := k.taker("snapshot"), k.thief(t, b)
	thief.Ask(fmt.Sprintf("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET autocommit = 0; START TRANSACTION WITH CONSISTENT SNAPSHOT; CALL nexus.look_database('%s', '%s')", n.install, n.db))
	n.again(t, k.claim(n))
	if said := handOver(thief, n, n.db, k.owner, nexus.NewJobID()); refusals(said, "31002") != 1 {
		t.Errorf("handed over twice: %s", said)
	}
	thief.Close()
	n.gen++
	if site := n.run(t, nexus.Inspect{}).Site; site.Job != n.owner || !site.Database {
		t.Errorf("inspect: %+v", site)
	}
	testDrop(t, n)
}

// testStandbyPassword takes a standby for the thief's own job: he gets no password, and the
// job that wanted it takes a longer road.
func testStandbyPassword(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n, mine := k.taker("robbed"), k.taker("loot")
	thief := k.thief(t, b)
	if said := handOver(thief, n, n.db, k.owner, mine.owner); said != "" {
		t.Fatal(said)
	}
	for _, call := range []string{fmt.Sprintf("set_password('%s', '%s', '%s', '%s')", n.db, n.install, mine.owner, tried),
		fmt.Sprintf("seal_database('%s', '%s', '%s', '%s', '%s')", n.db, n.install, mine.owner, strings.Repeat("0", 64), nativeHash(tried)),
		fmt.Sprintf("seal_database('%s', '%s', '%s', '', '%s')", n.db, n.install, mine.owner, nativeHash(tried))} {
		if said := thief.Ask("CALL nexus." + call); refusals(said, "31005") != 1 {
			t.Errorf("%s: %s", call, said)
		}
	}
	if said := copied(thief, s.op(nil).DB, mine, strings.Repeat("0", 64)); refusals(said, "31005") != 3 {
		t.Errorf("copied over it: %s", said)
	}
	if n.opens(t, b, tried) {
		t.Error("his password opens it")
	}
	if result := n.run(t, k.claim(n)); !result.Skipped {
		t.Errorf("the claim: %+v", result)
	}
	n.run(t, nexus.DropSite{})
	mine.gen = n.gen + 1
	mine.run(t, nexus.DropSite{})
	k.gen = mine.gen + 1
	k.run(t, nexus.DropSite{})
	k.gone(t, n)
}

// testHeldUp goes first for ever: the copy of a standby waits, and is made all the same.
func testHeldUp(t *testing.T, b *standin.Box, s *shelf, victim *tenant) {
	thief := victim.thief(t, b)
	if said := thief.Ask("CALL nexus.go_first()"); said != "" {
		t.Fatal(said)
	}
	began := time.Now()
	k := s.copy(t)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it took %s, so it did not wait", took)
	}
	thief.Close()
	k.run(t, nexus.DropSite{})
}

// testNoStandbys revokes the rights on the procedures of standbys, as if nexus bench init had
// not run since: sites are made as before, and people are told what to do.
func testNoStandbys(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("unprepared")
	for _, name := range []string{"create_standby", "hand_over", "find_database"} {
		b.SQL(t, "REVOKE EXECUTE ON PROCEDURE nexus."+name+" FROM "+s.secrets.Account)
	}
	b.SQL(t, "UPDATE nexus.facts SET version = 3")
	if hello := n.run(t, nexus.Hello{}).Hello; hello.Schema != 3 || len(hello.Problems) != 1 || !strings.Contains(hello.Problems[0].What, "standbys") || !strings.Contains(hello.Problems[0].Mend, "nexus bench init") {
		t.Errorf("hello: %+v", hello)
	}
	if result := n.run(t, k.claim(n)); !result.Skipped || !strings.Contains(result.Note, "nexus bench init") {
		t.Errorf("the claim: %+v", result)
	}
	if info := n.run(t, nexus.Inspect{}).Site; info.Folder || info.Database || info.Job != "" {
		t.Errorf("left: %+v", info)
	}
	n.run(t, nexus.DropSite{})
	other := &kept{tenant: s.target.tenant("none"), shelf: s}
	other.site, other.room = nexus.StandbyName(other.owner), nexus.RoomStandby
	other.refused(t, nexus.Clone{Template: s.site}, nexus.Invalid)
	other.run(t, nexus.DropSite{})
	site := s.target.tenant("as-before")
	site.again(t, nexus.Clone{Template: s.site})
	testDrop(t, site)
	init := s.secrets
	init.Install = s.install
	n.run(t, init)
	if hello := n.run(t, nexus.Hello{}).Hello; hello.Schema != 5 || len(hello.Problems) != 0 {
		t.Errorf("hello after bench init: %+v", hello)
	}
	b.SQL(t, "REVOKE EXECUTE ON PROCEDURE nexus.go_first FROM "+s.secrets.Account+"; UPDATE nexus.facts SET version = 4")
	if hello := n.run(t, nexus.Hello{}).Hello; hello.Schema != 4 || len(hello.Problems) != 1 || !strings.Contains(hello.Problems[0].What, "hold up signups") {
		t.Errorf("hello without go_first: %+v", hello)
	}
	n.gen++
	n.again(t, k.claim(n))
	testDrop(t, n)
}
