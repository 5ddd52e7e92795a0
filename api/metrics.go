package api

import (
	"context"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// gauges are the metrics of the whole system, read from Redis at each scrape.
type gauges struct {
	redis                                           prometheus.Gauge
	due, dueAge, workers, parked                    *prometheus.GaugeVec // without labels; a vector, so that they can be removed while Redis is away
	pending, active, age                            *prometheus.GaugeVec // by queue
	mode, slots, used, waiting, failures, trippedTo *prometheus.GaugeVec // by bench
	standbys, target                                *prometheus.GaugeVec // by bench and template
	hits, misses                                    *prometheus.CounterVec
}

func newGauges(reg prometheus.Registerer) *gauges {
	one := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	by := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	count := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"bench", "template"})
		reg.MustRegister(c)
		return c
	}
	return &gauges{
		redis:     one("nexus_redis_up", "1 if the registry answered this scrape."),
		due:       by("nexus_due_jobs", "Jobs and tenants that are due and not looked at yet."),
		dueAge:    by("nexus_due_age_seconds", "How long the oldest of them has been due; above a second no worker looks at the due index."),
		workers:   by("nexus_workers", "Workers that announced themselves in the last two minutes."),
		parked:    by("nexus_jobs_parked", "Jobs whose rollback failed and which nobody has resumed."),
		pending:   by("nexus_queue_pending_tasks", "Tasks that wait for a worker, by queue.", "queue"),
		active:    by("nexus_queue_active_tasks", "Tasks that a worker has, by queue.", "queue"),
		age:       by("nexus_queue_age_seconds", "Age of the oldest task that waits, by queue.", "queue"),
		mode:      by("nexus_bench_mode", "1 for the mode of a bench: open, paused, drained or tripped.", "bench", "mode"),
		slots:     by("nexus_bench_slots", "Jobs a bench admits at once.", "bench"),
		used:      by("nexus_bench_slots_used", "Slots in use.", "bench"),
		waiting:   by("nexus_bench_waiting_jobs", "Jobs that wait for a slot of a bench.", "bench"),
		failures:  by("nexus_bench_failures_in_a_row", "Failures of one step with one code in a row.", "bench"),
		trippedTo: by("nexus_bench_tripped_until_timestamp_seconds", "When the breaker of a tripped bench admits a job again; 0 if it is not tripped.", "bench"),
		standbys:  by("nexus_pool_standbys", "Copies of a template that are kept for signups, by state: making, shelved, popped or reaping.", "bench", "template", "state"),
		target:    by("nexus_pool_target", "Copies of a template that are to be kept ready.", "bench", "template"),
		hits:      count("nexus_pool_hits_total", "Signups that got a copy that was kept ready."),
		misses:    count("nexus_pool_misses_total", "Signups that found no copy ready, and took longer."),
	}
}

// read sets the gauges. If Redis does not answer, the scrape has none of them.
func (s *Server) read(ctx context.Context) {
	g := s.gauges
	for _, v := range []*prometheus.GaugeVec{g.due, g.dueAge, g.workers, g.parked, g.pending, g.active, g.age, g.mode, g.slots, g.used, g.waiting, g.failures, g.trippedTo, g.standbys, g.target} {
		v.Reset()
	}
	g.hits.Reset()
	g.misses.Reset()
	g.redis.Set(0)
	stats, err := s.Store.Stats(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "metrics not read", nexus.LogErr, err)
		return
	}
	g.redis.Set(1)
	g.due.WithLabelValues().Set(float64(stats.Due))
	g.dueAge.WithLabelValues().Set(stats.DueAge.Seconds())
	g.workers.WithLabelValues().Set(float64(stats.Workers))
	g.parked.WithLabelValues().Set(float64(stats.Parked))
	for _, q := range stats.Queues {
		g.pending.WithLabelValues(q.Name).Set(float64(q.Pending))
		g.active.WithLabelValues(q.Name).Set(float64(q.Active))
		g.age.WithLabelValues(q.Name).Set(q.Age.Seconds())
	}
	for _, b := range stats.Benches {
		for _, mode := range []nexus.BenchMode{nexus.BenchOpen, nexus.BenchPaused, nexus.BenchDrained, nexus.BenchTripped} {
			is := 0.0
			if b.Mode == mode {
				is = 1
			}
			g.mode.WithLabelValues(b.Name, string(mode)).Set(is)
		}
		g.slots.WithLabelValues(b.Name).Set(float64(b.Slots))
		g.used.WithLabelValues(b.Name).Set(float64(b.Used))
		g.waiting.WithLabelValues(b.Name).Set(float64(b.Waiting))
		g.failures.WithLabelValues(b.Name).Set(float64(b.Failures))
		until := 0.0
		if !b.Until.IsZero() {
			until = float64(b.Until.Unix())
		}
		g.trippedTo.WithLabelValues(b.Name).Set(until)
		s.readPool(ctx, b.Name)
	}
}

// readPool sets the metrics of a bench's shelves. Those of several lists of apps are added.
func (s *Server) readPool(ctx context.Context, bench string) {
	shelves, err := s.shelves(ctx, bench)
	if err != nil {
		s.Log.WarnContext(ctx, "metrics not read", nexus.LogErr, err)
		return
	}
	for _, shelf := range shelves {
		spec := string(shelf.Spec())
		for _, state := range []nexus.StandbyState{nexus.StandbyMaking, nexus.StandbyShelved, nexus.StandbyPopped, nexus.StandbyReaping} {
			s.gauges.standbys.WithLabelValues(bench, spec, string(state)).Add(float64(shelf.Count(state)))
		}
		s.gauges.target.WithLabelValues(bench, spec).Add(float64(shelf.Target))
		s.gauges.hits.WithLabelValues(bench, spec).Add(float64(shelf.Hits))
		s.gauges.misses.WithLabelValues(bench, spec).Add(float64(shelf.Misses))
	}
}

// Metrics serves the metrics to Prometheus.
func (s *Server) Metrics(c echo.Context) error {
	s.scrape.Lock() // another scrape would reset the gauges
	defer s.scrape.Unlock()
	s.read(c.Request().Context())
	promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}
