package tasks

import (
	"math"
	"slices"
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
	hour, minutes, build := count(d.Hour), count(d.Minutes), d.Build
	if build <= 0 {
		build = usualBuild
	}
	during := max(hour/time.Hour.Seconds(), minutes/(5*time.Minute).Seconds()) * build.Seconds()
	want := math.Ceil(during + 2*math.Sqrt(during) + minutes - 0.05) // an old signup counts for nothing in the end
	size := max(int(min(want, 1e6)), l.Least)
	return max(min(size, l.Most, l.Room()), 0)
}

// Room is how many standbys the bytes are enough for.
func (l ShelfLimits) Room() int {
	if l.Each <= 0 {
		return 1e6
	}
	return int(min(l.Bytes/l.Each, 1e6))
}

// count reads a count of signups; what is no count is none.
func count(n float64) float64 {
	if n > 0 { // not NaN
		return n
	}
	return 0
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
// is to hold. After jobs that failed in a row it makes none for a while, and renews none.
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
	if s.Failures > 0 && s.Now.Sub(s.FailedAt) < makePause(s.Failures) {
		return w
	}
	w.Make = max(min(size-making-shelved, makingAtOnce-making), 0)
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
	return min(15*time.Second<<min(max(failures, 0), 10), 30*time.Minute)
}

// CompareShelves compares what the bench lists in RoomStandby with the registry, which has to
// be read first: a standby that is claimed in between would come back. Reshelve are standbys
// that the registry does not know, as after it was restored, or takes for ones that are still
// made. Drop are those that no signup can get any more: they have a problem, or are gone from
// the bench, or their job is over without an end for them. Live tells whether a job is not
// over; what such a job works on is left alone.
func CompareShelves(listed []nexus.Standby, shelves []nexus.Shelf, live func(nexus.JobID) bool) (reshelve, drop []nexus.Standby) {
	known, there, dropped := map[nexus.JobID]nexus.ShelfStandby{}, map[nexus.JobID]bool{}, map[nexus.JobID]bool{}
	busy := func(maker, taker nexus.JobID) bool { return live(maker) || taker != "" && live(taker) }
	for _, shelf := range shelves {
		for _, each := range shelf.Standbys {
			known[each.Job] = each
		}
	}
	for _, each := range listed {
		there[each.Job] = true
		row, found := known[each.Job]
		switch {
		case !each.Job.Valid() || busy(each.Job, row.Taker):
		case each.Problem != "" || row.State == nexus.StandbyPopped || row.State == nexus.StandbyReaping:
			drop, dropped[each.Job] = append(drop, each), true
		case !found || row.State == nexus.StandbyMaking:
			reshelve = append(reshelve, each)
		}
	}
	for _, shelf := range shelves {
		for _, row := range shelf.Standbys {
			if !there[row.Job] && row.Job.Valid() && !busy(row.Job, row.Taker) {
				drop = append(drop, nexus.Standby{Name: nexus.StandbyName(row.Job), Job: row.Job, DB: row.DB, Template: row.Template})
			}
		}
	}
	// A copy of a folder names the same job.
	return slices.DeleteFunc(reshelve, func(s nexus.Standby) bool { return dropped[s.Job] }), drop
}
