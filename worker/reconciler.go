package worker

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

const (
	tickEvery   = 250 * time.Millisecond
	tickAtMost  = 200 * time.Millisecond
	afterOutage = store.LeaseTime
)

// Reconcile looks at the due index until the context ends: the only timer of
// the system. Every worker does it; each entry has one looker. After a failed
// look nothing is rescued for one lease time: leases that ran out while Redis
// was away belong to workers that live.
func (e *Engine) Reconcile(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	// A start is like an outage: who comes after a restart of Redis must let the
	// others renew first.
	calm := e.Now().Add(afterOutage)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := e.tick(ctx, !e.Now().Before(calm)); err != nil && ctx.Err() == nil {
			calm = e.Now().Add(afterOutage)
			e.Metrics.skips.Inc()
			e.Log.WarnContext(ctx, "due index not read", nexus.LogErr, err)
		}
	}
}

func (e *Engine) tick(ctx context.Context, rescue bool) error {
	one, cancel := context.WithTimeout(ctx, tickAtMost)
	defer cancel()
	rescued, err := e.Store.Tick(one, rescue)
	for _, id := range rescued {
		e.Metrics.rescued.Inc()
		e.Log.WarnContext(ctx, "lease expired, job rescued", nexus.LogJob, string(id))
	}
	return err
}
