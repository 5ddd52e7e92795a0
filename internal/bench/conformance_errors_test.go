//go:build service

package bench_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestErrorsOfMariaDB breaks a real MariaDB in several ways. Each error must be of the
// right kind, with a message that says what to do, and end once that is done.
func TestErrorsOfMariaDB(t *testing.T) {
	disk := smallDisk(t)
	tls := certificates(t)
	m := standin.NewMariaDB(t, "--ssl-cert="+tls+"/cert.pem", "--ssl-key="+tls+"/key.pem", "--ssl-ca="+tls+"/cert.pem")
	s := standin.Start(t, time.Second)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	set := func(t *testing.T, statement, back string) {
		t.Helper()
		m.SQL(t, statement)
		t.Cleanup(func() { m.SQL(t, back) })
	}
	init := g.secrets
	init.Install = g.install

	t.Run("root by its socket only", func(t *testing.T) {
		set(t, "ALTER USER root@'%' IDENTIFIED VIA unix_socket; ALTER USER IF EXISTS root@'127.0.0.1' IDENTIFIED VIA unix_socket",
			"ALTER USER root@'%' IDENTIFIED BY 'root'; ALTER USER IF EXISTS root@'127.0.0.1' IDENTIFIED BY 'root'")
		g.says(t, init, "socket only")
	})
	t.Run("another password of root", func(t *testing.T) {
		wrong := init
		wrong.RootPassword = "wrong"
		g.tenant("root").refused(t, wrong, nexus.Invalid)
	})
	t.Run("an address that is not let in", func(t *testing.T) {
		set(t, "RENAME USER root@'%' TO root@'192.0.2.1'; DROP USER IF EXISTS root@'127.0.0.1'", "RENAME USER root@'192.0.2.1' TO root@'%'")
		set(t, "CREATE TABLE mysql.kept AS SELECT * FROM mysql.global_priv WHERE User <> 'root' AND Host = '%'; DELETE FROM mysql.global_priv WHERE User <> 'root' AND Host = '%'; FLUSH PRIVILEGES",
			"INSERT INTO mysql.global_priv SELECT * FROM mysql.kept; DROP TABLE mysql.kept; FLUSH PRIVILEGES")
		g.says(t, init, "from the bench's address")
	})
	t.Run("TLS wanted", func(t *testing.T) {
		set(t, "SET GLOBAL require_secure_transport = ON", "SET GLOBAL require_secure_transport = OFF")
		n := g.tenant("tls")
		n.says(t, nexus.Mark{State: nexus.TenantActive}, "db_ssl_ca")
		n.says(t, init, "db_ssl_ca")
		config := "sites/common_site_config.json"
		before := b.Sh(t, "cat "+config)
		pem, err := os.ReadFile(filepath.Join(tls, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		b.Sh(t, "cat > sites/ca.pem <<'END'\n"+string(pem)+"END\nbench set-config -g db_ssl_ca $PWD/sites/ca.pem")
		n.run(t, init) // as Frappe is told to
		b.Sh(t, "cat > "+config+" <<'END'\n"+before+"\nEND\nrm sites/ca.pem")
	})
	t.Run("a policy for passwords", func(t *testing.T) {
		set(t, "INSTALL SONAME 'simple_password_check'", "UNINSTALL SONAME 'simple_password_check'")
		g.says(t, nexus.NewSite{}, "strict_password_validation")
		m.SQL(t, "SET GLOBAL strict_password_validation = OFF")
		t.Cleanup(func() { m.SQL(t, "SET GLOBAL strict_password_validation = ON") })
		n := g.tenant("policy")
		n.run(t, nexus.NewSite{})
		testDrop(t, n)
	})
	t.Run("no writes", func(t *testing.T) {
		set(t, "REVOKE READ_ONLY ADMIN ON *.* FROM root@'%'; SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0; GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION")
		g.says(t, nexus.NewSite{}, "read_only")
	})
	t.Run("a full disk", func(t *testing.T) {
		fill := filepath.Join(disk, "fill")
		_ = exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=4k").Run() // until there is no room
		g.says(t, nexus.NewSite{}, "disk of the database is full")
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a full disk in a copy", func(t *testing.T) { testFullInCopy(t, b, g, filepath.Join(disk, "fill")) })
	t.Run("no folder for temporary files", func(t *testing.T) {
		if err := os.Rename(m.Tmp, m.Tmp+".away"); err != nil {
			t.Fatal(err)
		}
		g.says(t, nexus.NewSite{}, "tmpdir")
		if err := os.Rename(m.Tmp+".away", m.Tmp); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("frozen", func(t *testing.T) {
		n := g.tenant("frozen")
		n.run(t, nexus.NewSite{})
		m.Freeze(t)
		began := time.Now()
		for _, args := range []nexus.Args{nexus.Inspect{}, nexus.Mark{State: nexus.TenantActive}} {
			n.says(t, args, "cannot be used just now")
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("that took %s", took)
		}
		_, err := n.try(t, nexus.Mark{State: nexus.TenantActive})
		if e, ok := errors.AsType[*nexus.Error](err); !ok || !e.Unbegun {
			t.Errorf("an operation that never began is charged: %v", err)
		}
		m.Thaw(t)
		n.run(t, nexus.Mark{State: nexus.TenantActive})
		testDrop(t, n)
	})
}

// testFullInCopy fills the disk in the middle of a copy, so that a table's description has
// room and its data has none. That is no fault of the template, which is copied again.
func testFullInCopy(t *testing.T, b *standin.Box, g *target, fill string) {
	m, n := g.model(t, b, "full"), g.tenant("of-full")
	m.raw(t)
	m.must(t, m.freeze())
	wait, _, let := m.stuck(t, b, n)
	_ = exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=4k").Run()
	if err := exec.Command("truncate", "--size=-48K", fill).Run(); err != nil {
		t.Fatal(err)
	}
	let()
	if err := wait(); nexus.CodeOf(err) != nexus.Unavailable || !strings.Contains(err.Error(), "disk of the database is full") {
		t.Errorf("on a full disk: %v", err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if result := n.run(t, nexus.Clone{Template: m.site}); !result.Changed || m.problem(t) != "" {
		t.Errorf("with room again: %+v, the template: %s", result, m.problem(t))
	}
	testDrop(t, n)
	m.must(t, nexus.DropSite{})
}

// says checks the message of an operation on a tenant of its own.
func (g *target) says(t *testing.T, args nexus.Args, words string) {
	t.Helper()
	n := g.tenant("says")
	n.says(t, args, words)
}

// smallDisk gives the test's files a disk of their own.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nexus-disk")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400m,mode=1777", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a disk of the test's own needs root: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", dir).Run()
		_ = os.Remove(dir)
	})
	t.Setenv("TMPDIR", dir)
	return dir
}

// certificates makes a self-signed one for this machine.
func certificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", dir+"/key.pem", "-out", dir+"/cert.pem").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
