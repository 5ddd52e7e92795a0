package store_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// lease picks a lease, the newest one or a lost one.
func (m *machine) lease(t *rapid.T) (*store.Lease, nexus.Job, *refJob) {
	if m.only != "" {
		return m.leaseOf(t, m.only)
	}
	all := m.living(func(j *refJob) bool {
		return len(m.leases[j.ID]) > 0 && m.ref.owned(j.ID, m.leases[j.ID][len(m.leases[j.ID])-1].Gen()) != nil
	})
	if rapid.IntRange(0, 4).Draw(t, "any") == 0 {
		all = slices.DeleteFunc(slices.Clone(m.ids), func(id nexus.JobID) bool { return len(m.leases[id]) == 0 })
	}
	if len(all) == 0 {
		t.Skip("none is held")
	}
	return m.leaseOf(t, rapid.SampledFrom(all).Draw(t, "job"))
}

// leaseOf picks a lease of a job, mostly the newest one.
func (m *machine) leaseOf(t *rapid.T, id nexus.JobID) (*store.Lease, nexus.Job, *refJob) {
	back := rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "lease")
	l := m.leases[id][max(0, len(m.leases[id])-1-back)]
	// A run writes the state that it knows, which may be out of date.
	job := nexus.Job{ID: id, State: nexus.Running, Steps: []nexus.Step{{Name: "one", State: nexus.StepStarted, Note: strconv.Itoa(m.writes)}, {Name: "two"}}}
	m.writes++
	if j := m.ref.jobs[id]; j != nil {
		job.Steps[0].Name = j.Steps[0]
		for i, name := range j.Steps[1:] {
			job.Steps = append(job.Steps[:i+1], nexus.Step{Name: name})
		}
		job.Kind, job.State = j.Kind, j.state
		if job.State == nexus.Waiting { // only for a run that no longer owns the job
			job.State = nexus.Running
		}
	}
	if rapid.Bool().Draw(t, "error") {
		job.Error = &nexus.Failure{Code: nexus.Internal, Message: strconv.Itoa(m.writes)}
	}
	return l, job, m.ref.owned(id, l.Gen())
}

// does runs a write of a lease; the model writes only if the lease is the owner's.
func (m *machine) does(t *rapid.T, what string, err error, j *refJob, effect func() string) {
	want := "stale"
	if j != nil {
		want = effect()
	}
	m.want(t, what, answer(err), want)
}

func (m *machine) renew(t *rapid.T) {
	l, _, j := m.lease(t)
	m.renewed(t, l, j)
}

func (m *machine) renewed(t *rapid.T, l *store.Lease, j *refJob) {
	asked, err := l.Renew(t.Context())
	m.does(t, "renew", err, j, func() string {
		j.lease = m.ref.now + lease
		m.ref.dueAt(j, j.lease)
		m.ref.leases[j.ID] = j.lease
		if j.bench != "" {
			m.ref.lane(j).slots[j.ID] = m.ref.now + slotTime
		}
		m.want(t, "renew", asked, j.cancel)
		return ""
	})
}

func (m *machine) reserve(t *rapid.T) {
	l, _, j := m.lease(t)
	m.reserved(t, l, j)
}

func (m *machine) reserved(t *rapid.T, l *store.Lease, j *refJob) {
	keys := rapid.SampledFrom([][]string{nil, {erpKey}, {erpKey, bareKey}}).Draw(t, "templates")
	way, err := l.Reserve(t.Context(), "main", "nx1", keys...)
	m.does(t, "reserve", err, j, func() string {
		if !m.ref.slot(j) {
			return "limit"
		}
		if j.bench = "main"; j.standby == "" {
			j.db = "nx1"
		}
		m.ref.choose(j, keys)
		m.want(t, "reserve", way, j.way())
		if tenant := m.ref.tenants[j.Site]; tenant != nil && tenant.job == j.ID {
			tenant.bench, tenant.db = "main", j.db
			if j.road != "" {
				tenant.road, tenant.template = j.road, j.template
			}
		}
		return ""
	})
}

func (j *refJob) write(job nexus.Job) {
	if j.steps = text(job.Steps); job.Error != nil {
		j.failure = text(job.Error)
	}
}

func (m *machine) checkpoint(t *rapid.T) {
	l, job, j := m.lease(t)
	if rapid.Bool().Draw(t, "turn") {
		_ = job.To(nexus.RollingBack) // if not allowed, the state stays
	}
	ended := rapid.SampledFrom([]nexus.StepName{"", "one"}).Draw(t, "ended")
	pair := rapid.SampledFrom([]string{"", job.Steps[0].Note}).Draw(t, "pair")
	asked, stored, err := l.Seal(t.Context(), &job, ended, pair, nexus.Event{Note: "a"}, nexus.Event{Note: "b"})
	m.does(t, "checkpoint", err, j, func() string {
		if pair != "" {
			if m.ref.pairs[j.ID] == nil {
				m.ref.pairs[j.ID] = &lived[string]{pair, forever}
			}
			pair = m.ref.pairs[j.ID].is
		}
		m.want(t, "seal", []any{err, stored}, []any{nil, pair})
		if j.state = job.State; ended != "" {
			j.rescues = 0
		}
		j.write(job)
		m.ref.emit(j, "a", "b")
		m.want(t, "checkpoint", []any{asked, job.Rev}, []any{j.cancel, int64(len(j.events))})
		return ""
	})
}

func (m *machine) wait(t *rapid.T) {
	l, job, j := m.lease(t)
	_ = job.To(nexus.Waiting) // if not allowed, the state stays
	job.WaitingFor, job.WaitNote = nexus.WaitRetry, "patience"
	seconds := rapid.IntRange(0, 70).Draw(t, "seconds")
	m.does(t, "wait", l.Wait(t.Context(), &job, time.Duration(seconds)*time.Second, nexus.Event{Note: "v"}, nexus.Event{Note: "w"}), j, func() string {
		j.state, j.steps, j.wait, j.note, j.lease = job.State, text(job.Steps), "retry", "patience", 0
		j.gen = 0
		if j.next = m.ref.now + int64(seconds)*1000; j.cancel && j.state != nexus.RollingBack {
			j.next = m.ref.now
		}
		m.ref.dueAt(j, j.next)
		delete(m.ref.leases, j.ID)
		if j.bench != "" {
			m.ref.leaveSlot(j)
		}
		m.ref.emitWait(j, "retry", "v", "w")
		return ""
	})
}

func (m *machine) giveUp(t *rapid.T) {
	l, _, j := m.lease(t)
	m.does(t, "give up", l.GiveUp(t.Context()), j, func() string {
		j.lease, j.gen = 0, 0
		m.ref.dueAt(j, m.ref.now)
		delete(m.ref.leases, j.ID)
		return ""
	})
}

func (m *machine) finish(t *rapid.T) {
	l, job, j := m.lease(t)
	ends := []nexus.State{nexus.Succeeded}
	if job.State == nexus.RollingBack {
		ends = []nexus.State{nexus.Failed, nexus.Canceled, nexus.RollbackFailed}
	} else if job.Kind.OneWay() {
		ends = append(ends, nexus.RollbackFailed)
	}
	job.State = rapid.SampledFrom(ends).Draw(t, "end")
	m.timed(t, &job)
	told := rapid.SampledFrom([][]nexus.Event{nil, {{Note: "a"}, {Note: "b"}}}).Draw(t, "told")
	m.finished(t, l, job, j, told)
}

func (m *machine) finished(t *rapid.T, l *store.Lease, job nexus.Job, j *refJob, told []nexus.Event) {
	m.does(t, "finish", l.Finish(t.Context(), &job, "one", append(slices.Clone(told), nexus.Event{Note: "end"})...), j, func() string {
		if job.State == nexus.Succeeded && j.cancel {
			return "canceled"
		}
		j.write(job)
		for _, e := range told {
			m.ref.emit(j, e.Note)
		}
		m.ref.end(j, job.State, "end", func(j *refJob, note string) { m.ref.emit(j, note) })
		return ""
	})
}

// raise raises the token above one that the bench has seen, which may be absurd.
func (m *machine) raise(t *rapid.T) {
	l, _, j := m.lease(t)
	old := l.Gen()
	seen := old + nexus.Gen(rapid.SampledFrom([]int64{0, 1, hour * 1000}).Draw(t, "seen"))
	absurd := rapid.IntRange(0, 3).Draw(t, "absurd") == 3
	if absurd {
		seen = rapid.SampledFrom([]nexus.Gen{1 << 53, 1<<53 + 1, math.MaxInt64, nexus.Gen((m.ref.now-m.ref.offset)*1000) + nexus.Gen(8*24*hour*1000)}).Draw(t, "far")
	}
	err := l.Raise(t.Context(), seen)
	switch {
	case j == nil || j.lease <= m.ref.now:
		m.want(t, "raise", answer(err), "stale")
	case absurd:
		m.want(t, "raise", []any{answer(err), l.Gen()}, []any{"conflict", old})
	default:
		j.gen, j.former = m.ref.mint(int64(seen)), j.gen
		m.want(t, "raise", []any{answer(err), int64(l.Gen())}, []any{"", j.gen})
	}
}

// poison writes a last token that is too far in the future to be genuine, as a former version
// or a person may have done: the next token comes from the clock.
func (m *machine) poison(t *rapid.T) {
	bad := rapid.SampledFrom([]string{"9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808", "1e300", "x"}).Draw(t, "gen")
	if err := m.f.rdb.Set(t.Context(), "{nexus}:gen", bad, 0).Err(); err != nil {
		t.Fatal(err)
	}
	m.ref.forget()
	m.forward(time.Millisecond) // else the next token may be one that was minted before
}

// emitWait appends the event of a wait. If the job waited for the same reason before, the
// event replaces the earlier one.
func (r *ref) emitWait(j *refJob, why string, notes ...string) {
	for i := j.waitFrom; why == j.waitKey && i < len(j.events); i++ {
		if !strings.Contains(j.events[i], `"actor"`) {
			j.events[i] = ""
		}
	}
	j.waitKey, j.waitFrom = why, len(j.events)
	r.emit(j, notes...)
}
