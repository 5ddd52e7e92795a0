package app

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// How often a worker asks its bench what it knows and lacks; and after it could not.
const askEvery, askAgain = 10 * time.Minute, 30 * time.Second

// askBench asks the bench what it is, until the context ends. Its lists of countries,
// languages and the like go into the registry, for the API to hold signups against;
// what it lacks goes into the log.
func (a *app) askBench(ctx context.Context, memory *store.Store, hands nexus.Bench) error {
	if a.c.single() { // a single site tells nothing of the kind
		return nil
	}
	t := tools{bench: hands, name: a.c.benchName(), store: memory}
	var last []nexus.Problem
	for warned := false; ; {
		next := askEvery
		hello, err := t.askBench(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "bench not asked what it knows", nexus.LogErr, err)
			next = askAgain
		}
		if hello != nil {
			a.logProblems(ctx, last, hello.Problems)
			last = hello.Problems
			if k := hello.Knows; !warned && k != nil && len(k.TimeZones) > 0 && !slices.Contains(k.TimeZones, a.c.TimeZone) {
				warned = true
				a.log.WarnContext(ctx, "the bench does not know the time zone in NEXUS_TIME_ZONE, and takes UTC", "zone", a.c.TimeZone)
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

// askBench returns what the bench says of itself, nil if it says nothing, and puts its
// lists into the registry.
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

// logProblems writes those of the bench's problems that were not there the last time.
func (a *app) logProblems(ctx context.Context, last, now []nexus.Problem) {
	for _, p := range now {
		if !slices.Contains(last, p) {
			a.log.WarnContext(ctx, "bench has a problem", "what", p.What, "mend", p.Mend)
		}
	}
}
