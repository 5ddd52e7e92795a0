package tasks

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// rotateKey gives the tenant's admin a fresh key and secret; the old pair is dead
// at once. It has no way back: the old secret is known to nobody.
func rotateKey() Process {
	return Process{Kind: nexus.KindRotateKey, Steps: []Step{
		{Name: "api_key", Do: issueKey, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "verify", Do: verifyFound, Timeout: 15 * time.Second, Attempts: Forever},
	}}
}

// verifyFound asks a site that was there before for a list that every user of it
// may read: its apps and its admin's roles may be others than new sites get.
func verifyFound(ctx context.Context, k *Kit) error { return verifyList(ctx, k, "ToDo") }
