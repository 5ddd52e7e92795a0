//go:build service

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// tried is the password with which a thief of the worker's account tries to log in.
const tried = "Nexus1234567890abcdef"

// victim is a database user as which the account must not be able to log in.
type victim struct{ user, job, password string }

// accountIsPowerless tries, as the worker's database account, what only root or a tenant
// may do: no password changes, and no row of a tenant can be read.
func (s *dockerStack) accountIsPowerless(t *testing.T, ours gen.Accepted) {
	db, install := s.db(ours.JobId), s.install()
	if !strings.Contains(s.box.SQL(t, "SELECT name FROM "+db+".tabUser"), "canary@example.com") {
		t.Fatal("the tenant has no rows: this test would show nothing")
	}
	victims := append(s.victims(t), victim{db, ours.JobId, s.box.Password(t, nexus.SiteName(ours.Site))})
	nobody := strings.Repeat("0", 32) // a job that does not exist
	if out, ok := s.asWorker(fmt.Sprintf("CALL nexus.make_database('nx%sopen', '%[1]s', '%s', '1', 'Open1234567890abcdef')", install, nobody)); !ok {
		t.Fatal(out)
	}
	accounts := accountsOf(victims, db, install)
	before := s.box.SQL(t, accounts)
	var said strings.Builder
	for _, statement := range append(direct(db, install, ours.JobId), newPasswords(victims, install)...) {
		out, ok := s.asWorker(statement)
		if ok {
			t.Errorf("the worker's account may do this: %s\n%s", statement, out)
		}
		said.WriteString(strings.ReplaceAll(out, tried, ""))
	}
	out, _ := s.asWorker("SHOW PROCESSLIST")
	if strings.Contains(out, "root") {
		t.Errorf("the worker's account sees others at work: %s", out)
	}
	list, ok := s.asWorker("CALL nexus.list_databases('" + install + "')")
	if !ok || !strings.Contains(list, db) {
		t.Errorf("the account cannot even do its own work: %s", list)
	}
	if after := s.box.SQL(t, accounts); after != before {
		t.Errorf("an account or the register was changed:\n%s\n%s", before, after)
	}
	if out, ok := s.asWorker(fmt.Sprintf("CALL nexus.drop_database('nx%sopen', '%[1]s', '%s')", install, nobody)); !ok {
		t.Error(out)
	}
	for _, call := range []string{"take_database", "release_database"} { // a tenant of this install may be taken, but that gives no access
		if out, ok := s.asWorker(fmt.Sprintf("CALL nexus.%s('_nexus_adopted', '%s', '%s')", call, install, ours.JobId)); !ok {
			t.Errorf("%s: %s", call, out)
		}
		for _, statement := range newPasswords([]victim{{"_nexus_adopted", ours.JobId, ""}}, install) {
			if out, ok := s.asWorker(statement); ok {
				t.Errorf("after %s the worker's account may do this: %s\n%s", call, statement, out)
			}
		}
	}
	seen := places{"what the account was told": []byte(said.String() + out + list)}
	for _, v := range victims {
		if v.password == "" {
			continue
		}
		if out, ok := s.as(v.user, v.password, "SELECT 1"); !ok {
			t.Errorf("the own password of %s opens nothing any more: %s", v.user, out)
		}
		seen.free(t, "the password of "+v.user, v.password)
		seen.free(t, "its hash", s.box.SQL(t, "SELECT JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv WHERE User='"+v.user+"'"))
	}
	seen.free(t, "a tenant's row", "canary@example.com")
	for _, v := range victims {
		if _, ok := s.as(v.user, tried, "SELECT 1"); ok {
			t.Errorf("%s logs in with the password that was tried", v.user)
		}
	}
}

// accountsOf returns the users and the rows of the register that an attack could change
// or make. Other tests use the same server and change theirs.
func accountsOf(victims []victim, db, install string) string {
	names := []string{"'" + db + "'", "'mallory'"}
	for _, v := range victims {
		names = append(names, "'"+v.user+"'")
	}
	ours := fmt.Sprintf(" IN (%s) OR %%[1]s LIKE 'nx%s%%%%'", strings.Join(names, ", "), install)
	return "SELECT User, Host, Priv FROM mysql.global_priv WHERE User" + fmt.Sprintf(ours, "User") +
		" UNION ALL SELECT name, install, CONCAT(job, sealed, adopted) FROM nexus.register WHERE name" + fmt.Sprintf(ours, "name") + " ORDER BY 1, 2"
}

// victims makes databases and users that the account must not change, and returns those
// that exist.
func (s *dockerStack) victims(t *testing.T) []victim {
	t.Helper()
	made := []victim{{"nxffffvictim", strings.Repeat("f", 32), "Theirs1234567890abcd"}, {"nxffffhalfmade", strings.Repeat("f", 32), "Half1234567890abcdef"},
		{"_nexus_foreign", "", "Foreign1234567890abc"}, {"_nexus_adopted", "", "Adopted1234567890abc"}}
	var drop strings.Builder
	for _, v := range made {
		fmt.Fprintf(&drop, "DROP DATABASE IF EXISTS %[1]s; DROP USER IF EXISTS %[1]s; DELETE FROM nexus.register WHERE name = '%[1]s'; ", v.user)
	}
	s.box.SQL(t, drop.String())
	t.Cleanup(func() { s.box.SQL(t, drop.String()) })
	for _, v := range made {
		s.box.SQL(t, fmt.Sprintf("CREATE DATABASE %[1]s; CREATE USER %[1]s IDENTIFIED BY '%[2]s'; GRANT ALL ON %[1]s.* TO %[1]s; CREATE TABLE %[1]s.tabUser (name TEXT) "+
			"SELECT 'canary@example.com' AS name", v.user, v.password))
	}
	s.box.SQL(t, fmt.Sprintf("INSERT INTO nexus.register (name, install, job, adopted) VALUES ('nxffffvictim', 'ffff', '%[1]s', 0), ('_nexus_adopted', '%[2]s', '', 1); "+
		"INSERT INTO nexus.register (name, install, job, sealed) VALUES ('nxffffhalfmade', 'ffff', '%[1]s', 0)", strings.Repeat("f", 32), s.install()))
	return append(made, victim{user: "root"}, victim{user: "nexus_e2e"}, victim{user: "mysql"}, victim{user: "mariadb.sys"})
}

// newPasswords are calls that ask for a new password, by all procedures that set one, in
// all session modes that their checks may not expect.
func newPasswords(victims []victim, install string) (out []string) {
	quoted := func(values ...string) (out []string) {
		for _, v := range values {
			out = append(out, "'"+v+"'")
		}
		return append(out, "NULL")
	}
	for _, v := range victims {
		jobs := quoted(slices.Compact([]string{v.job, strings.Repeat("0", 32)})...)
		for _, as := range quoted(install, "ffff") {
			for _, job := range jobs {
				for _, session := range []string{"", "SET default_regex_flags = 'MULTILINE,DOTALL,EXTENDED', sql_select_limit = 0, autocommit = 0; "} {
					out = append(out, fmt.Sprintf("%sCALL nexus.set_password('%s', %s, %s, '%s')", session, v.user, as, job, tried),
						fmt.Sprintf("%sCALL nexus.make_database('%s', %s, %s, '1', '%s')", session, v.user, as, job, tried),
						fmt.Sprintf("%sCALL nexus.create_database('%s', %s, %s, '1', PASSWORD('%s'))", session, v.user, as, job, tried),
						fmt.Sprintf("%sCALL nexus.seal_database('%s', %s, %s, '', PASSWORD('%s'))", session, v.user, as, job, tried))
				}
			}
		}
	}
	return append(out, injections(install)...)
}

// injections have a valid second line: that is enough for a MULTILINE expression, and
// the first line would run as root.
func injections(install string) []string {
	const session, more = "SET default_regex_flags = 'MULTILINE'; CALL nexus.", `x'', nexus_e2e@''%'' IDENTIFIED BY ''\n` + tried
	made := func(name, gen, password string) string {
		return fmt.Sprintf("%smake_database('%s', '%s', '%s', '%s', '%s')", session, name, install, strings.Repeat("0", 32), gen, password)
	}
	fresh, open := "nx"+install+"fresh", "nx"+install+"open"
	return []string{made(fresh, "1", more), made(fresh, `7\n7`, tried), made(`_nexus_foreign\n`+fresh, "1", tried), made(open, "1", more),
		fmt.Sprintf("%sset_password('%s', '%s', '%s', '%s')", session, open, install, strings.Repeat("0", 32), more)}
}

// direct are statements without a procedure of Nexus, and calls that set no password.
func direct(db, install, job string) []string {
	nobody := strings.Repeat("0", 32)
	out := []string{
		"SELECT * FROM " + db + ".tabUser", "SELECT * FROM " + db + ".__Auth", "USE " + db, "DELETE FROM " + db + ".tabUser",
		"SELECT * FROM mysql.global_priv", "SELECT * FROM nexus.register", "UPDATE nexus.register SET sealed = 0", "SELECT * FROM nexus.facts", "SELECT * FROM nexus.dropped", "DELETE FROM nexus.dropped", "INSERT INTO nexus.accounts VALUES ('nexus_e2e', 'ffff')",
		"INSERT INTO nexus.register (name, install, job) VALUES ('_nexus_foreign', 'ffff', '')",
		"ALTER USER root@'%' IDENTIFIED BY '" + tried + "'", "SET PASSWORD FOR root@'%' = PASSWORD('" + tried + "')",
		"CREATE USER mallory@'%'", "DROP USER root@'%'", "GRANT ALL ON *.* TO nexus_e2e@'%'", "CREATE DATABASE nxmallory", "DROP DATABASE " + db, "DROP DATABASE _nexus_foreign",
		"CREATE PROCEDURE nexus.mallory() SELECT 1", "DROP PROCEDURE nexus.check_name", "SHOW CREATE PROCEDURE nexus.check_name",
		"SELECT LOAD_FILE('/etc/passwd') INTO OUTFILE '/tmp/nexus-mallory'", "SET GLOBAL general_log = 1", "KILL 1",
		"CALL nexus.list_databases('ffff')", "CALL nexus.list_databases(NULL)", "CALL nexus.look_database('ffff', 'nxffffvictim')", "CALL nexus.look_database(NULL, '" + db + "')", "CALL nexus.take_database('" + db + "', '" + install + "', '" + nobody + "')",
		"CALL nexus.drop_database('" + db + "', '" + install + "', '" + nobody + "')", "CALL nexus.drop_database('_nexus_adopted', '" + install + "', '')",
	}
	for _, inner := range []string{"check_account('" + install + "')", "check_name('" + db + "', '" + install + "')", "lock_name('" + db + "', '" + install + "')", "free_name('" + db + "')",
		"check_job('" + db + "', '" + job + "')", "check_open('" + db + "', '" + job + "')", "shard_lock('" + db + "', 1, @lock)", "check_bare('" + db + "')", "check_views('" + db + "')", "freeze_named('" + db + "', '" + install + "')",
		"check_clone('" + db + "', '" + db + "', '" + install + "', '" + job + "', '')",
		"make_named('" + db + "', '" + install + "', '" + job + "', '1', 'BY ''" + tried + "''')", "seal_named('" + db + "', '" + install + "', 'BY ''" + tried + "''')",
		"drop_named('" + db + "', '" + install + "', '" + job + "', '1')", "refuse(31001, 'x')", "check_password('x')"} {
		out = append(out, "CALL nexus."+inner)
	}
	for _, of := range []string{"'" + db + "', 'ffff'", "'" + db + "', NULL", "'nxffffvictim', 'ffff'", "'nxffffvictim', '" + install + "'", "'nxffffvictim', NULL", "'_nexus_foreign', '" + install + "'",
		"'mysql', '" + install + "'", "'root', '" + install + "'", "'nexus_e2e', '" + install + "'"} {
		out = append(out, "CALL nexus.stop_threads("+of+")")
		for _, by := range []string{job, strings.Repeat("f", 32), nobody} {
			out = append(out, "CALL nexus.drop_database("+of+", '"+by+"')", "CALL nexus.remove_database("+of+", '"+by+"', '1')", "CALL nexus.take_database("+of+", '"+by+"')", "CALL nexus.release_database("+of+", '"+by+"')")
		}
	}
	return out
}

// asWorker runs statements as the worker's database account.
func (s *dockerStack) asWorker(statements string) (out string, ok bool) {
	return s.as("nexus_e2e", workerPassword, statements)
}

func (s *dockerStack) as(user, password, statements string) (out string, ok bool) {
	s.t.Helper()
	host, port, _ := strings.Cut(os.Getenv("NEXUS_TEST_DB"), ":")
	cmd := exec.Command("mariadb", "-h", host, "-P", port, "--protocol=tcp", "-u", user, "-N", "-e", statements)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+password)
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}
