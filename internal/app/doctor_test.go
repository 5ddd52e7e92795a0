package app_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestCountFindings counts the findings after a lost registry; another worker of the bench
// does not count within the same ten minutes, and one of another bench does.
func TestCountFindings(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	st := store.New(rdb, store.Options{Embedded: true})
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: t.TempDir(), Install: install})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sandbox.Close() })
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.Mark{State: nexus.TenantActive}} {
		if _, err := sandbox.Run(t.Context(), nexus.Op{Site: "acme.example.com", DB: lost.Database(install), Owner: lost, Gen: 1, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "findings"}, []string{"kind"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(gauge)
	counted := func(name string) map[string]float64 {
		t.Helper()
		out := map[string]float64{}
		if err := app.CountFindings(t.Context(), st, sandbox, name, install, gauge); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				out[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
		return out
	}
	for _, name := range []string{"main", "second"} {
		if n := counted(name); n["unrecorded_site"] != 1 || n["orphan_site"] != 0 || len(n) < 10 {
			t.Errorf("on the bench %s: %v", name, n)
		}
	}
	if n := counted("main"); len(n) != 0 {
		t.Errorf("counted twice: %v", n)
	}
}

// TestBenchProblems: a problem of the bench is a finding, which --fix does not mend.
func TestBenchProblems(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	said := func() (nexus.Result, error) {
		result, err := lacks("redis")()
		result.Inventory = &nexus.InventoryResult{}
		return result, err
	}
	driver := &asked{answers: []func() (nexus.Result, error){said}}
	report, err := app.DoctorOn(t.Context(), store.New(rdb, store.Options{Embedded: true}), driver, install, app.DoctorOptions{Fix: true})
	want := tasks.Finding{Kind: tasks.BenchProblem, What: "redis", Mend: "mend redis"}
	if err != nil || len(report.Findings) != 1 || report.Findings[0] != want || len(report.Mended)+len(report.Failed) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}
