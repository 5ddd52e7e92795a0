package tasks

import (
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// newer says whether the registry or the bench has the later state of a tenant. It
// compares the tokens of the jobs that set the states; tokens only grow, also when a
// backup is restored.
type newer int

const (
	notKnown      newer = iota
	registryNewer       // the site was restored from a backup, or its config edited
	benchNewer          // Redis was restored from a backup
)

// newerOf compares the tokens. Equal tokens with different states are notKnown.
func newerOf(t nexus.Tenant, site nexus.SiteInfo) newer {
	switch {
	case site.StateGen <= 0:
		return notKnown
	case site.StateGen > t.StateGen:
		return benchNewer
	case site.StateGen < t.StateGen:
		return registryNewer
	}
	return notKnown
}

// stateAct is what nexus doctor --fix may do about the two states of a tenant.
type stateAct string

const (
	stateAgree stateAct = ""      // nothing: they agree
	stateAsk   stateAct = "ask"   // nothing: an operator has to say whether the tenant is open or closed
	stateOpen  stateAct = "open"  // open the site on the bench
	stateGrace stateAct = "grace" // leave it closed, and set a new purge date
)

// stateOf decides by the state in the registry (active or suspended), the state on the
// bench, and which of the two is newer. A site that is open on the bench is never closed
// without an operator's word. One that is closed there is opened only if the registry is
// newer for certain.
func stateOf(registry nexus.TenantState, bench string, which newer) stateAct {
	open, closed := nexus.TenantActive, nexus.TenantSuspended
	switch is := nexus.TenantState(bench); {
	case registry == open && is == open:
		return stateAgree
	case registry == open && (is == closed || is == nexus.TenantMaking) && which == registryNewer:
		return stateOpen
	case registry == closed && is == closed && which != benchNewer:
		return stateAgree
	case registry == closed && (is == closed || is == nexus.TenantDeleting):
		return stateGrace // a removal that the registry forgot may have begun
	}
	return stateAsk
}

// states compares the two states of a tenant.
func (d *diagnosis) states(t nexus.Tenant, site nexus.SiteInfo) {
	act := stateOf(t.State, site.State, newerOf(t, site))
	f := Finding{Kind: OtherState, Site: t.Site, DB: t.DB, Job: t.MadeBy, State: t.State, PurgeAt: t.PurgeAt,
		What: fmt.Sprintf("%s is %s in the registry%s, and %s on the bench%s.", t.Site, t.State, purgeWords(t), site.State,
			map[newer]string{benchNewer: ", which is newer", registryNewer: ", which is older"}[newerOf(t, site)])}
	switch act {
	case stateAgree:
		return
	case stateOpen:
		f.Safe, f.Want = true, nexus.TenantActive
		f.Mend = "nexus doctor --fix opens it on the bench too."
	case stateGrace:
		f.Safe, f.Want = true, nexus.TenantSuspended
		f.Mend = "nexus doctor --fix leaves it closed and begins a new grace period."
		if site.State == string(t.State) {
			f.What = fmt.Sprintf("%s was suspended on the bench later than the registry knows%s.", t.Site, purgeWords(t))
		}
	default:
		f.Mend = fmt.Sprintf("Find out which is right. To open it: nexus doctor --open %[1]s. To close it, with a new grace period: nexus doctor --close %[1]s", t.Site)
	}
	d.add(f)
}

func purgeWords(t nexus.Tenant) string {
	if t.State != nexus.TenantSuspended || t.PurgeAt.IsZero() {
		return ""
	}
	return " (to be purged at " + t.PurgeAt.Format(time.RFC3339) + ")"
}

// Purge says what to do with a tenant whose purge date has passed.
type Purge string

// The answers of PurgeOf.
const (
	PurgeNow   Purge = "now"
	PurgeLater Purge = "later" // it was suspended again later: begin a new grace period
	PurgeHold  Purge = "hold"  // it is not closed on the bench: an operator has to decide
)

// PurgeOf decides on a purge by the site's marker on the bench; nil: there is no site. A
// registry that was restored from a backup does not know whether the tenant was opened or
// suspended again since.
func PurgeOf(t nexus.Tenant, site *nexus.SiteInfo) Purge {
	switch {
	case site == nil || site.State == "":
		return PurgeNow // nothing is served
	case site.Job != t.MadeBy:
		return PurgeHold
	}
	switch which := newerOf(t, *site); stateOf(nexus.TenantSuspended, site.State, which) {
	case stateAgree:
		return PurgeNow
	case stateGrace:
		if which != benchNewer {
			return PurgeNow // a removal had begun
		}
		return PurgeLater
	}
	return PurgeHold
}
