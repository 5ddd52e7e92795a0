package app

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// How often a worker asks its bench for its lists and problems, and how soon again after
// a failure.
const askEvery, askAgain = 10 * time.Minute, 30 * time.Second

// askBench asks the bench for its lists and problems, until the context ends. The lists of
// countries, languages and so on are written to the registry, where the API reads them to
// check signups. The problems are logged.
func (a *app) askBench(ctx context.Context, st *store.Store, driver nexus.Bench) error {
	if a.c.single() { // the master site has no such lists
		return nil
	}
	t := tools{bench: driver, name: a.c.benchName(), store: st}
	var last []nexus.Problem
	for warned := false; ; {
		next := askEvery
		hello, err := t.askBench(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "lists and problems of the bench not read", nexus.LogErr, err)
			next = askAgain
		}
		if hello != nil {
			a.logProblems(ctx, last, hello.Problems)
			last = hello.Problems
			if k := hello.Knows; !warned && k != nil && len(k.TimeZones) > 0 && !slices.Contains(k.TimeZones, a.c.TimeZone) {
				warned = true
				a.log.WarnContext(ctx, "the bench does not know the time zone in NEXUS_TIME_ZONE, so its sites get UTC", "zone", a.c.TimeZone)
			}
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// askBench returns the result of Hello, nil if there is none, and writes the lists to the
// registry.
func (t tools) askBench(ctx context.Context) (*nexus.HelloResult, error) {
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	hello, err := t.hello(short)
	if err != nil {
		return nil, err
	}
	if hello.Knows != nil {
		err = t.store.SetKnows(short, t.name, *hello.Knows)
	}
	return &hello, err
}

// logProblems logs the problems that the bench did not have the last time.
func (a *app) logProblems(ctx context.Context, last, now []nexus.Problem) {
	for _, p := range now {
		if !slices.Contains(last, p) {
			a.log.WarnContext(ctx, "bench has a problem", "what", p.What, "mend", p.Mend)
		}
	}
}
