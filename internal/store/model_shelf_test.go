package store_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// refShelves is the model of the shelves of a bench.
type refShelves struct {
	rows   map[nexus.JobID]*refStandby
	listed map[nexus.JobID]bool             // the bench's standbys, of which some may have lost their row
	orders map[string]map[nexus.JobID]int64 // by key: what is on the shelf, since when
	pools  map[string]*refPool
	keys   map[string]bool // of the bench's pools
	popped map[nexus.JobID]nexus.JobID
}

type refStandby struct {
	key, db  string
	template nexus.SiteName
	state    nexus.StandbyState
	at       int64
	job      nexus.JobID
}

type refPool struct {
	target, atLeast                     int
	kept, drained                       bool
	at, until, emptyAt, failedAt, build int64
	hits, misses, detours, failures     int64
	hour, minutes                       string
}

func newRefShelves() refShelves {
	return refShelves{rows: map[nexus.JobID]*refStandby{}, listed: map[nexus.JobID]bool{}, orders: map[string]map[nexus.JobID]int64{},
		pools: map[string]*refPool{}, keys: map[string]bool{}, popped: map[nexus.JobID]nexus.JobID{}}
}

func (s *refShelves) pool(key string) *refPool {
	if s.pools[key] == nil {
		s.pools[key] = &refPool{}
	}
	return s.pools[key]
}

func (j *refJob) way() nexus.Way {
	return nexus.Way{Road: nexus.Road(j.road), Template: nexus.SiteName(j.template), Standby: j.standby, DB: j.db}
}

func (r *ref) alive(id nexus.JobID) bool { return r.jobs[id] != nil && !r.jobs[id].over() }

// setStandby gives a standby a state; an empty one: it is gone.
func (r *ref) setStandby(id nexus.JobID, state nexus.StandbyState) {
	row := r.shelves.rows[id]
	if row == nil {
		return
	}
	delete(r.shelves.orders[row.key], id)
	if row.state, row.at = state, r.now; state == "" {
		delete(r.shelves.rows, id)
		delete(r.shelves.listed, id)
	}
	pool := r.shelves.pool(row.key)
	if state == nexus.StandbyShelved {
		if r.shelves.orders[row.key] == nil {
			r.shelves.orders[row.key] = map[nexus.JobID]int64{}
		}
		r.shelves.orders[row.key][id], pool.emptyAt = r.now, 0
	} else if len(r.shelves.orders[row.key]) == 0 && pool.emptyAt == 0 {
		pool.emptyAt = r.now
	}
}

func (r *ref) addStandby(id nexus.JobID, key string, template nexus.SiteName, db string, state nexus.StandbyState) {
	r.shelves.rows[id] = &refStandby{key: key, template: template, db: db}
	r.shelves.listed[id], r.shelves.keys[key] = true, true
	r.setStandby(id, state)
}

// stock is how many standbys a shelf has or will have. It forgets lost rows.
func (r *ref) stock(key string) int {
	n := len(r.shelves.orders[key])
	for id := range r.shelves.listed {
		switch row := r.shelves.rows[id]; {
		case row == nil:
			delete(r.shelves.listed, id)
		case row.key == key && row.state == nexus.StandbyMaking:
			n++
		}
	}
	return n
}

// popFor gives a job the oldest standby of a key, if there is one.
func (r *ref) popFor(j *refJob, key string) bool {
	if j.Kind != nexus.KindProvision || !strings.Contains(j.steps, `"company"`) {
		return false
	}
	shelf := r.shelves.orders[key]
	for _, id := range slices.SortedFunc(maps.Keys(shelf), func(a, b nexus.JobID) int { return cmp.Or(cmp.Compare(shelf[a], shelf[b]), cmp.Compare(a, b)) }) {
		row := r.shelves.rows[id]
		if row == nil {
			delete(shelf, id) // its row was lost
			continue
		}
		r.setStandby(id, nexus.StandbyPopped)
		row.job, r.shelves.popped[id] = j.ID, j.ID
		j.road, j.template, j.standby, j.db = string(nexus.RoadStandby), string(row.template), id, row.db
		r.arrive(key, true)
		return true
	}
	r.arrive(key, false)
	return false
}

func (r *ref) arrive(key string, hit bool) {
	pool := r.shelves.pools[key]
	if pool == nil || !pool.kept {
		return
	}
	decayed := func(text string, minutes float64) string {
		n, _ := strconv.ParseFloat(text, 64)
		return fmt.Sprintf("%.4f", n*math.Exp(-float64(r.now-pool.at)/(minutes*60_000))+1)
	}
	if pool.hour, pool.minutes, pool.at = decayed(pool.hour, 60), decayed(pool.minutes, 5), r.now; hit {
		pool.hits++
	} else {
		pool.misses++
	}
}

// leave gives a state to the standby that a job has taken.
func (r *ref) leave(j *refJob, state nexus.StandbyState) {
	if row := r.shelves.rows[j.standby]; row != nil && (row.job == "" || row.job == j.ID) {
		r.setStandby(j.standby, state)
	}
}

func (r *ref) detour(j *refJob) {
	if row := r.shelves.rows[j.standby]; row != nil {
		r.shelves.pool(row.key).detours++
	}
	r.leave(j, nexus.StandbyReaping)
	j.standby = ""
}

func (r *ref) settleStandby(j *refJob) {
	switch {
	case j.state == nexus.Succeeded:
		r.leave(j, "")
	case !j.parked():
		r.leave(j, nexus.StandbyReaping)
	}
	row := r.shelves.rows[j.ID]
	if row == nil || row.state != nexus.StandbyMaking {
		return
	}
	pool := r.shelves.pool(row.key)
	switch j.state {
	case nexus.Succeeded:
		r.setStandby(j.ID, nexus.StandbyShelved)
		if took := buildTime(j); took > 0 && pool.build > 0 {
			pool.build, _ = strconv.ParseInt(fmt.Sprintf("%.0f", 0.7*float64(pool.build)+0.3*float64(took)), 10, 64)
		} else if took > 0 {
			pool.build = took
		}
		pool.failures = 0
	case nexus.Canceled:
		r.setStandby(j.ID, "")
	default:
		r.setStandby(j.ID, "")
		pool.failures, pool.failedAt = pool.failures+1, r.now
	}
}

// buildTime is how long the steps of a standby's job took, in ms; zero: one was begun again.
func buildTime(j *refJob) (took int64) {
	var all []nexus.Step
	if json.Unmarshal([]byte(j.steps), &all) != nil {
		return 0
	}
	for _, step := range all[1:] {
		if step.Starts != 1 || step.EndedAt == nil {
			return 0
		}
		took += step.EndedAt.Sub(*step.StartedAt).Milliseconds()
	}
	return took
}

func (r *ref) dumpShelves(out dumped) {
	for id, row := range r.shelves.rows {
		out.put("{nexus}:standby:"+string(id), "bench", "main", "key", row.key, "template", row.template, "db", row.db, "state", row.state, "at", row.at, "job", row.job)
	}
	set := func(key string, members []string) { out.put(key, "", strings.Join(members, " ")) }
	var listed []string
	for _, id := range slices.Sorted(maps.Keys(r.shelves.listed)) {
		listed = append(listed, string(id))
	}
	set("{nexus}:standbys:main", listed)
	set("{nexus}:pools:main", slices.Sorted(maps.Keys(r.shelves.keys)))
	for key, shelf := range r.shelves.orders {
		for id, at := range shelf {
			out.put("{nexus}:shelf:main "+key, id, at)
		}
	}
	for key, pool := range r.shelves.pools {
		put := func(field string, n int64) {
			if n != 0 {
				out.put("{nexus}:pool:main "+key, field, n)
			}
		}
		for field, n := range map[string]int64{"hits": pool.hits, "misses": pool.misses, "detours": pool.detours, "failures": pool.failures, "failedAt": pool.failedAt,
			"emptyAt": pool.emptyAt, "build": pool.build, "at": pool.at, "until": pool.until, "atLeast": int64(pool.atLeast)} {
			put(field, n)
		}
		if out.put("{nexus}:pool:main "+key, "hour", pool.hour, "minutes", pool.minutes); pool.kept {
			out.put("{nexus}:pool:main "+key, "target", pool.target)
		}
		if pool.drained {
			out.put("{nexus}:pool:main "+key, "drained", 1)
		}
	}
}

// alignDemand tells whether two decayed counts differ only by the clock of a real server.
func (m *machine) alignDemand(field, have, want string) bool {
	if field != "hour" && field != "minutes" {
		return false
	}
	x, err := strconv.ParseFloat(have, 64)
	y, err2 := strconv.ParseFloat(want, 64)
	return err == nil && err2 == nil && math.Abs(x-y) < 0.05*y+0.001
}

// checkShelves checks what holds for shelves whatever the model says.
func (m *machine) checkShelves(t *rapid.T) {
	all, err := m.f.Shelves(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, shelf := range all {
		pool := m.ref.shelves.pool(shelf.Key)
		if shelf.Kept != pool.kept || shelf.Target != pool.target || shelf.Hits != pool.hits || shelf.Misses != pool.misses || shelf.Detours != pool.detours ||
			shelf.Failures != int(pool.failures) || shelf.Drained != pool.drained || shelf.AtLeast != pool.atLeast {
			t.Fatalf("the shelf is read as %+v, it is %+v", shelf, pool)
		}
		for i, each := range shelf.Standbys {
			switch row := m.ref.shelves.rows[each.Job]; {
			case row == nil || row.state != each.State || row.job != each.Taker || row.db != each.DB || row.template != each.Template || row.key != shelf.Key:
				t.Fatalf("%s is read as %+v, it is %+v", each.Job, each, row)
			case each.State == nexus.StandbyShelved && m.ref.shelves.popped[each.Job] != "":
				t.Fatalf("%s is on the shelf again", each.Job)
			case i > 0 && each.At.Before(shelf.Standbys[i-1].At):
				t.Fatalf("not in the order of time: %+v", shelf.Standbys)
			}
		}
	}
	for id, row := range m.ref.shelves.rows {
		if _, there := m.ref.shelves.orders[row.key][id]; there != (row.state == nexus.StandbyShelved) {
			t.Fatalf("%s is %s, and on the shelf: %t", id, row.state, there)
		}
	}
}

// timed gives the steps of a standby's job times, as a run does.
func (m *machine) timed(t *rapid.T, job *nexus.Job) {
	if job.Kind != nexus.KindStandby || job.State != nexus.Succeeded {
		return
	}
	starts := rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "starts")
	at := time.UnixMilli(m.ref.now).UTC()
	for i := range job.Steps {
		took := time.Duration(rapid.IntRange(1, 3000).Draw(t, "took")) * time.Millisecond
		job.Steps[i] = nexus.Step{Name: job.Steps[i].Name, State: nexus.StepDone, Starts: starts, StartedAt: new(at.Add(-took)), EndedAt: &at, Percent: 100}
	}
}

// standby submits a job that makes a standby.
func (m *machine) standby(t *rapid.T) {
	apps := rapid.SampledFrom([][]string{erp, erp, nil}).Draw(t, "apps")
	most := rapid.SampledFrom([]int{3, 3, 2, 1}).Draw(t, "most")
	sub := store.MakeStandby("main", nexus.Template{Name: "plain-1", Spec: nexus.TemplatePlain, Apps: apps}, "9f3c", most, []nexus.StepName{"reserve", "site", "shelve"}, 2*time.Hour)
	sub.ID = nexus.JobID(fmt.Sprintf("000%029x", len(m.subs)))
	sub.Site, sub.DB = nexus.StandbyName(sub.ID), "nx-"+string(sub.ID)
	m.record(t, sub)
}

// taker does something with a job that has popped a standby, or that may.
func (m *machine) taker(t *rapid.T) {
	fit := m.living(func(j *refJob) bool {
		leases := m.leases[j.ID]
		return len(leases) > 0 && (j.standby != "" || j.road == "" && strings.Contains(j.steps, `"company"`)) && m.ref.owned(j.ID, leases[len(leases)-1].Gen()) != nil
	})
	if len(fit) == 0 {
		t.Skip("there is none")
	}
	m.only = rapid.SampledFrom(fit).Draw(t, "taker")
	defer func() { m.only = "" }()
	do := []func(*rapid.T){m.reserve, m.reserve, m.divert, m.finish, m.checkpoint}
	if m.ref.jobs[m.only].standby == "" {
		do = do[:1]
	}
	rapid.SampledFrom(do).Draw(t, "do")(t)
}

// stockUp makes standbys before the random operations.
func (m *machine) stockUp(t *rapid.T) {
	if rapid.Bool().Draw(t, "kept") {
		m.target(t)
	}
	for range rapid.SampledFrom([]int{0, 2, 2, 4}).Draw(t, "standbys") {
		m.standby(t)
		for _, id := range m.living(func(j *refJob) bool { return j.Kind == nexus.KindStandby && j.taken == 0 }) {
			m.end(t, id)
		}
		m.check(t)
	}
}

func (m *machine) target(t *rapid.T) {
	key := rapid.SampledFrom([]string{erpKey, erpKey, bareKey}).Draw(t, "key")
	pool := m.ref.shelves.pool(key)
	if rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
		pool.kept, pool.target = false, 0
		m.want(t, "leave", answer(m.f.LeaveShelf(t.Context(), "main", key)), "")
		return
	}
	pool.kept, pool.target, m.ref.shelves.keys[key] = true, rapid.IntRange(0, 5).Draw(t, "target"), true
	m.want(t, "target", answer(m.f.SetTarget(t.Context(), "main", key, pool.target)), "")
}

// shelf does what a worker or an operator does about a shelf, or what a Redis that lost its
// last writes does.
func (m *machine) shelf(t *rapid.T) {
	rapid.SampledFrom([]func(*rapid.T){m.reap, m.reap, m.reap, m.reaped, m.reaped, m.reshelve, m.target, m.order, m.loseRow, m.loseShelves}).Draw(t, "shelf")(t)
}

func (m *machine) pickStandby(t *rapid.T) nexus.JobID {
	ids := slices.Sorted(maps.Keys(m.ref.shelves.listed))
	if len(ids) == 0 || rapid.IntRange(0, 4).Draw(t, "any") == 0 {
		for _, sub := range m.subs {
			if sub.Kind == nexus.KindStandby && m.ref.jobs[sub.ID] != nil {
				ids = append(ids, sub.ID)
			}
		}
	}
	if len(ids) == 0 {
		t.Skip("none was made")
	}
	return rapid.SampledFrom(ids).Draw(t, "standby")
}

func (m *machine) reap(t *rapid.T) {
	id := m.pickStandby(t)
	want, row := "", m.ref.shelves.rows[id]
	switch {
	case row != nil && row.state == nexus.StandbyPopped && m.ref.alive(row.job),
		(row == nil || row.state == nexus.StandbyMaking || row.state == nexus.StandbyReaping) && m.ref.alive(id):
		want = "conflict"
	default:
		m.ref.setStandby(id, nexus.StandbyReaping)
	}
	m.want(t, "reap", answer(m.f.Reap(t.Context(), id)), want)
}

func (m *machine) reaped(t *rapid.T) {
	id := m.pickStandby(t)
	if row := m.ref.shelves.rows[id]; row != nil && row.state == nexus.StandbyReaping {
		m.ref.setStandby(id, "")
	}
	m.want(t, "reaped", answer(m.f.Reaped(t.Context(), id)), "")
}

// reshelve puts one on its shelf that the bench has: no job has taken it.
func (m *machine) reshelve(t *rapid.T) {
	id := m.pickStandby(t)
	if m.ref.shelves.popped[id] != "" && m.ref.shelves.rows[id] == nil {
		t.Skip("it is not there any more")
	}
	if row := m.ref.shelves.rows[id]; !m.ref.alive(id) && (row == nil || row.state == nexus.StandbyMaking) {
		m.ref.addStandby(id, erpKey, "plain-1", "nx-"+string(id), nexus.StandbyShelved)
	}
	m.want(t, "reshelve", answer(m.f.Reshelve(t.Context(), "main", nexus.Standby{Job: id, DB: "nx-" + string(id), Template: "plain-1", Spec: nexus.TemplatePlain, Apps: erp})), "")
}

// order is an operator's word about a shelf.
func (m *machine) order(t *rapid.T) {
	pool := m.ref.shelves.pool(erpKey)
	var err error
	switch rapid.IntRange(0, 2).Draw(t, "order") {
	case 0:
		pool.atLeast, pool.until, pool.drained, pool.failures = 4, m.ref.now+hour, false, 0
		err = m.f.FillShelf(t.Context(), "main", erpKey, 4, time.Hour)
	case 1:
		pool.atLeast, pool.until, pool.drained = 0, 0, true
		err = m.f.DrainShelf(t.Context(), "main", erpKey)
	default:
		pool.detours = 0
		m.want(t, "forgive", answer(m.f.ForgiveDetours(t.Context(), "main", erpKey)), "")
		return
	}
	m.ref.shelves.keys[erpKey] = true
	m.want(t, "order", answer(err), "")
}

// loseRow deletes the row of a standby. Whoever has popped it may not be the only one then.
func (m *machine) loseRow(t *rapid.T) {
	id := m.pickStandby(t)
	delete(m.ref.shelves.rows, id)
	delete(m.ref.shelves.popped, id)
	if err := m.f.rdb.Del(t.Context(), "{nexus}:standby:"+string(id)).Err(); err != nil {
		t.Fatal(err)
	}
}

// loseShelves deletes all that is known of standbys.
func (m *machine) loseShelves(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		t.Skip("not so often")
	}
	m.ref.shelves = newRefShelves()
	for _, match := range []string{"standby:*", "standbys:*", "pool:*", "pools:*", "shelf:*"} {
		keys, err := m.f.rdb.Keys(t.Context(), "{nexus}:"+match).Result()
		if err == nil && len(keys) > 0 {
			err = m.f.rdb.Del(t.Context(), keys...).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
