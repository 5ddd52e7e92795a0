package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

const (
	tickEvery   = 250 * time.Millisecond
	clockAtMost = 200 * time.Millisecond
	afterOutage = store.LeaseTime
	clockEvery  = 10 * time.Second
)

// Reconcile reads the due index until the context ends. The due index is the only timer of
// the system; all workers read it, and each entry goes to one of them. After a failed
// read no job is rescued for one lease time, since leases that expired while Redis was
// away belong to live workers.
func (e *Engine) Reconcile(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	// A start counts as an outage: after a restart of Redis the other workers must be able
	// to renew first.
	calm := e.Now().Add(afterOutage)
	clock := time.Time{} // when it was last compared
	// Purges call the bench, which may hang, so they run beside the reading. A purge that
	// finds the channel full is due again in a minute.
	purges := make(chan store.Purge, 50)
	var purging sync.WaitGroup
	defer purging.Wait()
	defer close(purges)
	purging.Go(func() {
		for p := range purges {
			e.purge(ctx, p)
		}
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if e.Now().Sub(clock) > clockEvery && e.checkClock(ctx) {
			clock = e.Now()
		}
		if err := e.tick(ctx, !e.Now().Before(calm), purges); err != nil && ctx.Err() == nil {
			calm = e.Now().Add(afterOutage)
			e.Metrics.skips.Inc()
			e.repeats.Log(ctx, e.Log, slog.LevelWarn, "tick", "due index not read", nexus.LogErr, err)
		}
	}
}

// The states of an engine's clock.
const (
	clockUnknown = iota // not compared yet
	clockRight
	clockWrong // further from Redis' clock than store.MaxSkew
)

func (e *Engine) skewed() bool { return e.clock.Load() == clockWrong }

// checkClock compares this machine's clock with Redis' clock. While it is far off the
// worker takes no jobs, since it would end them too early. False: Redis did not answer,
// which the tick reports.
func (e *Engine) checkClock(ctx context.Context) bool {
	one, cancel := context.WithTimeout(ctx, clockAtMost)
	defer cancel()
	skew, err := e.Store.Skew(one)
	if err != nil {
		return false
	}
	e.Metrics.skew.Set(skew.Seconds())
	is := int32(clockRight)
	if skew.Abs() > store.MaxSkew {
		is = clockWrong
	}
	was := e.clock.Swap(is)
	if was == is {
		return true
	}
	if is == clockWrong || was == clockWrong {
		e.Log.ErrorContext(ctx, "clock compared with the registry's", "off", is == clockWrong, "skew", skew.String())
	}
	select {
	case e.turned <- struct{}{}:
	default: // a signal is pending; the waiter checks the clock anyway
	}
	return true
}

func (e *Engine) tick(ctx context.Context, rescue bool, purges chan<- store.Purge) error {
	found, err := e.Store.Tick(ctx, rescue)
	if found.Late != nil {
		e.repeats.Log(ctx, e.Log, slog.LevelWarn, "late", "due jobs not delivered yet", nexus.LogErr, found.Late)
	}
	for _, id := range found.Rescued {
		e.Metrics.rescued.Inc()
		e.Log.WarnContext(ctx, "lease expired, job rescued", nexus.LogJob, string(id))
	}
	for _, p := range found.Purges {
		select {
		case purges <- p:
		default:
		}
	}
	return err
}
