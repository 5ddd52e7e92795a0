package main

import (
	"context"
	"io"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// patience is how long an API may be away before a wait for a job is given up;
// a restart takes seconds.
const patience = time.Minute

// followJob shows a job until it is over; it lives through a restart of the API.
// When the context ends or the API stays away, the error says that the job goes on.
func followJob(ctx context.Context, c *client.Client, id string, progress io.Writer) (gen.Job, error) {
	w := newWatcher(progress)
	defer w.end()
	return follow(ctx, c, id, w)
}

func follow(ctx context.Context, c *client.Client, id string, w watcher) (job gen.Job, err error) {
	known, heard := `"0"`, time.Now() // no job has this ETag: the first answer comes at once
	for {
		now, etag, changed, err := c.Job(ctx, id, known, 20*time.Second)
		switch {
		case ctx.Err() != nil:
			return job, interrupted{job: id}
		case nexus.CodeOf(err) == nexus.Unavailable:
			if time.Since(heard) > patience {
				return job, interrupted{job: id, again: "The API has not answered for a minute."}
			}
			w.say("… no answer from the API; asking again")
			if pause(ctx, 2*time.Second) != nil {
				return job, interrupted{job: id}
			}
			continue
		case err != nil:
			return job, err
		}
		if heard = time.Now(); !changed {
			continue
		}
		job, known = now, etag
		if w.show(job); over(job.State) {
			return job, nil
		}
	}
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
