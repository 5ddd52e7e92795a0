//go:build service

package bench_test

import (
	"fmt"
	"strings"
	"sync"
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
	t.Run("files of before", func(t *testing.T) { testFences(t, b, g) })
	t.Run("procedures of before", func(t *testing.T) { testFormerProcedures(t, b, g) })
}

// testFences holds that the files of fences go with their site, those that were left
// too, while a site's own stay.
func testFences(t *testing.T, b *standin.Box, g *target) {
	n, gone := g.tenant("fences"), g.tenant("fences-gone")
	n.again(t, nexus.NewSite{})
	folder := "sites/.nexus/fence/"
	b.Sh(t, fmt.Sprintf("cd %s && touch nxffffold.gen nxffffold.lock nxffffold.meta site-ct-old.localhost.lock nxffffnew.meta && touch -d '2 days ago' nxffffold.* site-ct-old.localhost.lock %s.*", folder, n.op(nil).DB))
	n.run(t, nexus.Inventory{})
	if left := b.Sh(t, "ls "+folder+" | grep -e old -e new || true"); left != "nxffffnew.meta" {
		t.Errorf("left: %s", left)
	}
	if left := b.Sh(t, "ls "+folder+n.op(nil).DB+".*"); strings.Count(left, "\n") != 2 {
		t.Errorf("of a live site there are only: %s", left)
	}
	older := *n
	older.gen--
	older.refused(t, nexus.Mark{State: nexus.TenantActive}, nexus.Fenced)
	// Many at once on one name whose files come and go: who comes later ends who is there.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 {
				if _, err := gone.try(t, nexus.DropSite{}); err != nil && nexus.CodeOf(err) != nexus.Unavailable {
					t.Errorf("a drop: %v", err)
				}
			}
		})
	}
	all.Wait()
	testDrop(t, gone)
	testDrop(t, n)
	b.Sh(t, "rm "+folder+"nxffffnew.meta")
}
