package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// teardown removes a tenant for good. It cannot be undone: if it cannot be finished in
// time, it is parked until an operator resumes it.
func teardown() Process {
	return Process{Kind: nexus.KindTeardown, Steps: []Step{
		{Name: "suspend", Do: closeForRemoval, Timeout: 30 * time.Second, Attempts: Forever},
		{Name: "drop", Do: dropSite, Timeout: 5 * time.Minute, Attempts: Forever},
		{Name: "forget", Do: forget, Timeout: 30 * time.Second, Attempts: Forever},
	}}
}

// closeForRemoval closes the site, so that nobody writes into it while it is dropped.
func closeForRemoval(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Mark{State: nexus.TenantDeleting})
	if nexus.CodeOf(err) == nexus.NotFound { // an earlier attempt dropped it
		return nil
	}
	return err
}

// forget checks that nothing is left. The end of the job then deletes the tenant's row.
func forget(ctx context.Context, k *Kit) error {
	result, err := k.Run(ctx, nexus.Inspect{})
	if err != nil {
		return err
	}
	if site := result.Site; site != nil && site.Job == k.Job.Owner && (site.Folder || site.Database) {
		return &nexus.Error{Code: nexus.Unavailable, Op: "tasks.forget", Msg: "A part of the site is still there.",
			Err: fmt.Errorf("folder %t, database %t", site.Folder, site.Database)}
	}
	return nil
}
