//go:build service

package bench_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConformanceStandin holds the Docker driver and the runner against the
// table, on stand-ins of a bench of each release of Frappe.
func TestConformanceStandin(t *testing.T) {
	for _, release := range []string{"15", "16"} {
		t.Run(release, func(t *testing.T) {
			t.Setenv("STANDIN_FRAPPE", release)
			s := standin.Start(t, 600*time.Millisecond)
			b := standin.NewBox(t, s.Name, s.RootPassword)
			g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
			conformance(t, g)
			t.Run("web server", func(t *testing.T) { testWeb(t, b, g) })
		})
	}
}

// TestPasswordStandin holds what databases' passwords are held to, on the same with
// a MariaDB of its own: it changes the register under all that use it.
func TestPasswordStandin(t *testing.T) {
	standin.NewMariaDB(t)
	s := standin.Start(t, 3*time.Second)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testPasswords(t, b, g)
	t.Run("rows of before", func(t *testing.T) { testRowsOfBefore(t, b, g.tenant("before")) })
}

// TestThiefStandin holds what somebody gets who has the workers' database account.
func TestThiefStandin(t *testing.T) {
	m := standin.NewMariaDB(t)
	s := standin.Start(t, 3*time.Second)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testThief(t, b, g)
	t.Run("thousands of databases", func(t *testing.T) { testThousands(t, m, g) })
	t.Run("procedures of before", func(t *testing.T) { testFormerProcedures(t, b, g) })
}
