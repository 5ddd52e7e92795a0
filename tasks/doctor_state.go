package tasks

import (
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// newer tells which of a tenant's two records was settled later, by the fencing
// tokens of the jobs that did it: those only grow, whatever backup was restored.
type newer int

const (
	notKnown      newer = iota
	registryNewer       // the site was restored from a backup, or its config edited
	benchNewer          // Redis was restored from a backup
)

// newerOf compares; equal tokens prove nothing where the states differ.
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

// stateAct is what may be done unasked about the two states of one tenant.
type stateAct string

const (
	stateAgree stateAct = ""
	stateAsk   stateAct = "ask"   // an operator has to say whether the tenant is open or closed
	stateOpen  stateAct = "open"  // the bench follows the registry
	stateGrace stateAct = "grace" // closed on both sides; the purge date is in doubt and begins anew
)

// stateOf is the whole table of a tenant's state in the registry (active or
// suspended), its state on the bench, and which of the two is newer. What is open on
// the bench is never closed unasked, and what is closed there is opened only where
// the registry is newer for certain.
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

// states holds the two states of a tenant against each other.
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
		f.Mend = "nexus doctor --fix leaves it closed, and its grace begins anew."
		if site.State == string(t.State) {
			f.What = fmt.Sprintf("%s was suspended on the bench later than the registry knows%s.", t.Site, purgeWords(t))
		}
	default:
		f.Mend = fmt.Sprintf("Find out which is right. If it shall be open: nexus doctor --open %[1]s. If it shall be closed: nexus doctor --close %[1]s (a new grace begins).", t.Site)
	}
	d.add(f)
}

func purgeWords(t nexus.Tenant) string {
	if t.State != nexus.TenantSuspended || t.PurgeAt.IsZero() {
		return ""
	}
	return " (to be purged at " + t.PurgeAt.Format(time.RFC3339) + ")"
}

// Purge is what may become of a tenant whose purge date has come.
type Purge string

// The answers of PurgeOf.
const (
	PurgeNow   Purge = "now"
	PurgeLater Purge = "later" // closed on the bench later than the registry knows: a new grace
	PurgeHold  Purge = "hold"  // not closed on the bench: an operator has to say what is right
)

// PurgeOf decides on a purge by the bench's own record of the site; nil: there is
// none. A registry that was restored from a backup may have forgotten that the
// tenant was restored since, or suspended anew.
func PurgeOf(t nexus.Tenant, site *nexus.SiteInfo) Purge {
	switch {
	case site == nil || site.State == "":
		return PurgeNow // what is left of it, if anything, is closed
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
