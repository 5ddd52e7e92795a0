package app_test

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// heater is a worker that warms the standbys of a shop.
type heater struct {
	*shop
	hear  func([]nexus.Standby)
	again func() error
	count prometheus.Gatherer
}

func (s *shop) heater() heater {
	hear, round, warmed := app.Warmer(s.store, s, install)
	registry := prometheus.NewRegistry()
	registry.MustRegister(warmed)
	return heater{s, hear, func() error { return round(s.t.Context()) }, registry}
}

func (h heater) warmed() float64 {
	h.t.Helper()
	families, err := h.count.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "nexus_pool_warmed_total" {
		h.t.Fatalf("metrics: %v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// round does what is due some time after the last round.
func (h heater) round(after time.Duration) {
	h.t.Helper()
	h.redis.FastForward(after)
	if err := h.again(); err != nil {
		h.t.Fatal(err)
	}
}

// want compares how many standbys of the bench are warm.
func (h heater) want(when string, want int) {
	h.t.Helper()
	warm := slices.DeleteFunc(h.there(), func(s nexus.Standby) bool { return !s.Warm })
	if len(warm) != want {
		h.t.Errorf("%s: %d standbys are warm, want %d", when, len(warm), want)
	}
}

// TestWarms: standbys are warmed one after the other, by whichever worker comes. The oldest
// come first, but the one that the next signup takes comes last.
func TestWarms(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "3")
	one, two := s.heater(), s.heater()
	one.round(0)
	one.want("before the standbys were listed", 0)
	list := s.there()
	for i := range list {
		list[i].MadeAt = time.Unix(int64(i+1), 0)
	}
	one.hear(list)
	two.hear(list)
	one.round(0)
	one.want("at first", 1)
	if i := slices.IndexFunc(s.there(), func(each nexus.Standby) bool { return each.Name == list[1].Name }); !s.there()[i].Warm {
		t.Errorf("it was not the second of %+v", list)
	}
	two.round(time.Second)
	one.want("within seconds", 1)
	two.round(5 * time.Second)
	one.want("later", 2)
	if i := slices.IndexFunc(s.there(), func(each nexus.Standby) bool { return each.Name == list[0].Name }); s.there()[i].Warm {
		t.Error("the next one is warm already")
	}
	one.round(5 * time.Second)
	one.want("in the end", 3)
	one.round(time.Hour)
	if one.warmed() != 2 || two.warmed() != 1 {
		t.Errorf("counted %g and %g", one.warmed(), two.warmed())
	}
	one.hear(s.there())
	one.round(time.Hour)
	if s.warms != 3 {
		t.Errorf("warmed %d times, though all are warm", s.warms)
	}
}

// TestWarmsWhenIdle: while a job has a slot, or waits for one, or the bench is paused, no
// standby is warmed.
func TestWarmsWhenIdle(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "2")
	h := s.heater()
	lease, job := s.signup()
	h.hear(s.there())
	h.round(0)
	h.want("during a signup", 0)
	s.finish(lease, job, nexus.Succeeded)
	s.rdb.ZAdd(t.Context(), "{nexus}:waiters:main", redis.Z{Member: string(nexus.NewJobID())})
	h.round(time.Minute)
	h.want("while another signup waits", 0)
	s.rdb.Del(t.Context(), "{nexus}:waiters:main")
	if err := s.store.SetBench(t.Context(), "main", nexus.BenchPaused, "op"); err != nil {
		t.Fatal(err)
	}
	h.round(time.Minute)
	h.want("while the bench is paused", 0)
	if err := s.store.SetBench(t.Context(), "main", nexus.BenchOpen, "op"); err != nil {
		t.Fatal(err)
	}
	h.round(time.Minute)
	h.want("after it", 1)
}

// TestWarmsAgain: a standby whose warm-up failed, or whose caches were lost, is warmed again,
// but not soon. One that a job has, or that is useless, is passed over.
func TestWarmsAgain(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	h := s.heater()
	h.hear(s.there())
	s.faulty = nexus.OpWarm
	if err := h.again(); nexus.CodeOf(err) != nexus.Unavailable {
		t.Errorf("answered %v", err)
	}
	s.faulty = ""
	h.hear(s.there())
	h.round(time.Minute)
	h.want("a minute after a failure", 0)
	h.hear(s.there())
	h.round(time.Hour)
	h.want("an hour after it", 1)

	asked := s.warms
	list := s.there()
	list[0].Warm, list[0].Problem = false, "It is useless."
	h.hear(list)
	h.round(time.Hour)
	if s.warms != asked {
		t.Error("a useless standby was warmed")
	}
	taken, gone := list[0], list[0]
	taken.Problem, taken.Job = "", nexus.NewJobID()
	gone.Problem, gone.Name, gone.Job = "", "standby-00000000", nexus.NewJobID()
	for _, each := range []nexus.Standby{taken, gone} {
		h.hear([]nexus.Standby{each})
		h.round(time.Hour) // no error
	}
	if s.warms != asked+2 || h.warmed() != 1 {
		t.Errorf("warmed %d times, counted %g", s.warms, h.warmed())
	}
}

// TestWarmsUntilClaimed: a claim ends a warm-up, which is no error.
func TestWarmsUntilClaimed(t *testing.T) {
	t.Parallel()
	s, _ := full(t, "1")
	h := s.heater()
	h.hear(s.there())
	s.faulty, s.warming = nexus.OpWarm, func() { s.signup() }
	if err := h.again(); err != nil || s.warms != 1 {
		t.Errorf("answered %v, warmed %d times", err, s.warms)
	}
}
