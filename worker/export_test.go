package worker

import "context"

// Abandon is what Serve does at the drain's limit.
func (e *Engine) Abandon(ctx context.Context) { e.abandon(ctx) }
