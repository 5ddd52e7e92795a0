package tasks

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// suspend closes a tenant's site and removes nothing. It stays closed until it is restored,
// or purged at the end of its grace period.
func suspend() Process {
	return Process{Kind: nexus.KindSuspend, Steps: []Step{
		{Name: "close", Do: closeSite, Undo: undone(openSite), Timeout: 30 * time.Second, Attempts: Forever},
	}}
}

// restore opens a suspended tenant's site again.
func restore() Process {
	return Process{Kind: nexus.KindRestore, Steps: []Step{
		{Name: "open", Do: openSite, Undo: undone(closeSite), Timeout: 30 * time.Second, Attempts: Forever},
	}}
}

// undone makes an Undo of a function. It ignores not_found and conflict: a site that is
// gone, or is somebody else's, needs no undo.
func undone(do func(context.Context, *Kit) error) func(context.Context, *Kit) error {
	return func(ctx context.Context, k *Kit) error {
		err := do(ctx, k)
		if code := nexus.CodeOf(err); code == nexus.NotFound || code == nexus.Conflict && !nexus.IsOutdated(err) {
			return nil
		}
		return err
	}
}

func closeSite(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Mark{State: nexus.TenantSuspended})
	return err
}

func openSite(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Mark{State: nexus.TenantActive})
	return err
}
