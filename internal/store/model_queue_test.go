package store_test

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// cleans tells whether a job is a clean-up or an operator's, which never waits behind signups.
func (r *ref) cleans(id nexus.JobID) bool {
	j := r.jobs[id]
	return j.Kind != nexus.KindProvision && j.Kind != nexus.KindTemplate || j.state == nexus.RollingBack || j.cancel || j.giveUp < r.now
}

// queue returns the waiters in their order.
func (r *ref) queue() []nexus.JobID {
	return slices.SortedFunc(maps.Keys(r.line), func(a, b nexus.JobID) int { return cmp.Or(cmp.Compare(r.line[a], r.line[b]), cmp.Compare(a, b)) })
}

// slot gives the job a slot of the bench, or adds it to the queue.
func (r *ref) slot(j *refJob) bool {
	maps.DeleteFunc(r.slots, func(_ nexus.JobID, until int64) bool { return until <= r.now })
	_, has := r.slots[j.ID]
	room := refSlots
	switch {
	case r.mode == nexus.BenchDrained, r.mode == nexus.BenchPaused && !r.cleans(j.ID):
		room = 0
	case r.cleans(j.ID):
		room++
	}
	if !has && j.askedAt == 0 {
		j.askedAt, j.asked = r.now, "main"
	}
	free := room - len(r.slots)
	if has || free > 0 && (r.cleans(j.ID) || len(r.live(free, j.ID)) < free) {
		r.slots[j.ID] = r.now + slotTime
		if !has {
			delete(r.line, j.ID)
			delete(r.asking, j.ID)
		}
		return true
	}
	if _, stands := r.line[j.ID]; !stands {
		r.line[j.ID] = j.askedAt
	}
	r.asking[j.ID] = r.now
	return false
}

// live returns the first waiters, up to a limit or a job. A waiter that is due and has not
// asked for 90 s loses its place.
func (r *ref) live(limit int, till nexus.JobID) (ids []nexus.JobID) {
	for _, id := range r.queue() {
		switch {
		case len(ids) == limit || id == till:
			return ids
		case max(r.asking[id], r.jobs[id].next)+90_000 < r.now:
			delete(r.line, id)
			delete(r.asking, id)
		default:
			ids = append(ids, id)
		}
	}
	return ids
}

// rouse makes a waiting job due.
func (r *ref) rouse(id nexus.JobID) {
	if j := r.jobs[id]; j.taken == j.dispatch && j.lease == 0 && j.next != 0 {
		j.next, r.asking[id] = 0, r.now
		r.nudge(j, r.now)
	}
}

// wake makes the waiters due that may now get a slot.
func (r *ref) wake() {
	for _, id := range r.live(max(1, refSlots-len(r.slots)), "") {
		r.rouse(id)
	}
	for _, id := range r.queue() {
		if r.cleans(id) {
			r.rouse(id)
		}
	}
}

// tend makes the waiters due that may get a slot that expired.
func (r *ref) tend() {
	if len(r.line) == 0 {
		return
	}
	maps.DeleteFunc(r.slots, func(_ nexus.JobID, until int64) bool { return until <= r.now })
	if free := refSlots - len(r.slots); free > 0 && r.mode == nexus.BenchOpen {
		for _, id := range r.live(free, "") {
			r.rouse(id)
		}
	}
}

func (r *ref) leaveSlot(j *refJob) {
	if _, had := r.slots[j.ID]; had {
		delete(r.slots, j.ID)
		r.wake()
	}
}
