package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// dumped is the content of Redis: key, field, value. The field of a string is ""; the time
// at which a key expires is the field "(until)". Empty values are left out.
type dumped map[string]map[string]string

func (d dumped) put(key string, fields ...any) {
	for i := 0; i < len(fields); i += 2 {
		if text := fmt.Sprint(fields[i+1]); text != "" {
			if d[key] == nil {
				d[key] = map[string]string{}
			}
			d[key][fmt.Sprint(fields[i])] = text
		}
	}
}

// sync sets the model's clock to that of Redis.
func (m *machine) sync(t *rapid.T) {
	now, err := m.f.rdb.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	m.ref.now = now.UnixMilli() + m.ref.offset
	m.ref.expire()
}

// read returns the store's keys in Redis, without the index of all jobs and without entries
// of expired jobs in the indexes by state, since those are removed at any later time.
func (m *machine) read(t *rapid.T) dumped {
	ctx, rdb, out := t.Context(), m.f.rdb, dumped{}
	all, err := rdb.Keys(ctx, "{nexus}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	pipe := rdb.Pipeline()
	kinds, ends, values := map[string]*redis.StatusCmd{}, map[string]*redis.DurationCmd{}, map[string]redis.Cmder{}
	for _, key := range all {
		kinds[key], ends[key] = pipe.Type(ctx, key), pipe.PTTL(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for key, kind := range kinds {
		if values[key] = pipe.HGetAll(ctx, key); kind.Val() != "hash" {
			values[key] = map[string]func() redis.Cmder{
				"string": func() redis.Cmder { return pipe.Get(ctx, key) },
				"set":    func() redis.Cmder { return pipe.SMembers(ctx, key) },
				"zset":   func() redis.Cmder { return pipe.ZRangeWithScores(ctx, key, 0, -1) },
				"stream": func() redis.Cmder { return pipe.XRange(ctx, key, "-", "+") },
			}[kind.Val()]()
		}
	}
	_, _ = pipe.Exec(ctx) // HGETALL fails for a key that is not a hash; any other failure shows as a missing key below
	for key, value := range values {
		switch v := value.(type) {
		case *redis.MapStringStringCmd:
			for field, text := range v.Val() {
				out.put(key, field, text)
			}
		case *redis.StringCmd:
			out.put(key, "", v.Val())
		case *redis.StringSliceCmd:
			out.put(key, "", strings.Join(slices.Sorted(slices.Values(v.Val())), " "))
		case *redis.ZSliceCmd:
			for _, z := range v.Val() {
				out.put(key, z.Member, strconv.FormatFloat(z.Score, 'f', 0, 64))
			}
		case *redis.XMessageSliceCmd:
			for _, e := range v.Val() {
				out.put(key, e.ID, fmt.Sprint(e.Values["state"], " ", e.Values["body"]))
			}
		}
		if ttl := ends[key].Val(); ttl > 0 {
			out.put(key, "(until)", m.ref.now-m.ref.offset+ttl.Milliseconds())
		}
	}
	delete(out, "{nexus}:jobs")
	for key, fields := range out {
		if strings.HasPrefix(key, "{nexus}:jobs:") {
			if maps.DeleteFunc(fields, func(id, _ string) bool { return m.ref.jobs[nexus.JobID(id)] == nil }); len(fields) == 0 {
				delete(out, key)
			}
		}
	}
	for key := range out {
		delete(out[key], "wrote") // the mark by which a repeated write is known
		delete(out[key], "seq")   // the number of the last write
		delete(out[key], "waitKey")
		delete(out[key], "waitFrom")
	}
	return out
}

// dump returns what Redis should contain.
func (r *ref) dump() dumped {
	out := dumped{}
	for id, j := range r.jobs {
		key, num := "{nexus}:job:"+string(id), func(on bool) string { return map[bool]string{false: "0", true: "1"}[on] }
		out.put(key, "id", id, "kind", j.Kind, "site", j.Site, "actor", j.Actor, "state", j.state, "spec", text(j.Spec), "steps", j.steps,
			"bench", j.bench, "db", j.db, "owner", j.owner, "was", j.was, "giveUpAt", j.giveUp, "createdAt", j.created, "updatedAt", j.updated,
			"dispatch", j.dispatch, "taken", j.taken, "submitted", j.submitted, "gen", j.gen, "leaseUntil", j.lease, "nextAt", j.next, "rescues", j.rescues, "looks", j.looks,
			"rev", len(j.events), "cancel", num(j.cancel), "keyID", j.KeyID, "rest", j.Rest.Milliseconds(), "waitingFor", j.wait, "waitNote", j.note,
			"error", j.failure, "asked", j.asked, "road", j.road, "template", j.template, "standby", j.standby)
		if j.former != 0 {
			out.put(key, "former", j.former)
		}
		if j.askedAt != 0 {
			out.put(key, "askedAt", j.askedAt)
		}
		if j.state.Terminal() { // fields that only a live job needs
			for _, field := range []string{"former", "looks", "askedAt", "asked", "nextAt", "leaseUntil", "waitingFor", "waitNote",
				"was", "rest", "rescues", "submitted", "dispatch", "taken", "standby"} {
				delete(out[key], field)
			}
			if !j.cancel {
				delete(out[key], "cancel")
			}
			if j.state == nexus.Succeeded {
				delete(out[key], "spec")
			}
			if j.owner == id {
				delete(out[key], "owner")
			}
		}
		out.put(fmt.Sprintf("{nexus}:jobs:%s:%s", j.Kind, j.state), id, j.created)
		events := "{nexus}:events:" + string(id)
		for i, e := range j.events {
			out.put(events, fmt.Sprintf("%d-0", i+1), e)
		}
		if j.to != 0 {
			out.put(key, "(until)", j.to)
			out.put(events, "(until)", j.to)
		}
	}
	for site, t := range r.tenants {
		key := "{nexus}:tenant:" + string(site)
		out.put(key, "site", site, "state", t.state, "plan", t.plan, "email", t.email, "bench", t.bench, "db", t.db, "madeBy", t.madeBy,
			"job", t.job, "createdAt", t.created, "road", t.road, "template", t.template)
		if t.stateGen != 0 {
			out.put(key, "stateGen", t.stateGen)
		}
		if t.purge != 0 {
			out.put(key, "purgeAt", t.purge)
		}
		out.put("{nexus}:tenants", site, 0)
		out.put("{nexus}:tenants:"+string(t.state), site, 0)
	}
	for key, k := range r.keys {
		out.put("{nexus}:idem:"+key, "fingerprint", k.is[0], "job", k.is[1], "(until)", k.until)
	}
	for bucket, n := range r.rates {
		out.put("{nexus}:rate:"+bucket, "", n.is, "(until)", n.until)
	}
	for site, by := range r.resting {
		out.put("{nexus}:resting:"+string(site), "", by.is, "(until)", by.until)
	}
	for name, all := range map[string]map[nexus.JobID]*lived[string]{"input": r.inputs, "credentials": r.pairs, "pickup": r.pickups} {
		for id, l := range all {
			if out.put("{nexus}:"+name+":"+string(id), "", l.is); l.until != forever {
				out.put("{nexus}:"+name+":"+string(id), "(until)", l.until)
			}
		}
	}
	for member, at := range r.due {
		out.put("{nexus}:due", member, at)
	}
	for _, l := range r.lanes {
		for name, all := range map[string]map[nexus.JobID]int64{"slots": l.slots, "waiters": l.line, "asking": l.asking} {
			for id, at := range all {
				out.put("{nexus}:"+name+":"+l.name, id, at)
			}
		}
	}
	for id, at := range r.leases {
		out.put("{nexus}:leases", id, at)
	}
	for key, id := range r.builds {
		out.put("{nexus}:builds:", key, id)
	}
	for key, name := range r.offers {
		out.put("{nexus}:offers:main", key, name)
	}
	out.put("{nexus}:templates:main", "", r.list)
	r.dumpShelves(out)
	out.put("{nexus}:benches", "", "main")
	if out.put("{nexus}:bench:main", "slots", refSlots); r.mode != nexus.BenchOpen {
		out.put("{nexus}:bench:main", "mode", r.mode, "by", "op")
	}
	return out
}

// check compares Redis with the model after each operation.
func (m *machine) check(t *rapid.T) {
	want, got := m.ref.dump(), m.read(t)
	delete(got, "{nexus}:gen") // each gen was already compared with the model's
	if m.real {
		m.align(want, got)
	}
	m.checkShelves(t)
	if !maps.EqualFunc(want, got, maps.Equal[map[string]string, map[string]string]) { // faster than a diff of equal maps
		t.Fatalf("Redis holds something else (- model, + store):\n%s", cmp.Diff(want, got))
	}
	if m.real {
		m.sync(t)
		for tries := 0; m.ref.deadlineNear() && tries < 20; tries++ {
			m.forward(2 * nearDeadline * time.Millisecond)
		}
	}
}

// nearDeadline is for how many milliseconds a real server may read its clock later than the
// model, until the next operation is over.
const nearDeadline = 300

// deadlineNear reports whether something is due, expires or may be taken within that time: the
// model and a real server could decide differently.
func (r *ref) deadlineNear() bool {
	all := slices.AppendSeq(slices.Collect(maps.Values(r.due)), maps.Values(r.leases))
	for _, l := range r.lanes {
		all = slices.AppendSeq(all, maps.Values(l.slots))
		for id, at := range l.asking {
			all = append(all, at+90_000)
			if j := r.jobs[id]; j != nil {
				all = append(all, j.next+90_000)
			}
		}
	}
	for _, j := range r.jobs {
		all = append(all, j.to, j.giveUp, j.next, j.lease)
	}
	return slices.ContainsFunc(all, func(at int64) bool { return r.now-nearDeadline < at && at < r.now+nearDeadline })
}

// align replaces times of a real server by those of the model if they are near. A real
// server reads its clock later than the model, by seconds on a busy machine, and a test moves
// its times back instead of its clock forward. Times of the embedded Redis are compared
// exactly.
func (m *machine) align(want, got dumped) {
	const near = int64(15 * time.Second / time.Millisecond)
	for key, fields := range got {
		for field, have := range fields {
			if m.alignDemand(field, have, want[key][field]) {
				fields[field] = want[key][field]
			}
			at, err := strconv.ParseInt(have, 10, 64)
			if err != nil || at < 1e12 || at > 1e14 {
				continue
			}
			stays := field == "createdAt" || field == "updatedAt" || strings.HasPrefix(key, "{nexus}:jobs:")
			if !stays {
				at += m.ref.offset
			}
			is, err := strconv.ParseInt(want[key][field], 10, 64)
			if err == nil && (is-near < at && at < is+near || stays) {
				fields[field] = want[key][field]
			}
		}
	}
}
