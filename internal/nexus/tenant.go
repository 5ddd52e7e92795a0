package nexus

import "time"

// SiteName is a tenant's full host name, lower case: acme.example.com.
type SiteName string

// TenantState is the state of a tenant. The text is stored.
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
	MadeBy    JobID     // the job that made or adopted the site
	Job       JobID     // the live job on it; empty: none
	PurgeAt   time.Time // when a suspended tenant is removed; zero: never
	StateGen  Gen       // Submitted of the job that last set State; zero: not known
	CreatedAt time.Time

	Road     Road     // how its site was made; empty: new-site, or by a former version
	Template SiteName // by clone and standby: what it was copied from
}

// NameRest is how long nobody may take the name of a removed tenant, so that its old
// links and mails do not lead to another company's site.
const NameRest = 30 * 24 * time.Hour

// BenchMode says which jobs a bench admits. The text is stored.
type BenchMode string

// The modes of a bench. An operator sets paused, which admits no new signups, and
// drained, which admits no job. The breaker sets tripped: paused for a time.
const (
	BenchOpen    BenchMode = "open"
	BenchPaused  BenchMode = "paused"
	BenchDrained BenchMode = "drained"
	BenchTripped BenchMode = "tripped"
)

// BenchStatus is the state of admission to one bench.
type BenchStatus struct {
	Name     string
	Mode     BenchMode
	By       string    // who set the mode; empty while open
	Until    time.Time // while tripped: when the breaker admits a job again
	Step     StepName  // the step that failed in a row
	Code     Code      // the code with which it failed
	Failures int       // the number of jobs in a row that failed so
	Slots    int       // jobs admitted at once
	Used     int       // slots in use, with those that machine jobs have besides
	Waiting  int       // jobs that wait for a slot
}

// PlanName names a plan; the text is stored.
type PlanName string

// Plan is what a tenant may use. Zero means unlimited.
type Plan struct {
	Name         PlanName
	SelfServe    bool // a signup may choose it; else only an operator may give it
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
