package store_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// ref is a reference model of the store in plain Go, without Lua and Redis, and with one
// bench. Times are milliseconds.
type ref struct {
	now     int64
	offset  int64 // how far the times on a real server were moved back
	mint    func(above int64) int64
	forget  func() // resets the last gen, as mint does with a corrupt one
	jobs    map[nexus.JobID]*refJob
	tenants map[nexus.SiteName]*refTenant
	keys    map[string]*lived[[2]string] // fingerprint and job
	rates   map[string]*lived[int64]
	resting map[nexus.SiteName]*lived[nexus.JobID]
	inputs  map[nexus.JobID]*lived[string]
	pairs   map[nexus.JobID]*lived[string]
	pickups map[nexus.JobID]*lived[string]
	tasks   map[string]bool // tasks of asynq: true: pending, false: archived
	due     map[string]int64
	leases  map[nexus.JobID]int64 // when each expires
	lanes   map[string]*refLane   // of the bench, by name
	mode    nexus.BenchMode
	builds  map[string]nexus.JobID    // the last template job for each key
	offers  map[string]nexus.SiteName // the template of the bench for each key
	list    string                    // of the bench's templates
	shelves refShelves
}

// refLane is a lane of the bench.
type refLane struct {
	name    string
	machine bool
	slots   map[nexus.JobID]int64
	line    map[nexus.JobID]int64 // the waiters, since when
	asking  map[nexus.JobID]int64 // when each waiter asked last
}

// lived is a value that expires.
type lived[T any] struct {
	is    T
	until int64
}

type refJob struct {
	store.Submission
	state                                        nexus.State
	owner                                        nexus.JobID
	bench, db, was, asked, road, template        string
	standby                                      nexus.JobID
	wait, note, steps, failure                   string
	dispatch, taken, gen, lease, next, askedAt   int64
	rescues, looks, giveUp, created, updated, to int64 // to: when the record expires; 0: never
	former                                       int64 // the gen before it was raised
	submitted                                    int64 // the gen minted at submit
	waitKey                                      string
	waitFrom                                     int // index of the first event of the last wait
	cancel                                       bool
	events                                       []string
}

type refTenant struct {
	state             nexus.TenantState
	bench, db         string
	road, template    string
	madeBy, job       nexus.JobID
	purge, created    int64
	stateGen          int64
	email, plan, site string
}

const (
	refSlots  = 2
	retention = 10 * time.Minute
	lease     = int64(5000)
	slotTime  = int64(20000)
	hour      = int64(3600_000)
	forever   = int64(math.MaxInt64)
)

func newRef() *ref {
	return &ref{jobs: map[nexus.JobID]*refJob{}, tenants: map[nexus.SiteName]*refTenant{}, keys: map[string]*lived[[2]string]{},
		rates: map[string]*lived[int64]{}, resting: map[nexus.SiteName]*lived[nexus.JobID]{}, inputs: map[nexus.JobID]*lived[string]{},
		pairs: map[nexus.JobID]*lived[string]{}, pickups: map[nexus.JobID]*lived[string]{}, tasks: map[string]bool{}, due: map[string]int64{}, leases: map[nexus.JobID]int64{},
		lanes: map[string]*refLane{"main": newLane("main"), "main machine": newLane("main machine")}, mode: nexus.BenchOpen,
		builds: map[string]nexus.JobID{}, offers: map[string]nexus.SiteName{}, shelves: newRefShelves()}
}

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// expire removes what has expired.
func (r *ref) expire() {
	maps.DeleteFunc(r.jobs, func(_ nexus.JobID, j *refJob) bool { return j.to != 0 && j.to <= r.now })
	expire(r.keys, r.now)
	expire(r.rates, r.now)
	expire(r.resting, r.now)
	expire(r.inputs, r.now)
	expire(r.pairs, r.now)
	expire(r.pickups, r.now)
}

func expire[K comparable, T any](all map[K]*lived[T], now int64) {
	maps.DeleteFunc(all, func(_ K, l *lived[T]) bool { return l.until <= now })
}

func (j *refJob) over() bool   { return j.state.Terminal() }
func (j *refJob) parked() bool { return j.state == nexus.RollbackFailed }

// emit appends events with these notes.
func (r *ref) emit(j *refJob, notes ...string) {
	for _, note := range notes {
		body := "{}"
		if note != "" {
			body = text(map[string]string{"note": note})
		}
		j.events = append(j.events, string(j.state)+" "+body)
		j.updated = r.now
	}
}

// tell appends an event of an operator's request.
func (r *ref) tell(j *refJob, note string) { r.tellBy(j, note, "op") }

func (r *ref) tellBy(j *refJob, note, actor string) {
	if note = `{"note":` + text(note); actor != "" {
		note += `,"actor":` + text(actor)
	}
	j.events = append(j.events, string(j.state)+" "+note+"}")
	j.updated = r.now
}

func (r *ref) dueAt(j *refJob, at int64) { r.due[string(j.ID)] = at }

// nudge changes the time of a job that is in the due index.
func (r *ref) nudge(j *refJob, at int64) {
	if _, ok := r.due[string(j.ID)]; ok {
		r.dueAt(j, at)
	}
}

func (r *ref) task(j *refJob, dispatch int64) string { return fmt.Sprintf("%s.%d", j.ID, dispatch) }

// submit returns the word of the script's refusal; empty: the job is recorded.
func (r *ref) submit(sub store.Submission) (answer string, replay bool) {
	if _, ok := r.jobs[sub.ID]; ok {
		return "", false // the same submission again
	}
	if k := r.keys[sub.IdempotencyKey]; k != nil && r.jobs[nexus.JobID(k.is[1])] != nil {
		if !slices.Contains(sub.Fingerprints, k.is[0]) {
			return "reused", false
		}
		return "", true
	}
	t, makes, builds := r.tenants[sub.Site], sub.Kind == nexus.KindProvision || sub.Kind == nexus.KindAdopt, sub.Kind.Machine()
	from := map[nexus.Kind][]nexus.TenantState{nexus.KindTeardown: {nexus.TenantActive, nexus.TenantSuspended}, nexus.KindSuspend: {nexus.TenantActive},
		nexus.KindRestore: {nexus.TenantSuspended}, nexus.KindRotateKey: {nexus.TenantActive}}[sub.Kind]
	switch {
	case sub.Kind == nexus.KindStandby && r.stock(sub.Build) >= sub.Most,
		sub.Kind == nexus.KindTemplate && r.jobs[r.builds[sub.Build]] != nil && !r.jobs[r.builds[sub.Build]].over():
		return "conflict", false
	case builds:
	case makes && (t != nil || r.resting[sub.Site] != nil):
		return "conflict", false
	case !makes && t == nil:
		return "not_found", false
	}
	other, state := r.supersedes(sub, t)
	switch {
	case builds:
	case !makes && (t.job != "" && other == nil || !slices.Contains(from, state)):
		return "conflict", false
	case strings.HasPrefix(sub.IdempotencyKey, "purge:") && (t.state != nexus.TenantSuspended || other != nil && other.Kind != nexus.KindSuspend || sub.IdempotencyKey != purgeKey(sub.Site, t.purge-r.offset)):
		return "conflict", false
	}
	for _, l := range sub.Limits {
		if n := r.rates[l.Bucket]; n != nil && n.is >= int64(l.Max) {
			return "limited", false
		}
	}
	for _, l := range sub.Limits {
		if r.rates[l.Bucket] == nil {
			r.rates[l.Bucket] = &lived[int64]{until: r.now + hour}
		}
		r.rates[l.Bucket].is++
	}
	j := &refJob{Submission: sub, state: nexus.Queued, owner: sub.ID, dispatch: 1, created: r.now, giveUp: r.now + sub.GiveUpAfter.Milliseconds(), submitted: r.mint(0)}
	steps := []nexus.Step{}
	for _, name := range sub.Steps {
		steps = append(steps, nexus.Step{Name: name, State: nexus.StepPending})
	}
	j.steps = text(steps)
	switch {
	case builds:
		t = &refTenant{} // nobody's
		if j.bench = sub.Bench; sub.Kind == nexus.KindTemplate {
			r.builds[sub.Build] = sub.ID
		} else {
			r.addStandby(sub.ID, sub.Build, sub.Template, sub.DB, nexus.StandbyMaking)
		}
	case makes:
		t = &refTenant{state: nexus.TenantMaking, madeBy: sub.ID, created: r.now, email: sub.Spec.Email, plan: string(sub.Spec.Plan), site: string(sub.Site)}
		r.tenants[sub.Site] = t
	default:
		if other != nil {
			words := fmt.Sprintf("superseded by the %s %s", sub.Kind, sub.ID)
			other.cancel, other.failure = true, text(nexus.Failure{Code: nexus.CodeCanceled, Message: "The job was " + words + ".",
				Action: "That job says what becomes of the tenant."})
			r.end(other, nexus.Canceled, words, func(o *refJob, note string) { r.tellBy(o, note, sub.Actor) })
		}
		j.owner, j.bench, j.db, j.was = t.madeBy, t.bench, t.db, string(state)
		switch sub.Kind {
		case nexus.KindTeardown:
			t.state = nexus.TenantDeleting
		case nexus.KindSuspend:
			t.state, t.purge = nexus.TenantSuspended, r.now+sub.PurgeAfter.Milliseconds()
			r.due["tenant:"+string(sub.Site)] = t.purge
		}
	}
	t.job = sub.ID
	r.jobs[sub.ID] = j
	if sub.Input != "" {
		r.inputs[sub.ID] = &lived[string]{sub.Input, j.giveUp + hour}
	}
	if sub.IdempotencyKey != "" {
		r.keys[sub.IdempotencyKey] = &lived[[2]string]{[2]string{sub.Fingerprints[0], string(sub.ID)}, r.now + 24*hour}
	}
	r.dueAt(j, r.now+1000)
	if other == nil {
		r.emit(j, "")
	} else {
		r.tellBy(j, "supersedes the job "+string(other.ID), sub.Actor)
	}
	r.tasks[r.task(j, 1)] = true
	return "", false
}

// supersedes returns the job on the tenant that this one supersedes, nil if there is none,
// and the state of the tenant without it.
func (r *ref) supersedes(sub store.Submission, t *refTenant) (*refJob, nexus.TenantState) {
	if t == nil || t.job == "" {
		return nil, stateOr(t)
	}
	o, closes := r.jobs[t.job], sub.Kind == nexus.KindSuspend || sub.Kind == nexus.KindTeardown
	switch {
	case !closes:
	case o.Kind == nexus.KindRotateKey && (o.parked() || o.state == nexus.Waiting || o.state == nexus.Queued && o.taken == 0):
		return o, nexus.TenantActive
	case !o.parked():
	case o.Kind == nexus.KindSuspend, o.Kind == nexus.KindRestore && sub.Kind == nexus.KindSuspend:
		return o, nexus.TenantActive
	case o.Kind == nexus.KindRestore:
		return o, nexus.TenantSuspended
	case o.Kind == nexus.KindTeardown && sub.Kind == nexus.KindTeardown:
		return o, nexus.TenantState(o.was)
	}
	return nil, t.state
}

func stateOr(t *refTenant) nexus.TenantState {
	if t == nil {
		return ""
	}
	return t.state
}

func purgeKey(site nexus.SiteName, at int64) string { return fmt.Sprintf("purge:%s:%d", site, at) }

// end ends or parks a job.
func (r *ref) end(j *refJob, state nexus.State, note string, tell func(*refJob, string)) {
	j.state, j.lease, j.next, j.wait, j.note = state, 0, 0, "", ""
	delete(r.due, string(j.ID))
	delete(r.leases, j.ID)
	j.waitKey = ""
	delete(r.lane(j).line, j.ID)
	delete(r.lane(j).asking, j.ID)
	r.leaveSlot(j)
	tell(j, note)
	r.settleStandby(j)
	if state == nexus.RollbackFailed {
		return
	}
	delete(r.inputs, j.ID)
	r.settle(j)
	if p := r.pairs[j.ID]; state != nexus.Succeeded {
		delete(r.pairs, j.ID)
	} else if p != nil {
		p.until = r.now + 24*hour
	}
	j.to = r.now + retention.Milliseconds()
}

// settle updates the tenant at the end of its job.
func (r *ref) settle(j *refJob) {
	t, done := r.tenants[j.Site], j.state == nexus.Succeeded
	if j.Kind.Machine() {
		return
	}
	t.job = ""
	if j.Kind != nexus.KindRotateKey {
		t.stateGen = max(t.stateGen, j.submitted)
	}
	forget, stay := false, func(state nexus.TenantState, purges bool) {
		t.state = state
		if !purges {
			t.purge = 0
			delete(r.due, "tenant:"+string(j.Site))
		}
	}
	switch j.Kind {
	case nexus.KindProvision, nexus.KindAdopt:
		if forget = !done; done {
			t.state = nexus.TenantActive
		}
	case nexus.KindTeardown:
		if forget = done; done {
			delete(r.pairs, j.owner)
			delete(r.pickups, j.owner)
		} else {
			stay(nexus.TenantState(j.was), j.Rest == 0 || j.state != nexus.Canceled)
			if t.purge != 0 {
				r.due["tenant:"+string(j.Site)] = t.purge
				if j.Rest > 0 {
					r.due["tenant:"+string(j.Site)] = r.now + 24*hour
				}
			}
		}
	case nexus.KindSuspend:
		if !done {
			stay(nexus.TenantActive, false)
		}
	case nexus.KindRestore:
		if done {
			stay(nexus.TenantActive, false)
		} else {
			t.state = nexus.TenantSuspended
		}
	}
	if forget {
		delete(r.tenants, j.Site)
		delete(r.due, "tenant:"+string(j.Site))
		if j.Rest > 0 {
			r.resting[j.Site] = &lived[nexus.JobID]{j.ID, r.now + j.Rest.Milliseconds()}
		}
	}
}

func (r *ref) take(id nexus.JobID, dispatch int64) store.Taken {
	j := r.jobs[id]
	switch {
	case j == nil:
		return store.TakeAbsent
	case j.over() || j.parked():
		return store.TakeOver
	case j.dispatch != dispatch || j.taken >= dispatch:
		return store.TakeStale
	case j.lease > r.now:
		return store.TakeHeld
	}
	j.taken, j.looks = dispatch, 0
	if j.bench != "" && !r.slot(j) {
		if j.state != nexus.RollingBack {
			j.state = nexus.Waiting
		}
		j.wait, j.note, j.next, j.lease, j.gen = "capacity", noteFull, r.now+60_000, 0, 0
		if r.mode != nexus.BenchOpen {
			j.wait, j.note = "bench", noteShut
		}
		delete(r.leases, j.ID)
		r.dueAt(j, j.next)
		r.emitWait(j, j.wait+j.note, j.note)
		return store.TakeCapacity
	}
	rested := j.wait != ""
	j.gen, j.former, j.lease, j.next, j.wait, j.note = r.mint(0), 0, r.now+lease, 0, "", ""
	r.dueAt(j, j.lease)
	r.leases[j.ID] = j.lease
	if j.state == nexus.Queued || j.state == nexus.Waiting {
		j.state, rested = nexus.Running, true
	}
	if rested {
		r.emit(j, "")
	}
	return store.TakeOK
}

const (
	noteFull = "Many sites are being made just now; this one is next in line as soon as there is room."
	noteShut = "Our server takes a short break from making sites; this one is made as soon as it is over."
)

// owned returns the job if a run with this gen may write it; else nil.
func (r *ref) owned(id nexus.JobID, gen nexus.Gen) *refJob {
	if j := r.jobs[id]; j != nil && j.gen == int64(gen) && !j.over() && !j.parked() {
		return j
	}
	return nil
}

func (r *ref) cancel(id nexus.JobID) string {
	j := r.jobs[id]
	switch {
	case j == nil:
		return "not_found"
	case j.state == nexus.Canceled:
		return ""
	case j.parked() && j.Kind == nexus.KindRotateKey:
		j.cancel, j.failure = true, text(nexus.Failure{Code: nexus.CodeCanceled, Message: "The parked rotation of the key was given up.",
			Action: "The former key may no longer work: once the cause is mended, rotate the key again."})
		r.end(j, nexus.Canceled, "given up while parked", r.tell)
	case j.over() || j.parked(), j.Kind.OneWay() && (j.state != nexus.Queued || j.cancel):
		return "conflict"
	case j.state == nexus.Queued && j.taken == 0:
		j.cancel, j.failure = true, text(nexus.WhyCanceled(j.Kind, ""))
		r.end(j, nexus.Canceled, "canceled before it began", r.tell)
	case j.state != nexus.RollingBack && !j.cancel:
		j.cancel = true
		if j.lease == 0 {
			r.nudge(j, r.now)
		}
		r.tell(j, "cancel was asked")
	}
	return ""
}

func (r *ref) resume(id nexus.JobID) string {
	j := r.jobs[id]
	switch {
	case j == nil:
		return "not_found"
	case !j.parked():
		return "conflict"
	}
	j.state = nexus.RollingBack
	if j.Kind.OneWay() {
		j.state, j.failure = nexus.Running, ""
	}
	j.rescues, j.looks, j.lease, j.next, j.giveUp, j.gen, j.former = 0, 0, 0, 0, r.now+24*hour, r.mint(0), 0
	r.dueAt(j, r.now)
	r.tell(j, "resumed")
	return ""
}

// tick reads the due index.
func (r *ref) tick(rescue bool) (rescued []nexus.JobID, purges []store.Purge) {
	for id, until := range r.leases {
		if j := r.jobs[id]; rescue && until <= r.now {
			delete(r.leases, id)
			if j.taken == j.dispatch {
				j.rescues++
				rescued = append(rescued, id)
				r.next(j)
			}
		}
	}
	r.tend(r.lanes["main"])
	r.tend(r.lanes["main machine"])
	for _, member := range slices.Sorted(maps.Keys(r.due)) {
		if r.due[member] > r.now {
			continue
		}
		if name, ok := strings.CutPrefix(member, "tenant:"); ok {
			site := nexus.SiteName(name)
			if t := r.tenants[site]; t == nil || t.state != nexus.TenantSuspended || t.purge == 0 {
				delete(r.due, member)
			} else {
				r.due[member] = r.now + 60_000
				purges = append(purges, store.Purge{Site: site, At: fmt.Sprint(t.purge)})
			}
			continue
		}
		j := r.jobs[nexus.JobID(member)] // always a live job: the index has no others
		switch {
		case j.taken < j.dispatch:
			j.looks++
			r.dueAt(j, r.now+min(60_000, int64(5000)<<min(j.looks-1, 10)))
			r.deliver(j)
			continue
		case j.lease > r.now:
			r.dueAt(j, j.lease)
			continue
		case j.lease > 0 && !rescue:
			r.dueAt(j, r.now+250)
			continue
		case j.lease == 0 && j.next > r.now && !j.cancel:
			r.dueAt(j, j.next)
			continue
		case j.lease > 0:
			j.rescues++
			delete(r.leases, j.ID)
			rescued = append(rescued, j.ID)
		}
		r.next(j)
	}
	return rescued, purges
}

// next gives the job a new dispatch and delivers it.
func (r *ref) next(j *refJob) {
	j.dispatch++
	j.looks = 0
	r.dueAt(j, r.now+5000)
	r.deliver(j)
}

// deliver gives a dispatch to asynq. If asynq has the task and it is not pending, the job
// gets a new dispatch.
func (r *ref) deliver(j *refJob) {
	pending, known := r.tasks[r.task(j, j.dispatch)]
	if known && !pending {
		j.dispatch++
		j.looks = 0
		r.dueAt(j, r.now+5000)
	}
	r.tasks[r.task(j, j.dispatch)] = true
}
