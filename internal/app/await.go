package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// Unfinished is the error of a wait that ended before its job. The job goes on.
type Unfinished struct {
	Job  nexus.JobID
	Idle bool // no worker runs
}

func (e Unfinished) Error() string { return fmt.Sprintf("the wait for the job %s was ended", e.Job) }

var errIdle = errors.New("no worker runs")

// await waits for the end of a job, as long as workers run.
func (t tools) await(ctx context.Context, id nexus.JobID) (nexus.Job, error) {
	watch, stop := context.WithCancelCause(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { t.stopIfIdle(watch, stop) })
	defer looks.Wait()
	defer stop(nil)
	job, err := t.store.Watch(watch, id, -1, store.Patience{})
	switch {
	case err != nil:
		return job, err
	case job.State.Terminal() || job.State == nexus.RollbackFailed:
		return job, nil
	}
	workers, known := t.workers(ctx)
	return job, Unfinished{Job: id, Idle: errors.Is(context.Cause(watch), errIdle) || known && workers == 0}
}

// stopIfIdle ends a wait once no worker has been running for too long.
func (t tools) stopIfIdle(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(IdleLook)
	defer tick.Stop()
	for idle := (Idle{}); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		workers, known := t.workers(ctx)
		if _, over := idle.See(workers, known, time.Now()); over {
			stop(errIdle)
			return
		}
	}
}

// workers counts the workers that take jobs, even when the wait was ended; known is false
// if the store does not answer.
func (t tools) workers(ctx context.Context) (count int, known bool) {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	count, err := t.store.Workers(short)
	return count, err == nil
}
