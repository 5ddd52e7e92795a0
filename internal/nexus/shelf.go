package nexus

import (
	"math"
	"strings"
	"time"
)

// Shelf is what the registry knows of the standbys of one bench and one key of templates.
type Shelf struct {
	Bench    string
	Key      string         // TemplateSpec.Key
	Standbys []ShelfStandby // oldest state first
	Kept     bool           // a worker keeps it
	Target   int            // how many it is to hold, as a worker computed it last
	Demand   Demand

	Hits    int64 // signups that got a standby
	Misses  int64 // signups that asked for one and found none
	Detours int64 // signups whose standby could not be used, since bench and registry were compared

	Failures int       // jobs in a row that failed to make one
	FailedAt time.Time // of the last of them; zero: none failed
	EmptyAt  time.Time // since when there is none on the shelf; zero: there is one
	Now      time.Time // of Redis' clock, when this was read

	Drained bool      // an operator wants none
	AtLeast int       // an operator wants this many, until Until
	Until   time.Time // zero: no operator asked for more
}

// Spec says what sites the templates of the shelf are for.
func (s Shelf) Spec() TemplateSpec {
	spec, _, _ := strings.Cut(s.Key, " ")
	return TemplateSpec(spec)
}

// Apps are the apps of the templates, as a signup's Spec lists them.
func (s Shelf) Apps() []string { return strings.Fields(s.Key)[1:] }

// ShelfStandby is one standby in the registry.
type ShelfStandby struct {
	Job      JobID // that made it
	DB       string
	Template SiteName
	State    StandbyState
	At       time.Time // of its last change of state
	Taker    JobID     // the job that has popped it; empty: none
}

// StandbyState is the state of a standby in the registry. The text is stored.
type StandbyState string

// The states of a standby. One that is gone has no row.
const (
	StandbyMaking  StandbyState = "making"
	StandbyShelved StandbyState = "shelved" // a signup may take it
	StandbyPopped  StandbyState = "popped"  // a job has taken it
	StandbyReaping StandbyState = "reaping" // no job may take it any more; it is dropped next
)

// Count is the number of standbys of a shelf in a state.
func (s Shelf) Count(state StandbyState) (n int) {
	for _, each := range s.Standbys {
		if each.State == state {
			n++
		}
	}
	return n
}

// Demand is what the size of a shelf is computed from.
type Demand struct {
	Hour    float64       // signups, each weighted by exp(-age/1 h): at a steady rate, those of an hour
	Minutes float64       // the same by five minutes
	Build   time.Duration // that one standby takes; zero: not known
}

// Decayed is the demand some time after its two counts were written.
func (d Demand) Decayed(hour, minutes float64, passed time.Duration) Demand {
	passed = max(passed, 0)
	d.Hour, d.Minutes = hour*math.Exp(-passed.Hours()), minutes*math.Exp(-passed.Minutes()/5)
	return d
}
