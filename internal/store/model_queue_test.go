package store_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func newLane(name string) *refLane {
	return &refLane{name: name, machine: strings.HasSuffix(name, " machine"), slots: map[nexus.JobID]int64{}, line: map[nexus.JobID]int64{}, asking: map[nexus.JobID]int64{}}
}

// lane returns the lane of a job.
func (r *ref) lane(j *refJob) *refLane {
	if j.Kind.Machine() {
		return r.lanes["main machine"]
	}
	return r.lanes["main"]
}

// size is the number of jobs that a lane does at once: a machine job, and another while no
// other job is on the bench. While others wait none begins, until the first machine job in
// the queue has waited for 15 s.
func (r *ref) size(l *refLane) int {
	if !l.machine {
		return refSlots
	}
	if len(r.lanes["main"].line) > 0 {
		if queue := l.queue(); len(queue) > 0 && l.line[queue[0]]+15_000 <= r.now {
			return 1
		}
		return 0
	}
	for _, until := range r.lanes["main"].slots {
		if until > r.now {
			return 1
		}
	}
	return 2
}

// cleans tells whether a job is a clean-up or an operator's, which never waits behind signups.
func (r *ref) cleans(id nexus.JobID) bool {
	j := r.jobs[id]
	return j.Kind != nexus.KindProvision && !j.Kind.Machine() || j.state == nexus.RollingBack || j.cancel || j.giveUp < r.now
}

// queue returns the waiters in their order.
func (l *refLane) queue() []nexus.JobID {
	return slices.SortedFunc(maps.Keys(l.line), func(a, b nexus.JobID) int { return cmp.Or(cmp.Compare(l.line[a], l.line[b]), cmp.Compare(a, b)) })
}

func (l *refLane) expire(now int64) {
	maps.DeleteFunc(l.slots, func(_ nexus.JobID, until int64) bool { return until <= now })
}

// slot gives the job a slot of its lane, or adds it to the queue.
func (r *ref) slot(j *refJob) bool {
	l := r.lane(j)
	l.expire(r.now)
	_, has := l.slots[j.ID]
	room := r.size(l)
	switch {
	case r.mode == nexus.BenchDrained, r.mode == nexus.BenchPaused && !r.cleans(j.ID):
		room = 0
	case r.cleans(j.ID):
		room++
	}
	if !has && j.askedAt == 0 {
		j.askedAt, j.asked = r.now, l.name
	}
	free := room - len(l.slots)
	if has || free > 0 && (r.cleans(j.ID) || len(r.live(l, free, j.ID)) < free) {
		l.slots[j.ID] = r.now + slotTime
		if !has {
			delete(l.line, j.ID)
			delete(l.asking, j.ID)
		}
		return true
	}
	if _, stands := l.line[j.ID]; !stands {
		l.line[j.ID] = j.askedAt
	}
	l.asking[j.ID] = r.now
	return false
}

// live returns the first waiters, up to a limit or a job. A waiter that is due and has not
// asked for 90 s loses its place.
func (r *ref) live(l *refLane, limit int, till nexus.JobID) (ids []nexus.JobID) {
	for _, id := range l.queue() {
		switch {
		case len(ids) == limit || id == till:
			return ids
		case max(l.asking[id], r.jobs[id].next)+90_000 < r.now:
			delete(l.line, id)
			delete(l.asking, id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// rouse makes a waiting job due.
func (r *ref) rouse(l *refLane, id nexus.JobID) {
	if j := r.jobs[id]; j.taken == j.dispatch && j.lease == 0 && j.next != 0 {
		j.next, l.asking[id] = 0, r.now
		r.nudge(j, r.now)
	}
}

// wake makes the waiters due that may now get a slot.
func (r *ref) wake(l *refLane) {
	for _, id := range r.live(l, max(1, r.size(l)-len(l.slots)), "") {
		r.rouse(l, id)
	}
	for _, id := range l.queue() {
		if r.cleans(id) {
			r.rouse(l, id)
		}
	}
}

// tend makes the waiters due that may get a slot that expired.
func (r *ref) tend(l *refLane) {
	if len(l.line) == 0 {
		return
	}
	l.expire(r.now)
	if free := r.size(l) - len(l.slots); free > 0 && r.mode == nexus.BenchOpen {
		for _, id := range r.live(l, free, "") {
			r.rouse(l, id)
		}
	}
}

func (r *ref) leaveSlot(j *refJob) {
	l := r.lane(j)
	if _, had := l.slots[j.ID]; had {
		delete(l.slots, j.ID)
		r.wake(l)
	}
}
