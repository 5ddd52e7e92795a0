package main

import (
	"context"
	"io"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Some commands make sites and remove them again: test-provisioning, canary, bench measure.

// freshPassword makes up a password for a site that is removed again. It is not shown.
func freshPassword() string { return "Aa1-" + freshToken() }

// cleanupContext is not canceled with ctx, since a cleanup must also run after the end. Its time
// is that of a removal that has to wait for others; without a worker the wait ends earlier.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
}

// remove removes a site at once, also after ctx has ended, and waits until it is gone.
func remove(ctx context.Context, c *client.Client, site string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	job, err := c.Delete(ctx, site, true)
	if err == nil {
		_, err = finish(ctx, c, job.Id, io.Discard)
	}
	return err
}

// abandon cancels the job that makes a site, also after ctx has ended. If the job is over
// meanwhile, it removes what that has made.
func abandon(ctx context.Context, c *client.Client, job, site string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	_, err := c.Cancel(ctx, job, token())
	if nexus.CodeOf(err) != nexus.Conflict {
		return err
	}
	now, _, _, err := c.Job(ctx, job, "", 0)
	switch {
	case err != nil:
		return err
	case now.State == gen.StateSucceeded:
		return remove(ctx, c, site)
	case now.State == gen.StateRollbackFailed:
		return failedJob{now}
	}
	return nil
}
