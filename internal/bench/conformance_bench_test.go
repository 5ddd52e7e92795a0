//go:build bench

package bench_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConformanceBench runs the conformance table on a real bench. It makes and drops sites
// named ct-….
func TestConformanceBench(t *testing.T) {
	b, g := realBench(t)
	conformance(t, g)
	t.Run("web server", func(t *testing.T) { testWeb(t, b, g) })
	testPasswords(t, b, g)
}

// TestAttackedBench does to a real bench what its tenants and its environment may do. For
// moments it has no install id: jobs of a product on it wait meanwhile.
func TestAttackedBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	attacked(t, b, g)
}

// realBench returns the bench in the container NEXUS_TEST_BENCH, whose HTTP address is
// NEXUS_TEST_VERIFY_ADDR and whose database's root password NEXUS_TEST_DB_ROOT_PASSWORD.
func realBench(t *testing.T) (*standin.Box, *target) {
	t.Helper()
	name, addr, root := os.Getenv("NEXUS_TEST_BENCH"), os.Getenv("NEXUS_TEST_VERIFY_ADDR"), os.Getenv("NEXUS_TEST_DB_ROOT_PASSWORD")
	if name == "" || addr == "" || root == "" {
		t.Fatal("set NEXUS_TEST_BENCH (container), NEXUS_TEST_VERIFY_ADDR (host:port) and NEXUS_TEST_DB_ROOT_PASSWORD")
	}
	b := standin.NewBox(t, name, root)
	install := nexus.NewInstallID()
	if text := b.Sh(t, "cat sites/.nexus/install 2>/dev/null || true"); strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal([]byte(text), &install); err != nil {
			t.Fatal(err)
		}
	}
	app := os.Getenv("NEXUS_TEST_APP")
	if app == "" {
		app = "erpnext"
	}
	return b, container(t, b, addr, app, install)
}

// TestCopiesBench checks templates and their copies on a real bench.
func TestCopiesBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testCopies(t, b, g)
}

// TestShelfBench checks standbys and claims on a real bench.
func TestShelfBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testShelf(t, b, g)
}

// TestCompaniesBench checks templates with a company on a real bench.
func TestCompaniesBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testCompanies(t, b, g)
}

// TestUsersBench checks the users of templates on a real bench.
func TestUsersBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testUsers(t, b, g)
}

// TestClaimKilledBench kills claims and their undos on a real bench.
func TestClaimKilledBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	shelf := g.shelf(t, b)
	testClaimKilled(t, b, shelf)
	shelf.end(t, b)
}
