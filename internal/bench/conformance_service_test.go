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
