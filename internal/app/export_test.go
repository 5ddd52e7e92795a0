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

// LogRedis calls logRedis.
var LogRedis = logRedis

// Embedded returns a client of the embedded Redis of nexus dev.
func Embedded() (rdb redis.UniversalClient, stop func(), err error) {
	c, err := connect("", true)
	if err != nil {
		return nil, nil, err
	}
	return c.api, c.close, nil
}

// PlanCleanup calls planCleanup.
var PlanCleanup = planCleanup

// CountFindings counts the findings once, as a worker of the named bench does.
func CountFindings(ctx context.Context, st *store.Store, driver nexus.Bench, name string, install nexus.InstallID, gauge *prometheus.GaugeVec) error {
	return tools{install: install, bench: driver, name: name, store: st}.count(ctx, gauge)
}

// AskBench asks a bench as a worker does until the context ends.
func AskBench(ctx context.Context, log *slog.Logger, driver nexus.Bench) error {
	return (&app{log: log}).askBench(ctx, nil, driver)
}

// OfferTemplates keeps the templates of a bench as a worker does until the context ends.
func OfferTemplates(ctx context.Context, c Config, log *slog.Logger, st *store.Store, driver nexus.Bench) error {
	return (&app{c: c, log: log}).keepTemplates(ctx, st, driver)
}

// Keeper returns one round of a worker that keeps the templates of the bench main.
func Keeper(c Config, st *store.Store, driver nexus.Bench, install nexus.InstallID) (round func(context.Context) error) {
	return newKeeper(tools{c: c, install: install, bench: driver, name: "main", store: st}, slog.New(slog.DiscardHandler)).round
}

// DropTemplateOn drops a template of the bench main.
func DropTemplateOn(ctx context.Context, st *store.Store, driver nexus.Bench, install nexus.InstallID, name nexus.SiteName, sure func(string, nexus.Template) error) error {
	return tools{install: install, bench: driver, name: "main", store: st}.dropTemplate(ctx, name, sure)
}

// DoctorOn runs the doctor on a registry and a bench.
func DoctorOn(ctx context.Context, st *store.Store, driver nexus.Bench, install nexus.InstallID, o DoctorOptions) (DoctorReport, error) {
	return tools{c: Config{Domain: "example.com", DeleteGrace: time.Hour}, install: install, bench: driver, name: "main", store: st}.doctor(ctx, o)
}
