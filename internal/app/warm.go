package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const (
	// warmEvery is how often a warm-up begins on one bench, by all workers together. The longest
	// one, on Frappe 16, takes about as long.
	warmEvery = 5 * time.Second
	// warmTakes is when a warm-up is given up.
	warmTakes = time.Minute
	// warmAgain is how long a standby is left alone after a warm-up. One that failed would fail
	// again, and if Redis has no room for all caches, each warm-up evicts those of another.
	warmAgain = time.Hour
)

// warmer warms standbys while their bench is idle. Every worker has one.
type warmer struct {
	tools
	warmed prometheus.Counter
	list   *[]nexus.Standby // from which cold was computed
	cold   []nexus.Standby  // in the order in which they are warmed
}

func newWarmer(t tools) *warmer {
	return &warmer{tools: t, warmed: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_pool_warmed_total",
		Help:        "Copies kept ready whose caches this worker has filled for the first page of the desk, again if they were lost.",
		ConstLabels: prometheus.Labels{"bench": t.name}})}
}

// keepWarm warms standbys of the bench until the context ends.
func (a *app) keepWarm(ctx context.Context, t tools) error {
	if a.c.single() {
		return nil
	}
	w := newWarmer(t)
	a.registry.MustRegister(w.warmed)
	var repeats nexus.Repeats
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.round(ctx); err != nil && ctx.Err() == nil {
				repeats.Log(ctx, a.log, slog.LevelWarn, "warm", "standby not warmed", nexus.LogErr, err)
			}
		}
	}
}

// round warms one standby, if there is a cold one and no job has a slot of the bench or waits
// for one.
func (w *warmer) round(ctx context.Context) error {
	if list := w.shelved.Load(); list != nil && list != w.list {
		w.list, w.cold = list, coldOf(*list)
	}
	if len(w.cold) == 0 {
		return nil
	}
	bench, err := w.status(ctx)
	if err != nil || bench.Mode != nexus.BenchOpen || bench.Used+bench.Waiting > 0 {
		return err
	}
	if mine, err := w.store.Turn(ctx, "warming:"+w.name, warmEvery); err != nil || !mine {
		return err
	}
	for len(w.cold) > 0 {
		next := w.cold[0]
		w.cold = w.cold[1:]
		if mine, err := w.store.Turn(ctx, "warm:"+string(next.Job), warmAgain); err != nil || mine {
			if err == nil {
				err = w.warm(ctx, next)
			}
			return err
		}
	}
	return nil
}

// coldOf are the standbys that may be warmed. The oldest come first, since signups take them
// first, but the very next one of each shelf last: it may be claimed at any moment.
func coldOf(all []nexus.Standby) []nexus.Standby {
	all = slices.SortedFunc(slices.Values(all), func(a, b nexus.Standby) int { return a.MadeAt.Compare(b.MadeAt) })
	var cold, next []nexus.Standby
	seen := map[string]bool{}
	for _, s := range all {
		if s.Problem != "" {
			continue
		}
		key := s.Spec.Key(s.Apps)
		switch {
		case s.Warm:
		case seen[key]:
			cold = append(cold, s)
		default:
			next = append(next, s)
		}
		seen[key] = true
	}
	return append(cold, next...)
}

// warm warms a standby, unless a job takes it or it is gone.
func (w *warmer) warm(ctx context.Context, s nexus.Standby) error {
	limited, cancel := context.WithTimeout(ctx, warmTakes)
	defer cancel()
	result, err := w.bench.Run(limited, nexus.Op{Site: s.Name, Room: nexus.RoomStandby, DB: s.DB, Owner: s.Job, Args: nexus.Warm{}})
	switch nexus.CodeOf(err) {
	case nexus.Conflict, nexus.NotFound:
		return nil
	case "":
		if result.Changed {
			w.warmed.Inc()
		}
		return nil
	}
	if there, e := w.onShelf(ctx, s.Job); e == nil && !there { // its claim has ended the warm-up
		return nil
	}
	return fmt.Errorf("%s: %w", s.Name, err)
}

// onShelf tells whether a signup may take a standby.
func (w *warmer) onShelf(ctx context.Context, id nexus.JobID) (bool, error) {
	shelves, err := w.store.Shelves(ctx, w.name)
	return slices.ContainsFunc(shelves, func(shelf nexus.Shelf) bool {
		return slices.ContainsFunc(shelf.Standbys, func(s nexus.ShelfStandby) bool { return s.Job == id && s.State == nexus.StandbyShelved })
	}), err
}
