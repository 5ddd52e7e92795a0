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

// patience is how long an API may be away before a wait for a job is given up;
// a restart takes seconds.
const patience = time.Minute

// followJob shows a job until it is over; it lives through a restart of the API.
// When the context ends, the API stays away or no worker runs, the error says what
// becomes of the job.
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
	endless bool // wait for a worker, however long none runs
	idle    app.Idle
}

func (f *following) run(ctx context.Context) (job gen.Job, err error) {
	known, heard := `"0"`, time.Now() // no job has this ETag: the first answer comes at once
	for {
		now, etag, changed, err := f.c.Job(ctx, f.id, known, app.IdleLook)
		switch {
		case ctx.Err() != nil:
			return job, f.stopped(ctx)
		case nexus.CodeOf(err) == nexus.Unavailable:
			if time.Since(heard) > patience {
				return job, interrupted{job: f.id, again: "The API has not answered for a minute."}
			}
			f.w.say("… no answer from the API; asking again")
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

// noWorker tells whether no worker has been running for so long that the wait is over.
// It prints a line the first time that none runs.
func (f *following) noWorker(ctx context.Context) bool {
	count, known := f.c.Workers(ctx)
	first, over := f.idle.See(count, known, time.Now())
	if first {
		f.w.say("… no worker is running; start one with: worker")
	}
	return over
}

// stopped is the end of a wait by its context: it says too if no worker runs.
func (f *following) stopped(ctx context.Context) error {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	count, known := f.c.Workers(short)
	return interrupted{job: f.id, idle: known && count == 0}
}

// finish follows a job to its end, which must be a success.
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
