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

// MariaDB is a server of a test's own, to be hurt, or to be set up in another way
// than the one that all tests share.
type MariaDB struct {
	Addr string // host:port
	dir  string
	args []string      // of the server, besides the usual
	cmd  *exec.Cmd     // nil: it never ran
	done chan struct{} // closed when the process has ended
}

// NewMariaDB starts one, and names it to the stand-in that is started next. Its
// sessions wait for a lock for 30 s.
func NewMariaDB(t *testing.T, args ...string) *MariaDB {
	t.Helper()
	m := &MariaDB{Addr: "127.0.0.1:" + freePort(t), dir: t.TempDir(), args: args}
	run(t, "mariadb-install-db", "--no-defaults", "--datadir="+m.dir, "--user="+me(t),
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

// Start starts it, or starts it again on the files it left.
func (m *MariaDB) Start(t testing.TB) {
	t.Helper()
	host, port, _ := net.SplitHostPort(m.Addr)
	cmd := exec.Command("mariadbd", "--no-defaults", "--user="+me(t), "--datadir="+m.dir, "--socket="+m.Socket(),
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

// Databases makes empty ones, as fast as folders are made.
func (m *MariaDB) Databases(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// Freeze stops its process; it keeps its connections, and takes new ones, but says
// nothing. Thaw lets it go on.
func (m *MariaDB) Freeze(t testing.TB) { t.Helper(); m.signal(t, syscall.SIGSTOP) }

// Thaw lets a frozen one go on.
func (m *MariaDB) Thaw(t testing.TB) { t.Helper(); m.signal(t, syscall.SIGCONT) }

func (m *MariaDB) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Stop ends it as an operator would.
func (m *MariaDB) Stop(t testing.TB) { t.Helper(); m.end(t, syscall.SIGTERM) }

// Kill ends it as a power cut does.
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

// SQL asks it as its root; rows are lines, columns tabs.
func (m *MariaDB) SQL(t testing.TB, query string) string {
	t.Helper()
	out, err := exec.Command("mariadb", "-uroot", "-S", m.Socket(), "-N", "-e", query).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", query, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Socket is where its root gets in without a password.
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
