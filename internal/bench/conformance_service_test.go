//go:build service

package bench_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConformanceStandin holds the Docker driver and the runner against the
// table, on a stand-in of a Frappe bench.
func TestConformanceStandin(t *testing.T) {
	b := standin.Start(t, 600*time.Millisecond)
	conformance(t, container(t, standin.NewBox(t, b.Name, b.RootPassword), b.Addr, "erpnext", nexus.NewInstallID()))
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
}
