package tasks

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// rotateKey gives the tenant's admin a new key and secret; the old pair stops working at
// once. It cannot be undone: nobody knows the old secret.
func rotateKey() Process {
	return Process{Kind: nexus.KindRotateKey, Steps: []Step{
		{Name: "api_key", Do: issueKey, Seal: newPair, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "verify", Do: verifyExisting, Seal: newPair, Timeout: 15 * time.Second, Attempts: Forever},
	}}
}

// verifyExisting verifies a site that this job did not make. It reads a list that every
// user may read, since the site's apps and the admin's roles may differ from a new site's.
func verifyExisting(ctx context.Context, k *Kit) error { return verifyList(ctx, k, "ToDo") }
