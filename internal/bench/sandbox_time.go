package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// With SandboxOptions.Delay, a copy and what follows for a standby take a cloneSpeed-th of it,
// and a claim a claimSpeed-th.
const (
	cloneSpeed = 20
	claimSpeed = 100
)

// realTime is how long an operation takes on a real bench.
type realTime struct {
	usual time.Duration
	short time.Duration // where isShort says so; zero: usual
}

// realTimes are the times of a real bench, by operation. An operation that is not here takes
// none: it only looks at the bench or stops something there, or only operators need it.
//
// Most are the medians in docs/PERFORMANCE.md, measured with Frappe 15.72 and ERPNext 15.71 on
// two cores: on 2026-11-29 the site that is new or copied, the app, and the user that Frappe's
// API makes; on 2026-11-30 the steps of a site from a standby. On the same machine set_up,
// drop_site, and the parts of freeze (a scan of all columns, a user) were measured on
// 2026-11-23, warm on 2026-11-29. Shelve, and mark of a site that is closed, are estimates.
var realTimes = map[nexus.OpName]realTime{
	nexus.OpClaim:      {usual: 23 * time.Millisecond},
	nexus.OpClone:      {usual: 1460 * time.Millisecond},
	nexus.OpNewSite:    {usual: 17 * time.Second},
	nexus.OpInstallApp: {usual: 41 * time.Second, short: 13 * time.Millisecond}, // ERPNext; no other app was measured
	nexus.OpSetUp:      {usual: 24 * time.Second},
	nexus.OpFreeze:     {usual: 2 * time.Second},
	nexus.OpShelve:     {usual: 600 * time.Millisecond},
	nexus.OpWarm:       {usual: time.Second},
	nexus.OpCompany:    {usual: 30 * time.Millisecond},
	nexus.OpEnsureUser: {usual: 700 * time.Millisecond, short: 31 * time.Millisecond},
	nexus.OpApplyPlan:  {usual: 12 * time.Millisecond},
	nexus.OpIssueKey:   {usual: 10 * time.Millisecond},
	nexus.OpVerify:     {usual: 40 * time.Millisecond},
	nexus.OpMark:       {usual: 100 * time.Millisecond, short: 10 * time.Millisecond},
	nexus.OpDropSite:   {usual: time.Second},
}

// isShort reports whether a real bench has less to do than usual. Site is the operation's, for
// those that work on a complete one.
func (s *Sandbox) isShort(op nexus.Op, site *siteState) bool {
	switch args := op.Args.(type) {
	case nexus.InstallApp: // there is nothing to install
		return s.o.Apps[args.App] == "" || slices.Contains(site.Apps, args.App)
	case nexus.EnsureUser: // a copy has a user of its template, who gets another name
		return site.Copy
	case nexus.Mark: // the site is opened
		return args.State == nexus.TenantActive
	}
	return false
}

// delay is the time that an operation takes. Site is nil unless it works on a complete site.
func (s *Sandbox) delay(op nexus.Op, site *siteState) time.Duration {
	delay := s.o.Delay
	switch name := op.Args.Op(); {
	case s.o.Real:
		its := realTimes[name]
		delay = its.usual
		if its.short > 0 && s.isShort(op, site) {
			delay = its.short
		}
	case name == nexus.OpClone, name == nexus.OpShelve, name == nexus.OpWarm:
		delay /= cloneSpeed
	case name == nexus.OpClaim:
		delay /= claimSpeed
	case name == nexus.OpVerify:
		delay = 0
	}
	if faultOp(op) == nexus.OpNewSite && local(op.Email) == "slow-site" {
		delay += 5 * time.Second
	}
	return delay
}

// pause waits for the time that an operation takes, and reports progress: four times, or with
// Real once a second.
func (s *Sandbox) pause(ctx context.Context, op nexus.Op, delay time.Duration) error {
	if delay <= 0 {
		return nil
	}
	parts, tell := 4, op.Progress
	if s.o.Real {
		parts = max(1, int(delay/time.Second))
		if delay < time.Second {
			tell = nil
		}
	}
	for part := range parts {
		if tell != nil {
			tell(fmt.Sprintf("Working on %s", op.Site), part*100/parts)
		}
		timer := time.NewTimer(delay / time.Duration(parts))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ended(ctx, op)
		}
	}
	return nil
}
