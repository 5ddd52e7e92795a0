package tasks

import (
	"cmp"
	"math"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// ShelfLimits bound the size of a shelf.
type ShelfLimits struct {
	Least, Most int
	Bytes       int64 // that the standbys may take on the database's disk
	Each        int64 // that one takes; zero: not known
}

// usualBuild is the time that one standby is thought to take before one was made.
const usualBuild = 5 * time.Second

// Size is how many standbys a shelf is to hold: as many as signups came in the last five
// minutes, for a crowd that comes again, and those that come while one is made, with two
// standard deviations of a Poisson process above their mean. It lies between the limits; of
// Bytes and Least the smaller one counts.
func Size(d nexus.Demand, l ShelfLimits) int {
	perSecond := max(d.Hour/time.Hour.Seconds(), d.Minutes/(5*time.Minute).Seconds(), 0)
	during := perSecond * max(cmp.Or(d.Build, usualBuild), 0).Seconds()
	want := math.Ceil(during + 2*math.Sqrt(during) + max(d.Minutes, 0) - 0.05) // an old signup counts for nothing in the end
	size := max(int(min(want, 1e6)), l.Least)
	if l.Each > 0 {
		size = min(size, int(min(l.Bytes/l.Each, 1e6)))
	}
	return max(min(size, l.Most), 0)
}

const (
	// standbyAge is the age at which a standby is renewed: its caches are cold by then, and
	// its log of the scheduler has no entry for as long.
	standbyAge = 24 * time.Hour
	// makingAtOnce is how many jobs of a shelf wait for a slot or have one. A bench does two
	// at once at most.
	makingAtOnce = 4
)

// ShelfWork is what a worker does about a shelf now.
type ShelfWork struct {
	Make int                  // jobs to submit
	Drop []nexus.ShelfStandby // standbys to drop, of which some are reaping already
}

// ShelfWorkOf decides on a shelf by what the registry has of it. Size is how many standbys it
// is to hold. After jobs that failed in a row it makes none for a while.
func ShelfWorkOf(s nexus.Shelf, size int) (w ShelfWork) {
	if s.AtLeast > size && s.Now.Before(s.Until) {
		size = s.AtLeast
	}
	if s.Drained {
		size = 0
	}
	making, shelved := s.Count(nexus.StandbyMaking), s.Count(nexus.StandbyShelved)
	for _, each := range s.Standbys {
		if each.State == nexus.StandbyReaping || each.State == nexus.StandbyShelved && s.Drained {
			w.Drop = append(w.Drop, each)
		}
	}
	if s.Failures == 0 || s.Now.Sub(s.FailedAt) >= makePause(s.Failures) {
		w.Make = max(min(size-making-shelved, makingAtOnce-making), 0)
	}
	if len(w.Drop) > 0 || making > 0 || w.Make > 0 {
		return w
	}
	for _, each := range s.Standbys { // one at a time: the oldest
		if each.State == nexus.StandbyShelved && s.Now.Sub(each.At) >= standbyAge {
			w.Drop = append(w.Drop, each)
			break
		}
	}
	return w
}

// makePause is how long no standby is made after this many failures in a row.
func makePause(failures int) time.Duration {
	return min(15*time.Second<<min(failures, 10), 30*time.Minute)
}

// CompareShelves compares what the bench lists in RoomStandby with the registry. Reshelve are
// standbys that the registry does not know, as after it was restored. Drop are those that no
// signup can get any more: they have a problem, or are gone from the bench, or their job is
// over without an end for them. Live tells whether a job is not over; what such a job works
// on is left alone.
func CompareShelves(listed []nexus.Standby, shelves []nexus.Shelf, live func(nexus.JobID) bool) (reshelve, drop []nexus.Standby) {
	known, there := map[nexus.JobID]nexus.ShelfStandby{}, map[nexus.JobID]bool{}
	for _, shelf := range shelves {
		for _, each := range shelf.Standbys {
			known[each.Job] = each
		}
	}
	for _, each := range listed {
		there[each.Job] = true
		row, found := known[each.Job]
		switch {
		case !each.Job.Valid() || live(each.Job) || live(row.Taker):
		case each.Problem != "" || found && row.State != nexus.StandbyShelved:
			drop = append(drop, each)
		case !found:
			reshelve = append(reshelve, each)
		}
	}
	for id, row := range known {
		if !there[id] && !live(id) && !live(row.Taker) {
			drop = append(drop, nexus.Standby{Name: nexus.StandbyName(id), Job: id, DB: row.DB, Template: row.Template})
		}
	}
	return reshelve, drop
}
