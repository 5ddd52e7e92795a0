package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// LogRedis lets tests see what go-redis says.
var LogRedis = logRedis

// Embedded is a client of a dev process' embedded Redis.
func Embedded() (rdb redis.UniversalClient, stop func(), err error) {
	c, err := connect("", true)
	if err != nil {
		return nil, nil, err
	}
	return c.api, c.close, nil
}

// PlanCleanup lets tests plan without a bench.
var PlanCleanup = planCleanup

// CountFindings is one look of a worker.
func CountFindings(ctx context.Context, memory *store.Store, hands nexus.Bench, install nexus.InstallID, gauge *prometheus.GaugeVec) error {
	return tools{install: install, bench: hands, store: memory}.count(ctx, gauge)
}

// AskBench asks a bench as a worker does until the context ends.
func AskBench(ctx context.Context, log *slog.Logger, hands nexus.Bench) error {
	return (&app{log: log}).askBench(ctx, nil, hands)
}

// DoctorOn is nexus doctor on a registry and a bench.
func DoctorOn(ctx context.Context, memory *store.Store, hands nexus.Bench, install nexus.InstallID, o DoctorOptions) (DoctorReport, error) {
	return tools{c: Config{Domain: "example.com", DeleteGrace: time.Hour}, install: install, bench: hands, name: "main", store: memory}.doctor(ctx, o)
}
