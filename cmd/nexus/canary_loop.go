package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nexus-erp/provisioner/internal/app"
)

// canaryMetrics count runs.
type canaryMetrics struct {
	registry *prometheus.Registry
	runs     *prometheus.CounterVec
	last     prometheus.Gauge
	seconds  prometheus.Histogram
}

func newCanaryMetrics() *canaryMetrics {
	m := &canaryMetrics{
		registry: app.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nexus_canary_runs_total",
			Help: "Runs of the canary, by result: ok or failed."}, []string{"result"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexus_canary_last_success_timestamp_seconds",
			Help: "When a run last succeeded; 0: never."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "nexus_canary_seconds",
			Help: "Duration of a run that succeeded, from the signup to the removal.", Buckets: []float64{.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600}}),
	}
	m.registry.MustRegister(m.runs, m.last, m.seconds)
	m.runs.WithLabelValues("ok") // both exist from the start, so that rate() sees the first run
	m.runs.WithLabelValues("failed")
	return m
}

func (m *canaryMetrics) count(found finding) {
	if !found.OK {
		m.runs.WithLabelValues("failed").Inc()
		return
	}
	m.runs.WithLabelValues("ok").Inc()
	m.last.SetToCurrentTime()
	m.seconds.Observe(found.Seconds)
}

// loop repeats runs until the context ends, which is not an error.
func (k *canary) loop(ctx context.Context, out io.Writer, every time.Duration, addr string) error {
	m := newCanaryMetrics()
	if addr != "" {
		stop, err := m.serve(ctx, addr, k.log)
		if err != nil {
			return err
		}
		defer stop()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		found := k.run(ctx)
		if ctx.Err() != nil { // a run that was stopped is not a result
			return nil
		}
		m.count(found)
		if err := json.NewEncoder(out).Encode(found); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// serve answers /metrics until stop is called.
func (m *canaryMetrics) serve(ctx context.Context, addr string, log io.Writer) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, usage("The metrics cannot be served at %q: %v", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	fmt.Fprintf(log, "metrics: http://%s/metrics\n", listener.Addr())
	return func() {
		if err := errors.Join(server.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(log, err)
		}
	}, nil
}
