package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// purgeLook bounds the look at the bench before a purge.
const purgeLook = 2 * time.Second

// purge records the teardown of a tenant whose grace is over, if the site's marker on the
// bench agrees (tasks.PurgeOf), since the registry may have been restored from a backup
// older than the tenant's last change. A purge date in doubt is moved by a whole grace. If
// the bench cannot be asked, or Submit refuses, the tenant is due again in a minute.
func (e *Engine) purge(ctx context.Context, p store.Purge) {
	if ctx.Err() != nil {
		return
	}
	ctx = nexus.WithLog(ctx, slog.String(nexus.LogTenant, string(p.Site)))
	row, err := e.Store.Tenant(ctx, p.Site)
	if err != nil || row.Bench != "" && row.Bench != e.Settings.Bench { // another bench's: its workers look at it
		return
	}
	short, cancel := context.WithTimeout(ctx, purgeLook)
	defer cancel()
	look, err := e.Bench.Run(short, nexus.Op{Site: p.Site, DB: row.DB, Owner: row.MadeBy, Args: nexus.Inspect{}})
	if err != nil {
		e.Log.WarnContext(ctx, "tenant not purged: the bench cannot be asked", nexus.LogErr, err)
		return
	}
	switch tasks.PurgeOf(row, look.Site) {
	case tasks.PurgeHold:
		e.putOff(ctx, row, 0, "its site is open on the bench")
	case tasks.PurgeLater:
		e.putOff(ctx, row, look.Site.StateGen, "its site was suspended anew since")
	default:
		e.submitPurge(ctx, p)
	}
}

// putOff moves a purge date in doubt to a whole grace from now. Gen is the token of the
// suspension, if the bench has a newer one.
func (e *Engine) putOff(ctx context.Context, row nexus.Tenant, gen nexus.Gen, why string) {
	if row.Job != "" { // it says itself what becomes of the tenant
		return
	}
	err := e.Store.Restate(ctx, row, nexus.TenantSuspended, e.Grace, gen)
	e.Log.ErrorContext(ctx, "tenant not purged, its grace begins anew: nexus doctor says more", "why", why, nexus.LogErr, err)
}

// submitPurge records the teardown. Its idempotency key names the purge date, so that one
// of the workers that find it due records it.
func (e *Engine) submitPurge(ctx context.Context, p store.Purge) {
	job, replay, err := e.Store.Submit(ctx, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindTeardown, Site: p.Site, Actor: "purge",
		Steps: tasks.Steps(nexus.KindTeardown), IdempotencyKey: fmt.Sprintf("purge:%s:%s", p.Site, p.At),
		Fingerprints: []string{"purge"}, GiveUpAfter: e.GiveUpAfter, Rest: nexus.NameRest})
	switch {
	case err != nil:
		e.Log.WarnContext(ctx, "tenant not purged yet", nexus.LogErr, err)
	case !replay:
		e.Log.InfoContext(ctx, "grace is over, teardown recorded", nexus.LogJob, string(job.ID))
	}
}
