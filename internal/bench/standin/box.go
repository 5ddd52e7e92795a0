//go:build service || bench

package standin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Box looks into a bench's container without the runner, to see what is really there.
type Box struct {
	Name         string // of the container
	RootPassword string // of its database
	dbHost       string
	dbPort       string
}

// client is MariaDB's client program. From 11.8 on it warns on standard error, where
// Session reads answers, if it cannot verify the server's certificate.
const (
	trusting = "--skip-ssl-verify-server-cert"
	client   = "mariadb " + trusting
)

// NewBox returns the Box of a running container, whose working directory is the bench.
func NewBox(t testing.TB, name, rootPassword string) *Box {
	t.Helper()
	b := &Box{Name: name, RootPassword: rootPassword}
	var config struct {
		Host string      `json:"db_host"`
		Port json.Number `json:"db_port"`
	}
	if err := json.Unmarshal([]byte(b.Sh(t, "cat sites/common_site_config.json")), &config); err != nil {
		t.Fatal(err)
	}
	b.dbHost, b.dbPort = config.Host, config.Port.String()
	if b.dbPort == "" {
		b.dbPort = "3306"
	}
	return b
}

// Port returns the port of its database server.
func (b *Box) Port() string { return b.dbPort }

// Sh runs a shell script in the container, and fails the test if it fails.
func (b *Box) Sh(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("docker", "exec", "-e", "MYSQL_PWD="+b.RootPassword, b.Name, "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// SQL runs a query as the database's root. It returns a line for each row, with tabs
// between columns.
func (b *Box) SQL(t testing.TB, query string) string {
	t.Helper()
	return b.Sh(t, fmt.Sprintf(client+` -h %s -P %s -u root -N -e "%s"`, b.dbHost, b.dbPort, query))
}

// Session is a running client program or Python, with its input and output.
type Session struct {
	in    io.WriteCloser
	out   *bufio.Reader
	Close func() // ends the connection
}

// Session connects to the database as a user, until the test or Close ends it.
func (b *Box) Session(t testing.TB, user, password string) *Session {
	t.Helper()
	return b.start(t, password, fmt.Sprintf("exec "+client+" -h %s -P %s -u %s -N --force --unbuffered --skip-reconnect 2>&1", b.dbHost, b.dbPort, user))
}

// Python runs a program in the container with the bench's Python, until the test or
// Close ends its standard input.
func (b *Box) Python(t testing.TB, program string) *Session {
	t.Helper()
	return b.start(t, "", "exec env/bin/python -u -c '"+program+"'")
}

// Send writes a line of input.
func (s *Session) Send(line string) { _, _ = io.WriteString(s.in, line+"\n") }

// Line returns the next line of output.
func (s *Session) Line() string {
	line, _ := s.out.ReadString('\n')
	return line
}

func (b *Box) start(t testing.TB, password, script string) *Session {
	t.Helper()
	cmd := exec.Command("docker", "exec", "-i", "-e", "MYSQL_PWD="+password, b.Name, "sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	return &Session{in: in, out: bufio.NewReader(out), Close: end}
}

// Ask sends statements and returns all output to them.
func (s *Session) Ask(statements string) (said string) {
	_, _ = io.WriteString(s.in, statements+";\n\\! echo end-of-answer\n")
	for {
		line, err := s.out.ReadString('\n')
		if err != nil || line == "end-of-answer\n" {
			return said + strings.TrimSuffix(line, "end-of-answer\n")
		}
		said += line
	}
}

// HoldConfig takes Frappe's lock of a site's config.
func (b *Box) HoldConfig(t testing.TB, site nexus.SiteName) (let func()) {
	t.Helper()
	s := b.start(t, "", fmt.Sprintf("exec flock sites/%s/locks/site_config.lock sh -c 'echo held; cat'", site))
	if said, err := s.out.ReadString('\n'); said != "held\n" {
		t.Fatalf("the lock of the config: %q, %v", said, err)
	}
	return s.Close
}

// Password returns the database password in a site's config.
func (b *Box) Password(t testing.TB, site nexus.SiteName) string {
	t.Helper()
	var config struct {
		Password string `json:"db_password"`
	}
	if err := json.Unmarshal([]byte(b.Sh(t, fmt.Sprintf("cat sites/%s/site_config.json", site))), &config); err != nil {
		t.Fatal(err)
	}
	return config.Password
}

// Left lists what is left of a site, template or standby and its database: folder, intent, trash,
// fence, archive, database, users, register, threads, Redis keys, processes.
func (b *Box) Left(t testing.TB, site nexus.SiteName, db string) (left []string) {
	t.Helper()
	files := b.Sh(t, fmt.Sprintf("ls -d sites/%[1]s sites/.nexus/intent/%[1]s sites/.nexus/trash/%[2]s* sites/.nexus/fence/%[2]s.* sites/.nexus/fence/site-%[1]s.lock archived/sites/%[1]s* "+
		"sites/.nexus/templates/%[1]s sites/.nexus/intent/templates:%[1]s sites/.nexus/fence/site-templates:%[1]s.lock "+
		"sites/.nexus/standby/%[1]s sites/.nexus/intent/standby:%[1]s sites/.nexus/fence/site-standby:%[1]s.lock 2>/dev/null || true", site, db))
	rows := b.SQL(t, fmt.Sprintf("SELECT schema_name FROM information_schema.schemata WHERE schema_name='%[1]s' UNION ALL "+
		"SELECT CONCAT('user@', Host) FROM mysql.global_priv WHERE User='%[1]s' UNION ALL SELECT CONCAT('registered ', name) FROM nexus.register WHERE name='%[1]s' "+
		"UNION ALL SELECT CONCAT('tables of ', template) FROM nexus.tables WHERE template='%[1]s' GROUP BY template "+
		"UNION ALL SELECT CONCAT('thread ', id) FROM information_schema.processlist WHERE user='%[1]s' OR db='%[1]s'", db))
	caches := b.Caches(t, db)
	processes := b.Sh(t, fmt.Sprintf("ps -eo args | grep -F -e %s -e %s | grep -v -e grep -e 'sh -c' || true", site, db))
	for _, text := range []string{files, rows, processes} {
		left = append(left, strings.Fields(text)...)
	}
	return append(append(left, caches...), b.Jobs(t, site)...)
}

// Caches lists the keys that Frappe caches a database's values under, sorted.
func (b *Box) Caches(t testing.TB, db string) []string {
	t.Helper()
	return b.Keys(t, db+"|")
}

// Keys lists the keys in Redis with this text in their names, sorted.
func (b *Box) Keys(t testing.TB, text string) []string {
	t.Helper()
	return slices.Sorted(strings.FieldsFuncSeq(b.redis(t, fmt.Sprintf(`--scan --pattern '*%s*'`, text)), func(r rune) bool { return r == '\n' }))
}

// Jobs lists the keys and queue entries of a site's background jobs, under the ids
// of either release: SITE::id as of Frappe 15, SITE||id as of 16.
func (b *Box) Jobs(t testing.TB, site nexus.SiteName) (found []string) {
	t.Helper()
	keys := b.redis(t, `--scan --pattern 'rq:*'`)
	queued := b.redis(t, `eval "local out = {} for _, q in ipairs(redis.call('KEYS', 'rq:queue:*')) do for _, id in ipairs(redis.call('LRANGE', q, 0, -1)) do out[#out + 1] = id end end return out" 0`)
	for _, each := range strings.Fields(keys + "\n" + queued) {
		if strings.Contains(each, string(site)+"::") || strings.Contains(each, string(site)+"||") {
			found = append(found, each)
		}
	}
	return found
}

// redis runs a command on each Redis of the bench. The user's name is added to the URLs,
// since redis-cli needs it.
func (b *Box) redis(t testing.TB, command string) string {
	t.Helper()
	return b.Sh(t, fmt.Sprintf(`set -e; for u in $(grep -o 'redis://[^"]*' sites/common_site_config.json | sed 's|//:|//default:|' | sort -u); do redis-cli -e --no-auth-warning -u "$u" --raw %s; done`, command))
}

// Root runs a shell script in the container as its root.
func (b *Box) Root(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.Command("docker", "exec", "-u", "root", b.Name, "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// Frappe runs a public command of Frappe on a site, as the scripts of 1.0 did.
func (b *Box) Frappe(t testing.TB, site nexus.SiteName, args string) {
	t.Helper()
	b.Sh(t, fmt.Sprintf("cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe --site %s %s", site, args))
}

// Admin makes a user of a complete site unless it exists, and gives it this API key, if
// it is not empty.
func (b *Box) Admin(t testing.TB, site nexus.SiteName, db, email, key, secret string) {
	t.Helper()
	if b.SQL(t, fmt.Sprintf("SELECT COUNT(*) FROM %s.tabUser WHERE name='%s'", db, email)) == "0" {
		b.Frappe(t, site, "add-system-manager "+email+" --first-name Ada")
	}
	if key != "" {
		b.SQL(t, fmt.Sprintf("UPDATE %s.tabUser SET api_key='%s', api_secret='%s', modified=NOW(6) WHERE name='%s'", db, key, strings.Repeat("*", len(secret)), email))
		b.Frappe(t, site, fmt.Sprintf(`execute frappe.utils.password.set_encrypted_password --args "['User', '%s', '%s', 'api_secret']"`, email, secret))
	}
}

// Busy runs a slow query as root, whose threads no procedure kills, until let is called.
func (b *Box) Busy(t testing.TB, query string) (let func()) {
	t.Helper()
	var over sync.WaitGroup
	over.Go(func() {
		_ = exec.Command("docker", "exec", "-e", "MYSQL_PWD="+b.RootPassword, b.Name, "mariadb", trusting, "-h", b.dbHost, "-P", b.dbPort, "-u", "root", "-e", query).Run()
	})
	find := fmt.Sprintf("SELECT COALESCE(MIN(id), 0) FROM information_schema.processlist WHERE info = '%s'", strings.ReplaceAll(query, "'", "''"))
	Await(t, "the query runs", func() bool { return b.SQL(t, find) != "0" })
	let = sync.OnceFunc(func() {
		b.SQL(t, "KILL "+b.SQL(t, find))
		over.Wait()
	})
	t.Cleanup(let)
	return let
}

// Complete makes a complete site as the scripts of 1.0 did, with a database name of its
// own and a value that was set later. Look returns the state of its folder, byte for byte
// except logs, of its settings and of its users' keys. The test's end removes it.
func (b *Box) Complete(t testing.TB, site nexus.SiteName) (db string, look func() string) {
	t.Helper()
	db = fmt.Sprintf("_%s%s", nexus.NewJobID(), nexus.NewJobID())[:64]
	t.Cleanup(func() {
		b.Sh(t, fmt.Sprintf("rm -rf sites/%s", site))
		b.SQL(t, fmt.Sprintf("DROP DATABASE IF EXISTS %[1]s; DROP USER IF EXISTS %[1]s; DELETE FROM nexus.register WHERE name='%[1]s'", db))
	})
	b.Sh(t, fmt.Sprintf("cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe new-site %s --db-name %s --db-root-password \"$MYSQL_PWD\""+
		" --admin-password Adm1nOfOldTimes --mariadb-user-host-login-scope=%%", site, db))
	b.Frappe(t, site, "set-config host_name http://old.example.com")
	return db, func() string {
		return b.SQL(t, fmt.Sprintf("SELECT field, value, '' FROM %[1]s.tabSingles WHERE doctype='System Settings' UNION ALL SELECT name, CONCAT_WS(' ', api_key, api_secret), enabled FROM %[1]s.tabUser "+
			"UNION ALL SELECT name, password, encrypted FROM %[1]s.__Auth WHERE fieldname='api_secret' ORDER BY 1, 2, 3", db)) + "\n" + b.Sh(t, fmt.Sprintf("cd sites/%s && find . -name logs -prune -o -type f -exec sha256sum {} + -o -print | sort && find . -name logs -prune -o -printf '%%m %%u %%p\n' | sort", site))
	}
}

// Plant makes a site of another maker; look returns the state of its files, byte for
// byte. The test's end removes it.
func (b *Box) Plant(t testing.TB, site nexus.SiteName) (look func() string) {
	t.Helper()
	b.Sh(t, fmt.Sprintf(`mkdir -p sites/%[1]s/private/files && echo '{"db_name":"_theirs","db_password":"x"}' > sites/%[1]s/site_config.json && echo data > sites/%[1]s/private/files/a`, site))
	t.Cleanup(func() { b.Sh(t, fmt.Sprintf("rm -r sites/%s", site)) })
	return func() string {
		return b.Sh(t, fmt.Sprintf("find sites/%s -type f -exec sha256sum {} + -o -type d -print | sort", site))
	}
}

// Await waits until ok returns true, and fails the test after a quarter of an hour: a
// real bench under load is slow.
func Await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(15*time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within a quarter of an hour: %s", what)
		case <-tick.C:
		}
	}
}
