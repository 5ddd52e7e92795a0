package app

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// How often a worker brings what its bench knows into the registry; and after
// it could not.
const knowsEvery, knowsAgain = 10 * time.Minute, 30 * time.Second

// tellKnows puts the bench's lists of countries, languages and the like into the
// registry until the context ends, for the API to hold signups against.
func (a *app) tellKnows(ctx context.Context, memory *store.Store, hands nexus.Bench) error {
	if a.c.single() { // a single site tells none
		return nil
	}
	t := tools{bench: hands, name: a.c.benchName(), store: memory}
	for warned := false; ; {
		next := knowsEvery
		knows, err := t.tellKnows(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "bench not asked what it knows", nexus.LogErr, err)
			next = knowsAgain
		}
		if !warned && len(knows.TimeZones) > 0 && !slices.Contains(knows.TimeZones, a.c.TimeZone) {
			warned = true
			a.log.WarnContext(ctx, "the bench does not know the time zone in NEXUS_TIME_ZONE, and takes UTC", "zone", a.c.TimeZone)
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

func (t tools) tellKnows(ctx context.Context) (nexus.Knows, error) {
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	hello, err := t.hello(short)
	if err != nil || hello.Knows == nil {
		return nexus.Knows{}, err
	}
	return *hello.Knows, t.store.SetKnows(short, t.name, *hello.Knows)
}
