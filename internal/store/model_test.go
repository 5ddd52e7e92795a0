package store_test

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// machine runs the same operations on the store and on the reference model.
type machine struct {
	f      *fixture
	ref    *ref
	real   bool
	ids    []nexus.JobID
	subs   []store.Submission
	leases map[nexus.JobID][]*store.Lease // all leases of a job, the newest last
	purges []store.Purge
	writes int
	only   nexus.JobID // the job whose lease is picked; empty: any
	asynq  *asynq.Inspector
}

var (
	sites = []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost", "e.localhost"}
	every = []nexus.Kind{nexus.KindProvision, nexus.KindProvision, nexus.KindAdopt, nexus.KindSuspend, nexus.KindRestore, nexus.KindRotateKey, nexus.KindTeardown}
)

// answer returns an error as the model's word for it.
func answer(err error) string {
	switch {
	case errors.Is(err, nexus.ErrFenced):
		return "stale"
	case errors.Is(err, nexus.ErrCanceled):
		return "canceled"
	case errors.Is(err, store.ErrKeyReused):
		return "reused"
	case errors.Is(err, store.ErrLimited):
		return "limited"
	case errors.Is(err, store.ErrGone):
		return "gone"
	}
	return string(nexus.CodeOf(err))
}

func (m *machine) want(t *rapid.T, what string, got, want any) {
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s answers otherwise (- model, + store):\n%s", what, diff)
	}
}

func (m *machine) submit(t *rapid.T) {
	m.ask(t, rapid.SampledFrom(sites).Draw(t, "site"))
}

// ask submits a job on a site, mostly of a kind that the tenant's state allows.
func (m *machine) ask(t *rapid.T, site nexus.SiteName) {
	sub, fit := submission(site), every
	if tenant := m.ref.tenants[site]; rapid.IntRange(0, 4).Draw(t, "unfit") > 0 {
		switch {
		case tenant == nil:
			fit = []nexus.Kind{nexus.KindProvision, nexus.KindProvision, nexus.KindAdopt}
		case tenant.state == nexus.TenantActive:
			fit = []nexus.Kind{nexus.KindSuspend, nexus.KindRotateKey, nexus.KindTeardown}
		case tenant.state == nexus.TenantSuspended:
			fit = []nexus.Kind{nexus.KindRestore, nexus.KindTeardown}
		}
	}
	// All ids begin with the same digits, so that all jobs get the same delay in due.lua.
	sub.ID, sub.Kind = nexus.JobID(fmt.Sprintf("000%029x", len(m.subs))), rapid.SampledFrom(fit).Draw(t, "kind")
	if sub.Kind != nexus.KindProvision {
		sub.Input = ""
	} else if rapid.IntRange(0, 3).Draw(t, "company") > 0 {
		sub.Steps = []nexus.StepName{"one", "company"} // such a job gets a standby
	}
	if sub.Kind == nexus.KindProvision && rapid.IntRange(0, 2).Draw(t, "asks") == 0 {
		sub.Spec.Road = rapid.SampledFrom(nexus.Roads()).Draw(t, "road")
	}
	sub.GiveUpAfter = time.Duration(rapid.IntRange(1, 48).Draw(t, "give up")) * time.Hour
	sub.PurgeAfter = time.Duration(rapid.SampledFrom([]int{0, 1, 1, 60}).Draw(t, "purge")) * time.Minute
	if sub.Kind == nexus.KindTeardown {
		sub.Rest = time.Duration(rapid.IntRange(0, 1).Draw(t, "rest")) * time.Hour
	}
	if rapid.IntRange(0, 3).Draw(t, "keyed") == 3 {
		sub.IdempotencyKey = rapid.SampledFrom([]string{"x/1", "x/2"}).Draw(t, "key")
		sub.Fingerprints = rapid.SampledFrom([][]string{{"k1=aa"}, {"k1=bb"}, {"k2=aa", "k1=aa"}}).Draw(t, "fingerprints")
	}
	if rapid.IntRange(0, 3).Draw(t, "limited") == 3 {
		sub.Limits = []store.Limit{{Bucket: "all", Max: 6}, {Bucket: rapid.SampledFrom([]string{"ip:1", "ip:2"}).Draw(t, "bucket"), Max: 2}}
	}
	m.record(t, sub)
}

func (m *machine) record(t *rapid.T, sub store.Submission) {
	job, replay, err := m.f.Submit(t.Context(), sub)
	want, wantReplay := m.ref.submit(sub)
	m.want(t, "submit", []any{answer(err), replay}, []any{want, wantReplay})
	if err == nil && !replay && job.ID != sub.ID {
		t.Fatalf("submitted %s, recorded %s", sub.ID, job.ID)
	}
	if wantReplay {
		m.want(t, "replay", string(job.ID), m.ref.keys[sub.IdempotencyKey].is[1])
	}
	m.subs = append(m.subs, sub)
	if m.ref.jobs[sub.ID] != nil && !slices.Contains(m.ids, sub.ID) {
		m.ids = append(m.ids, sub.ID)
	}
}

// resend submits again, as a client does that lost the answer.
func (m *machine) resend(t *rapid.T) {
	if len(m.subs) == 0 {
		t.Skip("nothing yet")
	}
	sub := rapid.SampledFrom(m.subs).Draw(t, "submission")
	if m.ref.jobs[sub.ID] == nil {
		t.Skip("it would be new")
	}
	m.record(t, sub)
}

// revive lets a worker renew its lease just after it has expired.
func (m *machine) revive(t *rapid.T) {
	held := m.living(func(j *refJob) bool { return j.lease > m.ref.now && j.taken == j.dispatch })
	if len(held) == 0 {
		t.Skip("none is at work")
	}
	id := rapid.SampledFrom(held).Draw(t, "job")
	m.forward(time.Duration(lease) * time.Millisecond)
	m.look(t, true)
	m.renewed(t, m.leases[id][len(m.leases[id])-1], m.ref.jobs[id])
	m.taken(t, id, m.ref.jobs[id].dispatch)
}

// purge records the teardown of a tenant whose purge date has come, as a worker does, perhaps
// late.
func (m *machine) purge(t *rapid.T) {
	if len(m.purges) == 0 {
		t.Skip("none is due")
	}
	p := rapid.SampledFrom(m.purges).Draw(t, "purge")
	at, _ := strconv.ParseInt(p.At, 10, 64)
	sub := submission(p.Site)
	sub.ID, sub.Kind, sub.Input, sub.Rest = nexus.JobID(fmt.Sprintf("000%029x", len(m.subs))), nexus.KindTeardown, "", time.Hour
	sub.IdempotencyKey, sub.Fingerprints = purgeKey(p.Site, at-m.ref.offset), []string{"purge"}
	m.record(t, sub)
}

func (m *machine) pick(t *rapid.T) nexus.JobID {
	if len(m.ids) == 0 {
		t.Skip("no job yet")
	}
	if live := m.living(func(j *refJob) bool { return !j.over() }); len(live) > 0 && rapid.IntRange(0, 4).Draw(t, "any") > 0 {
		return rapid.SampledFrom(live).Draw(t, "job")
	}
	return rapid.SampledFrom(m.ids).Draw(t, "job")
}

// living returns the jobs that exist and match, in the order of their creation.
func (m *machine) living(fit func(*refJob) bool) (ids []nexus.JobID) {
	for _, id := range m.ids {
		if j := m.ref.jobs[id]; j != nil && fit(j) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *machine) take(t *rapid.T) {
	id, dispatch := m.pick(t), int64(1)
	if ready := m.living(func(j *refJob) bool { return j.taken < j.dispatch && !j.over() }); len(ready) > 0 && rapid.IntRange(0, 4).Draw(t, "other") > 0 {
		id = rapid.SampledFrom(ready).Draw(t, "ready")
	}
	if j := m.ref.jobs[id]; j != nil {
		dispatch = max(0, j.dispatch+int64(rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(t, "dispatch")))
	}
	m.taken(t, id, dispatch)
}

func (m *machine) taken(t *rapid.T, id nexus.JobID, dispatch int64) {
	lease, job, taken, err := m.f.Take(t.Context(), id, dispatch, nil)
	m.want(t, "take", []any{answer(err), taken}, []any{"", m.ref.take(id, dispatch)})
	if taken == store.TakeOK {
		if job.Gen != lease.Gen() || int64(job.Gen) != m.ref.jobs[id].gen {
			t.Fatalf("took the gen %d, it is %d", lease.Gen(), m.ref.jobs[id].gen)
		}
		m.leases[id] = append(m.leases[id], lease)
	}
}

func (m *machine) cancel(t *rapid.T) {
	id := m.pick(t)
	_, err := m.f.Cancel(t.Context(), id, "op")
	m.want(t, "cancel", answer(err), m.ref.cancel(id))
}

func (m *machine) resume(t *rapid.T) {
	id := m.pick(t)
	if parked := m.living(func(j *refJob) bool { return j.parked() }); len(parked) > 0 {
		id = rapid.SampledFrom(parked).Draw(t, "parked")
	}
	job, err := m.f.Resume(t.Context(), id, "op")
	m.want(t, "resume", answer(err), m.ref.resume(id))
	if err == nil { // the script writes the steps with no undos counted
		m.ref.jobs[id].steps = text(job.Steps)
	}
}

func (m *machine) credentials(t *rapid.T) {
	id, bind := m.pick(t), rapid.SampledFrom([]string{"me", "you"}).Draw(t, "who")
	got, err := m.f.Credentials(t.Context(), id, bind)
	j, pair, by, want, pickup := m.ref.jobs[id], m.ref.pairs[id], m.ref.pickups[id], "", ""
	switch {
	case j == nil:
		want = "not_found"
	case !j.over() && !j.parked():
		want = "conflict"
	case j.state != nexus.Succeeded || pair == nil || by != nil && by.is != bind:
		want = "gone"
	default:
		pickup = pair.is
		if by == nil {
			pair.until = m.ref.now + 600_000
			m.ref.pickups[id] = &lived[string]{bind, pair.until}
		}
	}
	m.want(t, "credentials", []any{answer(err), got}, []any{want, pickup})
}

func (m *machine) tick(t *rapid.T) {
	m.look(t, rapid.Bool().Draw(t, "rescue"))
}

func (m *machine) look(t *rapid.T, rescue bool) {
	found, err := m.f.Tick(t.Context(), rescue)
	if err != nil || found.Late != nil {
		t.Fatal(err, found.Late)
	}
	rescued, purges := m.ref.tick(rescue)
	slices.Sort(found.Rescued)
	slices.SortFunc(found.Purges, func(a, b store.Purge) int { return strings.Compare(string(a.Site), string(b.Site)) })
	slices.Sort(rescued)
	if m.real { // its times were moved, not its clock
		for i := range min(len(purges), len(found.Purges)) {
			at, _ := strconv.ParseInt(found.Purges[i].At, 10, 64)
			at += m.ref.offset
			found.Purges[i].At, purges[i].At = fmt.Sprint(at), fmt.Sprint(at)
			m.ref.tenants[purges[i].Site].purge = at
		}
	}
	m.want(t, "tick", []any{found.Rescued, found.Purges}, []any{rescued, purges})
	m.purges = append(m.purges, purges...)
}

// lose lets asynq give up a task.
func (m *machine) lose(t *rapid.T) {
	j := m.ref.jobs[m.pick(t)]
	if j == nil || !m.ref.tasks[m.ref.task(j, j.dispatch)] {
		t.Skip("no task is pending")
	}
	queue := store.QueueResume
	switch {
	case j.Kind.Machine():
		queue = store.QueueMachine
	case j.dispatch == 1 && j.Kind == nexus.KindProvision:
		queue = store.QueueProvision
	}
	if err := m.asynq.ArchiveTask(queue, m.ref.task(j, j.dispatch)); err != nil {
		t.Fatal(err)
	}
	m.ref.tasks[m.ref.task(j, j.dispatch)] = false
}

func (m *machine) bench(t *rapid.T) {
	m.ref.mode = rapid.SampledFrom([]nexus.BenchMode{nexus.BenchOpen, nexus.BenchOpen, nexus.BenchPaused, nexus.BenchDrained}).Draw(t, "mode")
	if err := m.f.SetBench(t.Context(), "main", m.ref.mode, "op"); err != nil {
		t.Fatal(err)
	}
	if m.ref.mode == nexus.BenchOpen {
		m.ref.wake(m.ref.lanes["main"])
		m.ref.wake(m.ref.lanes["main machine"])
	}
}

func (m *machine) clock(t *rapid.T) {
	m.forward(time.Duration(rapid.SampledFrom([]int{1, 1, 1, 2, 2, 5, 5, 5, 10, 10, 25, 60, 100, 700, 3600}).Draw(t, "seconds")) * time.Second)
}

func (m *machine) forward(d time.Duration) {
	m.f.advance(d)
	if m.ref.now += d.Milliseconds(); m.real {
		m.ref.offset += d.Milliseconds()
	}
	m.ref.expire()
}

// TestModel runs random operations of workers, clients, operators and the clock on the store
// and on a model of it. After each operation it compares all of Redis with the model, so it
// also notices changes that an operation must not make, such as one with a lost lease.
func TestModel(t *testing.T) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(rt *rapid.T) {
			f := newMini(t)
			defer func() { _ = f.rdb.Close() }()
			newMachine(rt, f, false).play(rt)
		})
	})
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f := newReal(t, path)
		var passed atomic.Int32
		rapid.Check(t, func(rt *rapid.T) {
			if passed.Load() >= realChecks {
				return
			}
			if err := f.rdb.FlushDB(t.Context()).Err(); err != nil {
				rt.Fatal(err)
			}
			newMachine(rt, f, true).play(rt)
			passed.Add(1)
		})
	})
}

// realChecks is the number of runs on a real server.
const realChecks = 8

func newMachine(t *rapid.T, f *fixture, isReal bool) *machine {
	m := &machine{f: f, ref: newRef(), real: isReal, leases: map[nexus.JobID][]*store.Lease{}, asynq: asynq.NewInspectorFromRedisClient(f.rdb)}
	m.f = &fixture{Store: store.New(f.rdb, store.Options{Slots: refSlots, Retention: retention, Embedded: true}), rdb: f.rdb, advance: f.advance}
	if err := m.f.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	gen := int64(0)
	m.ref.mint = func(above int64) int64 {
		least := max(gen+1, above+1)
		if gen = max(least, m.ref.now*1000); m.real { // from its own clock, in µs
			if gen, _ = m.f.rdb.Get(t.Context(), "{nexus}:gen").Int64(); gen < least {
				t.Fatalf("the gen %d is below %d", gen, least)
			}
		}
		return gen
	}
	m.ref.forget = func() { gen = 0 }
	m.sync(t)
	return m
}

// prepare makes tenants and jobs (parked, running and waiting) before the random operations.
func (m *machine) prepare(t *rapid.T) {
	m.stockUp(t)
	crowd := rapid.IntRange(0, 3).Draw(t, "crowd") == 3
	for _, site := range sites[:rapid.IntRange(0, len(sites)).Draw(t, "sites")] {
		m.forward(time.Second)
		if crowd {
			sub := submission(site)
			sub.ID = nexus.JobID(fmt.Sprintf("000%029x", len(m.subs)))
			m.record(t, sub)
			m.check(t)
			continue
		}
		m.ask(t, site)
		for range rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2}).Draw(t, "jobs") {
			for _, id := range m.living(func(j *refJob) bool { return j.Site == site && j.taken == 0 }) {
				m.end(t, id)
			}
			m.check(t)
			m.ask(t, site)
		}
		m.check(t)
	}
	for _, id := range m.living(func(j *refJob) bool { return j.taken == 0 }) {
		if rapid.IntRange(0, 3).Draw(t, "idle") > 0 {
			m.taken(t, id, 1)
			if j := m.ref.jobs[id]; j.lease > 0 {
				m.reserved(t, m.leases[id][0], j)
			}
			m.check(t)
		}
	}
}

// end takes a new job and ends or parks it.
func (m *machine) end(t *rapid.T, id nexus.JobID) {
	j := m.ref.jobs[id]
	m.taken(t, id, 1)
	if j.lease == 0 { // it got no slot
		return
	}
	l := m.leases[id][0]
	m.reserved(t, l, j)
	job, err := m.f.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	job.State = rapid.SampledFrom([]nexus.State{nexus.Succeeded, nexus.Succeeded, nexus.Failed, nexus.RollbackFailed}).Draw(t, "end")
	m.timed(t, &job)
	m.finished(t, l, job, j, nil)
}

// people makes a request of a user or an operator.
func (m *machine) people(t *rapid.T) {
	rapid.SampledFrom([]func(*rapid.T){m.cancel, m.resume, m.credentials, m.bench}).Draw(t, "people")(t)
}

func (m *machine) play(t *rapid.T) {
	m.prepare(t)
	actions := map[string]func(*rapid.T){
		"submit": m.submit, "submit more": m.submit, "resend": m.resend, "purge": m.purge, "take": m.take, "take more": m.take, "take on": m.take,
		"renew": m.renew, "revive": m.revive, "reserve": m.reserve, "reserve more": m.reserve, "checkpoint": m.checkpoint, "wait": m.wait, "give up": m.giveUp,
		"finish": m.finish, "finish more": m.finish, "build": m.build, "templates": m.templates, "divert": m.divert, "standby": m.standby, "standby more": m.standby, "shelf": m.shelf, "taker": m.taker, "taker more": m.taker, "raise": m.raise, "poison": m.poison, "people": m.people, "people more": m.people,
		"tick": m.tick, "tick more": m.tick, "tick on": m.tick, "lose": m.lose, "clock": m.clock, "clock more": m.clock, "": m.check,
	}
	t.Repeat(actions)
	t.Repeat(actions) // twice as many operations
}
