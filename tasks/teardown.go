package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// teardown removes a tenant for good. It has no way back: what cannot be
// removed in time is parked until an operator resumes it.
func teardown() Process {
	return Process{Kind: nexus.KindTeardown, Steps: []Step{
		{Name: "suspend", Do: shut, Timeout: 30 * time.Second, Attempts: Forever},
		{Name: "drop", Do: dropSite, Timeout: 5 * time.Minute, Attempts: Forever},
		{Name: "forget", Do: forget, Timeout: 30 * time.Second, Attempts: Forever},
	}}
}

// shut closes the site, so that nobody writes into what is being dropped.
func shut(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Mark{State: nexus.TenantDeleting})
	if nexus.CodeOf(err) == nexus.NotFound { // an earlier try dropped it
		return nil
	}
	return err
}

// forget looks once more that nothing is left; the end of the job then deletes
// the tenant's row.
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
