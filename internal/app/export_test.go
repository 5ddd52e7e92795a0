package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
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

// TemplateSpecs are the templates that workers build.
func TemplateSpecs(c Config) []nexus.TemplateSpec { return c.templateSpecs() }

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
	return (&app{c: c, log: log}).keepTemplates(ctx, tools{c: c, bench: driver, name: c.benchName(), store: st})
}

// Keeper returns one round of a worker that keeps the templates of the bench main, and the
// time until the next one.
func Keeper(c Config, st *store.Store, driver nexus.Bench, install nexus.InstallID) (round func(context.Context) error, pause func() time.Duration) {
	k := newKeeper(tools{c: c, install: install, bench: driver, name: "main", store: st}, slog.New(slog.DiscardHandler))
	return k.round, k.pause
}

// Pool returns what a worker does for the shelves of the bench main: compares them with it,
// and looks at them. Round does what is due; list lists the templates anew.
func Pool(c Config, st *store.Store, driver nexus.Bench, install nexus.InstallID) (compare, tend, round, list func(context.Context) error) {
	t := tools{c: c, install: install, bench: driver, name: "main", store: st, listed: &atomic.Pointer[[]nexus.Template]{}, shelved: &atomic.Pointer[[]nexus.Standby]{}}
	p := newPool(t, slog.New(slog.DiscardHandler))
	return p.compare, p.tend, p.round, func(ctx context.Context) error {
		_, _, err := t.offerTemplates(ctx)
		return err
	}
}

// KeepPool keeps the shelves of a bench, whose templates are listed, until the context ends.
func KeepPool(ctx context.Context, c Config, log *slog.Logger, st *store.Store, driver nexus.Bench, templates ...nexus.Template) error {
	t := tools{c: c, bench: driver, name: c.benchName(), store: st, listed: &atomic.Pointer[[]nexus.Template]{}, shelved: &atomic.Pointer[[]nexus.Standby]{}}
	t.listed.Store(&templates)
	return (&app{c: c, log: log}).keepPool(ctx, t)
}

// Warmer returns a worker that warms standbys of the bench main: hear tells it what the bench
// lists, and round does what is due.
func Warmer(st *store.Store, driver nexus.Bench, install nexus.InstallID) (hear func([]nexus.Standby), round func(context.Context) error, warmed prometheus.Counter) {
	w := newWarmer(tools{install: install, bench: driver, name: "main", store: st, shelved: &atomic.Pointer[[]nexus.Standby]{}})
	return func(list []nexus.Standby) { w.shelved.Store(&list) }, w.round, w.warmed
}

// DropTemplateOn drops a template of the bench main.
func DropTemplateOn(ctx context.Context, st *store.Store, driver nexus.Bench, install nexus.InstallID, name nexus.SiteName, sure func(string, nexus.Template) error) error {
	return tools{install: install, bench: driver, name: "main", store: st}.dropTemplate(ctx, name, sure)
}

// SpecsOf are what the templates of a bench are for, to a worker that has listed some.
func SpecsOf(c Config, listed []nexus.Template) []nexus.TemplateSpec {
	t := tools{c: c, listed: &atomic.Pointer[[]nexus.Template]{}}
	if listed != nil {
		t.listed.Store(&listed)
	}
	return t.templateSpecs()
}

// SandboxDelay calls sandboxDelay.
func SandboxDelay(c Config) (delay time.Duration, asReal bool, err error) { return c.sandboxDelay() }

// ShelfLimits calls shelfLimits.
func ShelfLimits(c Config) (tasks.ShelfLimits, error) { return c.shelfLimits() }

// DoctorOn runs the doctor on a registry and a bench.
func DoctorOn(ctx context.Context, st *store.Store, driver nexus.Bench, install nexus.InstallID, o DoctorOptions) (DoctorReport, error) {
	return tools{c: Config{Domain: "example.com", DeleteGrace: time.Hour}, install: install, bench: driver, name: "main", store: st}.doctor(ctx, o)
}
