package worker_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// observed is a histogram.
type observed struct {
	count       uint64
	sum         float64
	first, last float64 // bounds of its buckets
}

// timesToReady reads the histograms of the times to ready, by bench and road.
func timesToReady(t *testing.T, registry *prometheus.Registry) map[[2]string]observed {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[[2]string]observed{}
	for _, family := range families {
		if family.GetName() != "nexus_time_to_ready_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			h := m.GetHistogram()
			buckets := h.GetBucket()
			out[[2]string{labels["bench"], labels["road"]}] = observed{count: h.GetSampleCount(), sum: h.GetSampleSum(),
				first: buckets[0].GetUpperBound(), last: buckets[len(buckets)-1].GetUpperBound()}
		}
	}
	return out
}

// TestTimeToReady: a signup that succeeded is observed once, under its bench and the road that
// was taken in the end, with the time since it was recorded by Redis' clock, waits included. One
// that failed is not observed, nor is a job of another kind.
func TestTimeToReady(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	if err := h.store.OfferTemplates(t.Context(), "main", []nexus.Template{{Name: "plain-1", Spec: nexus.TemplatePlain}}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	metrics := worker.NewMetrics(registry)
	run := func(kind nexus.Kind, want nexus.State, site func(context.Context, *tasks.Kit) error) {
		t.Helper()
		p := tasks.Process{Kind: kind, Steps: []tasks.Step{
			{Name: "reserve", Timeout: time.Minute, Attempts: 1, Do: func(ctx context.Context, k *tasks.Kit) error {
				return k.Records.Reserve(ctx, "main", "nx1", nexus.TemplatePlain.Key(nil))
			}},
			{Name: "site", Timeout: time.Minute, Attempts: 2, Do: site},
		}}
		engine := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Metrics: metrics,
			Settings: tasks.Settings{Bench: "main"}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, 0) }, Renew: time.Hour})
		job := h.submit(t, p)
		for range 10 {
			h.advance(7 * time.Second)
			if job.Taken < job.Dispatch {
				engine.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: job.Dispatch})
			}
			_, err := h.store.Tick(t.Context(), true)
			if err == nil {
				job, err = h.store.Job(t.Context(), job.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if job.State != want {
			t.Fatalf("a %s is %s, want %s", kind, job.State, want)
		}
		if err := h.rdb.Del(t.Context(), "{nexus}:tenant:acme.localhost").Err(); err != nil {
			t.Fatal(err)
		}
	}
	made := func(context.Context, *tasks.Kit) error { return nil }
	run(nexus.KindProvision, nexus.Succeeded, made)
	broke := false
	run(nexus.KindProvision, nexus.Succeeded, func(ctx context.Context, k *tasks.Kit) error {
		if !broke {
			broke = true
			return plain()
		}
		_, err := k.Records.Divert(ctx, "nx1")
		return err
	})
	run(nexus.KindProvision, nexus.Failed, func(context.Context, *tasks.Kit) error {
		return &nexus.Error{Code: nexus.Conflict, Op: "test", Msg: "No."}
	})
	run(nexus.KindAdopt, nexus.Succeeded, made)

	got := timesToReady(t, registry)
	for _, want := range []struct {
		road        string
		count       uint64
		least, most float64
	}{{"standby", 0, 0, 0}, {"clone", 1, 7, 100}, {"new-site", 1, 14, 100}} {
		is, found := got[[2]string{"main", want.road}]
		if !found || is.count != want.count || is.sum < want.least || is.sum > want.most || is.first != 0.05 || is.last < 300 {
			t.Errorf("by %s: %+v, want %d of %v to %v s in buckets from 0.05 to 300 s or more", want.road, is, want.count, want.least, want.most)
		}
	}
	if len(got) != len(nexus.Roads()) {
		t.Errorf("the series are %v", got)
	}
}
