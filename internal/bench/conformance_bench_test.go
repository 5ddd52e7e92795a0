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

// TestConformanceBench holds the bench of a container against the table: a real
// one, named by NEXUS_TEST_BENCH, with its HTTP address in NEXUS_TEST_VERIFY_ADDR
// and its database's root password in NEXUS_TEST_DB_ROOT_PASSWORD. It makes and
// drops sites named ct-….
func TestConformanceBench(t *testing.T) {
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
	g := container(t, b, addr, app, install)
	conformance(t, g)
	t.Run("web server", func(t *testing.T) { testWeb(t, b, g) })
	testPasswords(t, b, g)
}
