package worker

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Metrics are the worker's counters and gauges. No label names a tenant or a job.
type Metrics struct {
	jobs     *prometheus.CounterVec
	steps    *prometheus.HistogramVec
	ready    *prometheus.HistogramVec
	fenced   prometheus.Counter
	raised   prometheus.Counter
	rescued  prometheus.Counter
	skips    prometheus.Counter
	tripped  *prometheus.CounterVec
	diverted *prometheus.CounterVec
	skew     prometheus.Gauge
}

// NewMetrics makes the worker's metrics and registers them; with nil they are not registered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nexus_jobs_ended_total",
			Help: "Jobs that came to an end, by kind, state and code (ok if it succeeded)."}, []string{"kind", "state", "code"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "nexus_step_seconds",
			Help:    "Time of one attempt of a step, by kind, step and code (ok if it succeeded).",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 300}}, []string{"kind", "step", "code"}),
		ready: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "nexus_time_to_ready_seconds",
			Help:    "Time from the record of a signup to its success, by bench and road.",
			Buckets: []float64{.05, .1, .2, .35, .5, .75, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600}}, []string{"bench", "road"}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_runs_fenced_total",
			Help: "Runs that a newer owner ended."}),
		raised: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_gens_raised_total",
			Help: "Times a bench had seen a higher fencing token than Redis minted: a failover lost some."}),
		rescued: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_jobs_rescued_total",
			Help: "Jobs taken over after their lease ran out."}),
		skips: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_ticks_failed_total",
			Help: "Looks at the due index that failed."}),
		skew: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexus_clock_skew_seconds",
			Help: "How far this worker's clock is ahead of the registry's; beyond 10 it takes no job."}),
		tripped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nexus_breaker_trips_total",
			Help: "Times a bench was paused after failures in a row, by bench."}, []string{"bench"}),
		diverted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nexus_road_detours_total",
			Help: "Sites that were made by a longer road than the one that was chosen, by that one."}, []string{"road"}),
	}
	if reg != nil {
		reg.MustRegister(m.jobs, m.steps, m.ready, m.fenced, m.raised, m.rescued, m.skips, m.tripped, m.diverted, m.skew)
	}
	m.start()
	return m
}

// start sets the series that alarms use to 0, since Prometheus does not see the increase
// of a series that appears with its first event. serve starts those of a bench.
func (m *Metrics) start() {
	m.diverted.WithLabelValues(string(nexus.RoadClone))
	m.diverted.WithLabelValues(string(nexus.RoadStandby))
	for _, kind := range nexus.Kinds() {
		m.jobs.WithLabelValues(string(kind), string(nexus.Succeeded), "ok")
		for _, code := range nexus.Codes() {
			if code == nexus.Draining || code == nexus.Fenced { // no job ends so
				continue
			}
			m.jobs.WithLabelValues(string(kind), string(nexus.Failed), string(code))
			m.jobs.WithLabelValues(string(kind), string(nexus.RollbackFailed), string(code))
		}
	}
}

// serve sets the series of a bench to 0.
func (m *Metrics) serve(bench string) {
	m.tripped.WithLabelValues(bench)
	for _, road := range nexus.Roads() {
		m.ready.WithLabelValues(bench, string(road))
	}
}

// ended counts a job that is over. Now is the time by the clock of CreatedAt, which is Redis'.
func (m *Metrics) ended(job nexus.Job, now time.Time) {
	code := "ok"
	if job.Error != nil {
		code = string(job.Error.Code)
	}
	m.jobs.WithLabelValues(string(job.Kind), string(job.State), code).Inc()
	if job.Kind == nexus.KindProvision && job.State == nexus.Succeeded {
		road := cmp.Or(job.Road, nexus.RoadNewSite) // a former version recorded none
		m.ready.WithLabelValues(job.Bench, string(road)).Observe(now.Sub(job.CreatedAt).Seconds())
	}
}

func (m *Metrics) step(kind nexus.Kind, step nexus.StepName, err error, d time.Duration) {
	code := "ok"
	if err != nil {
		code = string(nexus.CodeOf(err))
	}
	m.steps.WithLabelValues(string(kind), string(step), code).Observe(d.Seconds())
}
