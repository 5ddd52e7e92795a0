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

const tried = "Nexus1234567890abcdef"

// testPasswords checks that a database's last password is set exactly once, whatever is
// killed in between, and that no earlier password opens the database.
func testPasswords(t *testing.T, b *standin.Box, g *target) {
	torn := g.tenant("torn")
	t.Run("ended before the config has it", func(t *testing.T) { testTorn(t, b, torn) })
	t.Run("ended before the marker", func(t *testing.T) { testUnmarked(t, b, torn) })
	t.Run("its config is whole at any time", func(t *testing.T) { testConfigWhole(t, b, torn) })
	t.Run("a statement of the dead", func(t *testing.T) { testDeadClient(t, b, g.tenant("dead")) })
	t.Run("the last one stays", func(t *testing.T) {
		root := b.Session(t, "root", b.RootPassword) // a lock on one database's row is in no other's way
		lockRow(t, root, torn)
		testSealed(t, b, g.tenant("sealed"))
		root.Close()
	})
	testDrop(t, torn)
}

// lockRow locks a database's row of the register until the session ends.
func lockRow(t *testing.T, root *standin.Session, n *tenant) {
	t.Helper()
	if said := root.Ask("START TRANSACTION; SELECT job FROM nexus.register WHERE name = '" + n.op(nil).DB + "' FOR UPDATE"); !strings.Contains(said, string(n.owner)) {
		t.Fatalf("the lock on the row: %q", said)
	}
}

// making starts a new site and returns while its tables are being made.
func (n *tenant) making(t *testing.T) (kill func() error, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	op := n.op(nexus.NewSite{})
	op.Progress = func(string, int) {
		select {
		case begun <- struct{}{}:
		default:
		}
	}
	go func() {
		_, err := n.bench.Run(ctx, op)
		ended <- err
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("a new site ended before it began: %v", err)
	}
	return func() error {
		cancel(nexus.ErrCanceled)
		return <-ended
	}, ended
}

// still fails the test if an operation has ended.
func still(t *testing.T, done <-chan error) bool {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("it ended too early: %v", err)
	default:
	}
	return true
}

// opens tells whether a password opens the tenant's database.
func (n *tenant) opens(t *testing.T, b *standin.Box, password string) bool {
	t.Helper()
	s := b.Session(t, n.op(nil).DB, password)
	defer s.Close()
	return s.Ask("SELECT 'in'") == "in\n"
}

// whole checks that the site is complete and that its password opens its database.
func (n *tenant) whole(t *testing.T, b *standin.Box) {
	t.Helper()
	if site := n.run(t, nexus.Inspect{}).Site; site.Job != n.owner || site.State == "" || !site.Database {
		t.Errorf("the site is %+v", site)
	}
	if !n.opens(t, b, b.Password(t, n.site)) {
		t.Error("the site's own password does not open its database")
	}
	if result := n.run(t, nexus.NewSite{}); result.Changed {
		t.Error("a second time the site is made anew")
	}
}

// testTorn kills the making of a site when the database has its last password but the
// config does not.
func testTorn(t *testing.T, b *standin.Box, n *tenant) {
	kill, ended := n.making(t)
	let := b.HoldConfig(t, n.site)
	standin.Await(t, "the database has its last password", func() bool {
		return still(t, ended) && b.SQL(t, "SELECT sealed FROM nexus.register WHERE name='"+n.op(nil).DB+"'") == "1" && !n.opens(t, b, b.Password(t, n.site))
	})
	if err := kill(); nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatalf("ended as %v", err)
	}
	let()
	*n = *n.newer()
	if result := n.run(t, nexus.NewSite{}); !result.Changed {
		t.Error("the retry changed nothing")
	}
	n.whole(t, b)
}

// testUnmarked removes a site's marker. With an intent the site is made again. Without one
// it was complete and may hold a tenant's data, so it is left alone.
func testUnmarked(t *testing.T, b *standin.Box, n *tenant) {
	before := b.Password(t, n.site)
	b.Sh(t, fmt.Sprintf(`cd sites/%s && ../../env/bin/python -c 'import json; c = json.load(open("site_config.json")); c.pop("nexus"); json.dump(c, open("site_config.json", "w"))'`, n.site))
	*n = *n.newer()
	n.refused(t, nexus.NewSite{}, nexus.Conflict)
	b.Sh(t, fmt.Sprintf(`printf '{"job": "%s", "db": "%s"}' > sites/.nexus/intent/%s`, n.owner, n.op(nil).DB, n.site))
	if result := n.run(t, nexus.NewSite{}); !result.Changed || b.Password(t, n.site) == before {
		t.Errorf("the site was not made anew: %+v", result)
	}
	n.whole(t, b)
}

// testConfigWhole checks that a site's config is never written in place, which would leave
// an empty file after a kill: a hard link must keep the old contents. If the config is
// empty all the same, the database must not be dropped alone.
func testConfigWhole(t *testing.T, b *standin.Box, n *tenant) {
	file, second := fmt.Sprintf("sites/%s/site_config.json", n.site), "sites/.nexus/ct-second"
	t.Cleanup(func() { b.Sh(t, "rm -f "+second) })
	keys := func(name string) string { return b.Sh(t, "grep -c encryption_key "+name+" || true") }
	if keys(file) != "1" {
		t.Error("a new site has no encryption_key: Frappe will write one in place")
	}
	n.pair = nexus.IssueKey{Email: n.email, Key: nexus.Secret(strings.Repeat("a7", 32)), Secret: nexus.Secret(strings.Repeat("b8", 32))}
	for _, args := range []nexus.Args{nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"}, n.pair,
		nexus.ApplyPlan{Plan: "trial", HostName: "http://" + string(n.site)}, nexus.Mark{State: nexus.TenantActive}} {
		if args.Op() == n.pair.Op() { // as a site of another maker may be
			b.Sh(t, "sed -i /encryption_key/d "+file)
		}
		before := b.Sh(t, "ln -f "+file+" "+second+" && sha256sum < "+second)
		n.again(t, args)
		if after := b.Sh(t, "sha256sum < "+second); after != before {
			t.Errorf("%s wrote into the config in place", args.Op())
		}
	}
	if keys(file) != "1" {
		t.Error("the key is nowhere")
	}
	n.run(t, n.verify())
	b.Sh(t, "cp "+file+" "+second+" && : > "+file)
	n.refused(t, nexus.DropSite{}, nexus.Unavailable)
	b.Sh(t, "mv "+second+" "+file)
	n.whole(t, b)
}

// testDeadClient blocks the change of a password inside MariaDB and kills its client: the
// next operation must end that statement before it begins.
func testDeadClient(t *testing.T, b *standin.Box, n *tenant) {
	kill, ended := n.making(t)
	root := b.Session(t, "root", b.RootPassword)
	lockRow(t, root, n)
	id := strings.TrimSpace(root.Ask("SELECT CONNECTION_ID()"))
	waiting := func() string {
		return b.SQL(t, "SELECT COALESCE(GROUP_CONCAT(DISTINCT r.trx_mysql_thread_id), '') FROM information_schema.innodb_lock_waits w JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id "+
			"JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id WHERE b.trx_mysql_thread_id = "+id)
	}
	standin.Await(t, "the change of the password stands still", func() bool { return still(t, ended) && waiting() != "" })
	dead := waiting()
	if err := kill(); nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatalf("ended as %v", err)
	}
	if waiting() != dead {
		t.Fatal("the statement ended with its client: this test would show nothing")
	}
	next := n.newer()
	done := make(chan error, 1)
	go func() {
		_, err := next.bench.Run(t.Context(), next.op(nexus.NewSite{}))
		done <- err
	}()
	standin.Await(t, "the next owner sweeps", func() bool { now := waiting(); return still(t, done) && now != dead && now != "" })
	if now := waiting(); slices.Contains(strings.Split(now, ","), dead) {
		t.Errorf("the statement of the dead client still waits beside its successor: %s of %s", dead, now)
	}
	root.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	next.whole(t, b)
	testDrop(t, next)
}

// testSealed tries to get into a finished site with everything that could be learned while
// it was made.
func testSealed(t *testing.T, b *standin.Box, n *tenant) {
	db := n.op(nil).DB
	_, done := n.making(t)
	first := b.Password(t, n.site) // it showed in argv
	inside, worker := b.Session(t, db, first), b.Session(t, n.secrets.Account, n.secrets.Password.Reveal())
	if said := inside.Ask("SELECT 'in'"); said != "in\n" {
		t.Fatalf("with the first password: %q", said)
	}
	worker.Ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	if said := worker.Ask(fmt.Sprintf("START TRANSACTION WITH CONSISTENT SNAPSHOT; CALL nexus.list_databases('%s')", n.install)); !strings.Contains(said, db) {
		t.Fatalf("the account cannot do its own work: %s", said)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if said := inside.Ask("SELECT 'in'"); strings.Contains(said, "in\n") {
		t.Errorf("who was in before is in still: %q", said)
	}
	inside.Close()
	made := fmt.Sprintf("CALL nexus.make_database('%s', '%s', '%s', '9', '%s')", db, n.install, n.owner, tried)
	given := fmt.Sprintf("CALL nexus.set_password('%s', '%s', '%s', '%s')", db, n.install, n.owner, tried)
	for _, statement := range []string{made, given, "SET autocommit = 0; " + made, given} {
		if said := worker.Ask(statement); !strings.Contains(said, "ERROR 31005") && !strings.Contains(said, "ERROR 31006") {
			t.Errorf("%s: %q", statement, said)
		}
	}
	for _, password := range []string{first, tried} {
		if n.opens(t, b, password) {
			t.Errorf("%s opens the finished site", password)
		}
	}
	n.whole(t, b)
	testDrop(t, n) // and the same name may be made anew
	n = n.newer()
	n.again(t, nexus.NewSite{})
	n.whole(t, b)
	testDrop(t, n)
}

// testRowsOfBefore turns the register back into its first form, without seals: the next
// set-up must seal its rows. It needs a MariaDB of its own.
func testRowsOfBefore(t *testing.T, b *standin.Box, n *tenant) {
	n.again(t, nexus.NewSite{})
	b.SQL(t, "ALTER TABLE nexus.register DROP COLUMN sealed, DROP COLUMN gen, DROP COLUMN ticket; DROP TABLE nexus.dropped, nexus.facts")
	init := n.secrets
	init.Install = n.install
	n.run(t, init)
	worker := b.Session(t, n.secrets.Account, n.secrets.Password.Reveal())
	if said := worker.Ask(fmt.Sprintf("CALL nexus.set_password('%s', '%s', '%s', '%s')", n.op(nil).DB, n.install, n.owner, tried)); !strings.Contains(said, "ERROR 31005") {
		t.Errorf("%q", said)
	}
	n.whole(t, b)
	testDrop(t, n)
}
