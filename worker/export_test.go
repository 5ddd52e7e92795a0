package worker

import (
	"context"

	"github.com/nexus-erp/provisioner/internal/store"
)

// Abandon does what Serve does at the drain's limit.
func (e *Engine) Abandon(ctx context.Context) { e.abandon(ctx) }

// Purge handles a tenant whose purge date has come.
func (e *Engine) Purge(ctx context.Context, p store.Purge) { e.purge(ctx, p) }
