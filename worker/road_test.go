package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// detours is the value of the counter of detours.
func detours(t *testing.T, registry *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "nexus_road_detours_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestRoads: the steps after reserve know the road, also in another run of the job, and the
// steps after a detour know the longer one. A detour is counted and logged.
func TestRoads(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	if err := h.store.OfferTemplates(t.Context(), "main", []nexus.Template{{Name: "plain-1", Spec: nexus.TemplatePlain}}); err != nil {
		t.Fatal(err)
	}
	var saw []string
	see := func(k *tasks.Kit) { saw = append(saw, fmt.Sprintf("%s %s", k.Job.Road, k.Job.Template)) }
	broke := false
	row := func(name nexus.StepName, do func(context.Context, *tasks.Kit) error) tasks.Step {
		return tasks.Step{Name: name, Do: do, Timeout: time.Minute, Attempts: 3}
	}
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{
		row("reserve", func(ctx context.Context, k *tasks.Kit) error {
			return k.Records.Reserve(ctx, "main", "nx1", nexus.TemplatePlain.Key(nil))
		}),
		row("site", func(ctx context.Context, k *tasks.Kit) error {
			if see(k); !broke {
				broke = true
				return plain() // another run goes on
			}
			_, err := k.Records.Divert(ctx, "nx1")
			return err
		}),
		row("apps", func(_ context.Context, k *tasks.Kit) error { see(k); return nil }),
	}}
	registry, log := prometheus.NewRegistry(), strings.Builder{}
	engine := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Metrics: worker.NewMetrics(registry),
		Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return h.now }, Renew: time.Hour})
	job := h.submit(t, p)
	for range 10 {
		if job.Taken < job.Dispatch {
			engine.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: job.Dispatch})
		}
		h.advance(3 * time.Second)
		var err error
		if _, err = h.store.Tick(t.Context(), true); err == nil {
			job, err = h.store.Job(t.Context(), job.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(saw, ", "); got != "clone plain-1, clone plain-1, new-site " || job.State != nexus.Succeeded || job.Road != nexus.RoadNewSite {
		t.Errorf("the steps saw %s; the job is %s by the road %s", got, job.State, job.Road)
	}
	if n := detours(t, registry); n != 1 || !strings.Contains(log.String(), `msg="site made by another road" from=clone to=new-site template=plain-1`) {
		t.Errorf("%v detours counted, logged %s", n, log.String())
	}
}

// TestTemplateRecords: a template job offers and withdraws on its own bench.
func TestTemplateRecords(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	if err := h.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	var offered []bool
	look := func() {
		list, err := h.store.Templates(t.Context())
		if err != nil || len(list) != 1 || list[0].Bench != "main" || list[0].Name != "plain-1" {
			t.Errorf("listed %+v, %v", list, err)
			return
		}
		offered = append(offered, list[0].Offered)
	}
	p := tasks.Process{Kind: nexus.KindTemplate, Steps: []tasks.Step{
		{Name: "reserve", Timeout: time.Minute, Attempts: 3, Do: func(ctx context.Context, k *tasks.Kit) error { return k.Records.Reserve(ctx, "main", "nx1") }},
		{Name: "freeze", Timeout: time.Minute, Attempts: 3, Do: func(ctx context.Context, k *tasks.Kit) error {
			err := k.Records.Offer(ctx, []nexus.Template{{Name: "plain-1", Spec: nexus.TemplatePlain}})
			if look(); err == nil {
				err = k.Records.Withdraw(ctx, "plain-1")
			}
			look()
			return err
		}},
	}}
	if end := h.live(t, p, h.submit(t, p).ID, func(int) {}); end.State != nexus.Succeeded || fmt.Sprint(offered) != "[true false]" {
		t.Errorf("%s, offered %v", end.State, offered)
	}
}
