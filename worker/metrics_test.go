package worker_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// TestAlarmSeriesStartAtZero: series that alarms use exist with 0 before the first event,
// since Prometheus sees no increase in a series whose first value is 1.
func TestAlarmSeriesStartAtZero(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	keys, _ := nexus.NewKeyring()
	worker.NewEngine(worker.Options{Keys: keys, Metrics: worker.NewMetrics(registry), Settings: tasks.Settings{Bench: "main"}, Log: slog.New(slog.DiscardHandler)})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	type ended struct{ kind, state, code string }
	jobs, others := map[ended]bool{}, map[string]bool{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if m.GetCounter().GetValue() != 0 {
				t.Errorf("%s starts at %v", family.GetName(), m.GetCounter().GetValue())
			}
			others[family.GetName()+labels["bench"]] = true
			if family.GetName() == "nexus_jobs_ended_total" {
				jobs[ended{labels["kind"], labels["state"], labels["code"]}] = true
			}
		}
	}
	for _, kind := range nexus.Kinds() {
		for _, state := range []nexus.State{nexus.Failed, nexus.RollbackFailed} {
			for _, code := range nexus.Codes() {
				want := code != nexus.Draining && code != nexus.Fenced
				if series := (ended{string(kind), string(state), string(code)}); jobs[series] != want {
					t.Errorf("%+v is there: %t, want %t", series, jobs[series], want)
				}
			}
		}
	}
	for _, name := range []string{"nexus_breaker_trips_totalmain", "nexus_jobs_rescued_total", "nexus_runs_fenced_total", "nexus_gens_raised_total", "nexus_ticks_failed_total", "nexus_road_detours_total"} {
		if !others[name] {
			t.Errorf("%s is not there from the start", name)
		}
	}
}
