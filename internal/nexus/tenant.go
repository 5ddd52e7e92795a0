package nexus

import "time"

// SiteName is a tenant's full host name, lower case: acme.example.com.
type SiteName string

// TenantState is where a tenant is in its life; the text is stored.
type TenantState string

// The states of a tenant.
const (
	TenantMaking    TenantState = "making"
	TenantActive    TenantState = "active"
	TenantSuspended TenantState = "suspended"
	TenantDeleting  TenantState = "deleting"
)

// Tenant is the registry's row for one site.
type Tenant struct {
	Site      SiteName
	State     TenantState
	Plan      PlanName
	Email     string
	Bench     string    // empty until reserved
	DB        string    // empty until reserved
	MadeBy    JobID     // the job that made the site; owns its database
	Job       JobID     // the live job on it; empty: none
	PurgeAt   time.Time // when a suspended tenant is removed; zero: never
	StateGen  Gen       // Submitted of the job that last settled State; zero: not known
	CreatedAt time.Time
}

// NameRest is how long the name of a removed tenant rests before anybody may
// have it: old links and password mails must not reach a stranger.
const NameRest = 30 * 24 * time.Hour

// BenchMode says what a bench takes on; the text is stored.
type BenchMode string

// The modes of a bench. Paused begins nothing new, drained does nothing at all;
// both are an operator's. Tripped is the breaker's: like paused, for a time.
const (
	BenchOpen    BenchMode = "open"
	BenchPaused  BenchMode = "paused"
	BenchDrained BenchMode = "drained"
	BenchTripped BenchMode = "tripped"
)

// BenchStatus is how admission to one bench stands.
type BenchStatus struct {
	Name     string
	Mode     BenchMode
	By       string    // who set the mode; empty while open
	Until    time.Time // of a tripped one: when it is tried again
	Step     StepName  // which step last failed, in a row
	Code     Code      // with which code
	Failures int       // of how many jobs in a row
	Slots    int       // operations admitted at once
	Used     int
	Waiting  int // jobs that wait for room
}

// PlanName names a plan; the text is stored.
type PlanName string

// Plan is what a tenant may use. Zero means unlimited.
type Plan struct {
	Name         PlanName
	SelfServe    bool // may be asked for by a signup; others by an operator only
	Users        int
	StorageBytes int64
}

// DefaultPlan is given to a signup that names none.
const DefaultPlan PlanName = "free"

// Plans lists the plans, smallest first.
func Plans() []Plan {
	const gib = 1 << 30
	return []Plan{
		{Name: "free", SelfServe: true, Users: 5, StorageBytes: 1 * gib},
		{Name: "starter", SelfServe: true, Users: 15, StorageBytes: 10 * gib},
		{Name: "business", SelfServe: true, Users: 100, StorageBytes: 100 * gib},
		{Name: "enterprise"},
	}
}

// FindPlan looks a plan up by name.
func FindPlan(name PlanName) (Plan, bool) {
	for _, p := range Plans() {
		if p.Name == name {
			return p, true
		}
	}
	return Plan{}, false
}
