package main

import (
	"context"
	"io"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// patience is how long the API may not answer until a wait for a job is given up. A
// restart takes seconds.
const patience = time.Minute

// followJob shows a job until it is over, also through a restart of the API. If the context
// ends, the API does not answer or no worker runs, the error is an interrupted.
func followJob(ctx context.Context, c *client.Client, id string, progress io.Writer) (gen.Job, error) {
	w := newWatcher(progress)
	defer w.end()
	return follow(ctx, c, id, w)
}

func follow(ctx context.Context, c *client.Client, id string, w watcher) (gen.Job, error) {
	f := following{c: c, id: id, w: w}
	return f.run(ctx)
}

// following is the wait for the end of one job.
type following struct {
	c       *client.Client
	id      string
	w       watcher
	endless bool // wait also while no worker runs
	idle    app.Idle
}

func (f *following) run(ctx context.Context) (job gen.Job, err error) {
	known, heard := `"0"`, time.Now() // no job has this ETag, so the first answer comes at once
	for {
		now, etag, changed, err := f.c.Job(ctx, f.id, known, app.IdleLook)
		switch {
		case ctx.Err() != nil:
			return job, f.stopped(ctx)
		case nexus.CodeOf(err) == nexus.Unavailable:
			if time.Since(heard) > patience {
				return job, interrupted{job: f.id, again: "The API has not answered for a minute."}
			}
			f.w.say("… no answer from the API; trying again")
			if pause(ctx, 2*time.Second) != nil {
				return job, interrupted{job: f.id}
			}
			continue
		case err != nil:
			return job, err
		}
		heard = time.Now()
		if !changed {
			if f.noWorker(ctx) && !f.endless {
				return job, interrupted{job: f.id, idle: true}
			}
			continue
		}
		job, known = now, etag
		if f.w.show(job); over(job.State) {
			return job, nil
		}
	}
}

// noWorker reports whether no worker has been running for so long that the wait is over. It
// prints a line the first time that none runs.
func (f *following) noWorker(ctx context.Context) bool {
	count, known := f.c.Workers(ctx)
	first, over := f.idle.See(count, known, time.Now())
	if first {
		f.w.say("… no worker is running; start one with: worker")
	}
	return over
}

// stopped is the error of a wait whose context ended.
func (f *following) stopped(ctx context.Context) error {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	count, known := f.c.Workers(short)
	return interrupted{job: f.id, idle: known && count == 0}
}

// finish follows a job to its end. It is an error if the job does not succeed.
func finish(ctx context.Context, c *client.Client, id string, progress io.Writer) (gen.Job, error) {
	job, err := followJob(ctx, c, id, progress)
	if err == nil && job.State != gen.StateSucceeded {
		err = failedJob{job}
	}
	return job, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
