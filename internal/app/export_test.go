package app

import (
	"context"
	"time"

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

// DoctorOn is nexus doctor on a registry and a bench.
func DoctorOn(ctx context.Context, memory *store.Store, hands nexus.Bench, install nexus.InstallID, o DoctorOptions) (DoctorReport, error) {
	return tools{c: Config{Domain: "example.com", DeleteGrace: time.Hour}, install: install, bench: hands, name: "main", store: memory}.doctor(ctx, o)
}
