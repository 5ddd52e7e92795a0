//go:build service

package standin

import (
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// MariaDB is a server for one test, which may break it, or configure it differently from
// the server that all tests share.
type MariaDB struct {
	Addr string // host:port
	// Tmp is its folder for temporary files. Servers must not share one: at its start a
	// server removes all temporary tables that it finds there.
	Tmp  string
	dir  string
	args []string      // of the server, besides the usual
	cmd  *exec.Cmd     // nil: it never ran
	done chan struct{} // closed when the process has ended
}

// NewMariaDB starts a server, which the next stand-in uses. Its sessions wait for a lock
// for 30 s.
func NewMariaDB(t *testing.T, args ...string) *MariaDB {
	t.Helper()
	m := &MariaDB{Addr: "127.0.0.1:" + FreePort(t), dir: t.TempDir(), Tmp: t.TempDir(), args: args}
	run(t, "mariadb-install-db", "--no-defaults", "--datadir="+m.dir, "--tmpdir="+m.Tmp, "--user="+me(t),
		"--auth-root-authentication-method=normal", "--skip-test-db")
	t.Cleanup(func() { m.end(t, syscall.SIGKILL) })
	m.Start(t)
	m.SQL(t, "CREATE USER root@'%' IDENTIFIED BY 'root'; GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"+
		"ALTER USER IF EXISTS root@localhost IDENTIFIED BY '', root@'127.0.0.1' IDENTIFIED BY 'root', root@'::1' IDENTIFIED BY 'root';"+
		"DELETE FROM mysql.global_priv WHERE User=''; FLUSH PRIVILEGES")
	t.Setenv("NEXUS_TEST_DB", m.Addr)
	t.Setenv("NEXUS_TEST_DB_ROOT_PASSWORD", "root")
	return m
}

// Start starts the server, on the files it had if it ran before.
func (m *MariaDB) Start(t testing.TB) {
	t.Helper()
	host, port, _ := net.SplitHostPort(m.Addr)
	cmd := exec.Command("mariadbd", "--no-defaults", "--user="+me(t), "--datadir="+m.dir, "--tmpdir="+m.Tmp, "--socket="+m.Socket(),
		"--bind-address="+host, "--port="+port, "--skip-name-resolve", "--lock-wait-timeout=30", "--log-error="+m.log(),
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci")
	cmd.Args = append(cmd.Args, m.args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	m.cmd, m.done = cmd, done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	Await(t, "MariaDB answers", func() bool {
		select {
		case <-done:
			said, _ := os.ReadFile(m.log())
			t.Fatalf("MariaDB ended:\n%s", said)
		default:
		}
		return exec.Command("mariadb", "-uroot", "-S", m.Socket(), "-e", "select 1").Run() == nil
	})
}

// Databases makes empty databases, by making their folders, which is fast.
func (m *MariaDB) Databases(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// Freeze stops the process by SIGSTOP: its connections stay open and new ones are
// accepted, but nothing is answered.
func (m *MariaDB) Freeze(t testing.TB) { t.Helper(); m.signal(t, syscall.SIGSTOP) }

// Thaw continues a frozen process.
func (m *MariaDB) Thaw(t testing.TB) { t.Helper(); m.signal(t, syscall.SIGCONT) }

func (m *MariaDB) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server as an operator would.
func (m *MariaDB) Stop(t testing.TB) { t.Helper(); m.end(t, syscall.SIGTERM) }

// Kill ends the server as a power cut does.
func (m *MariaDB) Kill(t testing.TB) { t.Helper(); m.end(t, syscall.SIGKILL) }

func (m *MariaDB) end(t testing.TB, signal os.Signal) {
	t.Helper()
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(signal)
	select {
	case <-m.done:
	case <-time.After(time.Minute):
		t.Error("MariaDB does not end")
	}
}

// SQL runs a query as root. It returns a line for each row, with tabs between columns.
func (m *MariaDB) SQL(t testing.TB, query string) string {
	t.Helper()
	out, err := exec.Command("mariadb", "-uroot", "-S", m.Socket(), "-N", "-e", query).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", query, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Socket returns the path of its socket, where root logs in without a password.
func (m *MariaDB) Socket() string { return filepath.Join(m.dir, "s") }
func (m *MariaDB) log() string    { return filepath.Join(m.dir, "error.log") }

func me(t testing.TB) string {
	t.Helper()
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return who.Username
}
