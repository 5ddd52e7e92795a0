package worker

import (
	"context"

	"github.com/nexus-erp/provisioner/internal/store"
)

// Abandon does what Serve does at the drain's limit.
func (e *Engine) Abandon(ctx context.Context) { e.abandon(ctx) }

// Draining is closed when the engine drains.
func (e *Engine) Draining() <-chan struct{} { return e.draining }

// Purge handles a tenant whose purge date has come.
func (e *Engine) Purge(ctx context.Context, p store.Purge) { e.purge(ctx, p) }
