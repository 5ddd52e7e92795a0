package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// How often a wait looks whether workers run, and how long none may run until it is
// given up. A deploy takes seconds.
const (
	idleLook   = 5 * time.Second
	idlePeriod = 15 * time.Second
)

// Unfinished is a wait that ended before its job: the job is recorded and goes on.
type Unfinished struct {
	Job  nexus.JobID
	Idle bool // no worker runs
}

func (e Unfinished) Error() string { return fmt.Sprintf("the wait for the job %s was ended", e.Job) }

var errIdle = errors.New("no worker runs")

// ended waits for the end of a job, as long as workers run.
func (t tools) ended(ctx context.Context, id nexus.JobID) (nexus.Job, error) {
	watch, stop := context.WithCancelCause(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { t.stopIfIdle(watch, stop) })
	defer looks.Wait()
	defer stop(nil)
	job, err := t.store.Watch(watch, id, -1)
	switch {
	case err != nil:
		return job, err
	case job.State.Terminal() || job.State == nexus.RollbackFailed:
		return job, nil
	}
	return job, Unfinished{Job: id, Idle: errors.Is(context.Cause(watch), errIdle) || t.idle(ctx)}
}

// stopIfIdle ends a wait once no worker has been running for idlePeriod.
func (t tools) stopIfIdle(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(idleLook)
	defer tick.Stop()
	for since := time.Duration(0); since < idlePeriod; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if since += idleLook; !t.idle(ctx) {
			since = 0
		}
	}
	stop(errIdle)
}

// idle tells whether no worker runs, for certain.
func (t tools) idle(ctx context.Context) bool {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	count, err := t.store.Workers(short)
	return err == nil && count == 0
}
