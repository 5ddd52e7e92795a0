package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// PlanCleanup lets tests plan without a bench.
var PlanCleanup = planCleanup

// CountFindings is one look of a worker.
func CountFindings(ctx context.Context, memory *store.Store, hands nexus.Bench, install nexus.InstallID, gauge *prometheus.GaugeVec) error {
	return tools{install: install, bench: hands, store: memory}.count(ctx, gauge)
}
