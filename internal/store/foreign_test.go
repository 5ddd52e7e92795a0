package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestTakeLeavesForeignJobs: a worker takes only jobs whose kind, steps, bench and sealing key
// it knows. A job that it leaves is unchanged. A job that is going to be rolled back needs no
// key.
func TestTakeLeavesForeignJobs(t *testing.T) {
	t.Parallel()
	able := store.Able{Bench: "main", Steps: []string{"provision/one", "provision/two", "suspend/one"}, Keys: []string{"k10", "k2"}}
	with := func(change func(*store.Able)) store.Able {
		other := able
		change(&other)
		return other
	}
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, tc := range []struct {
			name string
			able store.Able
			key  string
			set  []any  // fields of the record, after the submission
			why  string // empty: it is taken
		}{
			{name: "all known", able: able, key: "k2"},
			{name: "a job without a key", able: with(func(a *store.Able) { a.Keys = nil })},
			{name: "no bench yet", able: with(func(a *store.Able) { a.Bench = "north" }), key: "k2"},
			{name: "any bench", able: with(func(a *store.Able) { a.Bench = "" }), key: "k2", set: []any{"bench", "south"}},
			{name: "another bench", able: able, key: "k2", set: []any{"bench", "south"}, why: "it is on the bench south, not on main"},
			{name: "another kind", able: with(func(a *store.Able) { a.Steps = []string{"suspend/one", "suspend/two"} }), key: "k2", why: "unknown kind provision"},
			{name: "another step", able: with(func(a *store.Able) { a.Steps = []string{"provision/one", "suspend/two", "provision/twofold"} }), key: "k2", why: "unknown step two"},
			{name: "another step, as a former version stored it", able: able, key: "k2", set: []any{"steps", `[{"name":"one","state":"pending"},{"name":"three","state":"pending"}]`}, why: "unknown step three"},
			{name: "another key", able: able, key: "k1", why: "unknown key k1"},
			{name: "another key, canceled", able: able, key: "k1", set: []any{"cancel", "1"}},
			{name: "another key, rolling back", able: able, key: "k1", set: []any{"state", "rolling_back"}},
			{name: "another key, out of time", able: able, key: "k1", set: []any{"giveUpAt", "1"}},
		} {
			sub := submission(nexus.SiteName("s" + string(nexus.NewJobID())[:8] + ".localhost"))
			sub.KeyID = tc.key
			job := f.submit(t, sub)
			if tc.set != nil {
				if err := f.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), tc.set...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			before := f.dump(t)
			_, _, taken, err := f.Take(t.Context(), job.ID, job.Dispatch, &tc.able)
			foreign, left := errors.AsType[*store.ForeignError](err)
			switch {
			case tc.why == "":
				if err != nil || taken != store.TakeOK {
					t.Errorf("%s: %q, %v", tc.name, taken, err)
				}
			case !left || foreign.Why != tc.why || !foreign.Since.Equal(job.UpdatedAt.Truncate(time.Millisecond)):
				t.Errorf("%s: %q, %v, %+v", tc.name, taken, err, foreign)
			default:
				if diff := cmp.Diff(before, f.dump(t)); diff != "" {
					t.Errorf("%s: the job was changed:\n%s", tc.name, diff)
				}
			}
		}
	})
}

// TestTakeOfAnUnreadableRecord: a worker that cannot read a job's record keeps neither its
// lease nor a slot, and this counts as no rescue, however often it happens. The next version
// can do the job.
func TestTakeOfAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, state := range []nexus.State{nexus.Waiting, nexus.RollingBack} {
			job := f.submit(t, submission(nexus.SiteName(string(state[:4])+".localhost")))
			key := "{nexus}:job:" + string(job.ID)
			set := func(fields ...any) {
				if err := f.rdb.HSet(t.Context(), key, fields...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			spec := f.rdb.HGet(t.Context(), key, "spec").Val()
			set("bench", "main", "state", string(state), "spec", `{"email":["of tomorrow"]}`)
			for range 7 {
				dispatch, err := f.rdb.HGet(t.Context(), key, "dispatch").Int64()
				if err != nil {
					t.Fatal(err)
				}
				if _, _, _, err = f.Take(t.Context(), job.ID, dispatch, nil); nexus.CodeOf(err) != nexus.Internal {
					t.Fatalf("it was read: %v", err)
				}
				if n := f.rdb.ZCard(t.Context(), "{nexus}:slots:main").Val() + f.rdb.ZCard(t.Context(), "{nexus}:leases").Val(); n != 0 {
					t.Errorf("%s: it keeps %d leases and slots", state, n)
				}
				f.advance(time.Minute + time.Second)
				f.tick(t)
			}
			set("spec", spec)
			if now := f.job(t, job.ID); now.State != state || now.Rescues != 0 || len(now.Steps) != len(job.Steps) {
				t.Errorf("%s: it became %+v", state, now)
			}
			lease, _ := f.take(t, job.ID)
			if err := lease.GiveUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.rdb.Del(t.Context(), "{nexus}:slots:main")
		}
	})
}

// TestTakeBringsTheInput: the lease has the sealed input of the signup, and none once it is
// gone.
func TestTakeBringsTheInput(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		sub := submission("acme.localhost")
		sub.Input = "k1:sealed"
		lease, job := f.take(t, f.submit(t, sub).ID)
		if lease.Input() != "k1:sealed" {
			t.Errorf("the input is %q", lease.Input())
		}
		if err := f.rdb.Del(t.Context(), "{nexus}:input:"+string(job.ID)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := lease.GiveUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		if lease, _ = f.take(t, job.ID); lease.Input() != "" {
			t.Errorf("the input is gone, and comes as %q", lease.Input())
		}
	})
}
