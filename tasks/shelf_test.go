package tasks_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestSizes: what the formula gives for the cases that it is made for.
func TestSizes(t *testing.T) {
	t.Parallel()
	wide, usual := tasks.ShelfLimits{Most: 1000}, tasks.ShelfLimits{Least: 2, Most: 20}
	build := 2400 * time.Millisecond
	after := func(d nexus.Demand, passed time.Duration) nexus.Demand { return d.Decayed(d.Hour, d.Minutes, passed) }
	one, crowd := nexus.Demand{Hour: 1, Minutes: 1, Build: build}, nexus.Demand{Hour: 50, Minutes: 50, Build: build}
	steady := func(hour float64) nexus.Demand { return nexus.Demand{Hour: hour, Minutes: hour / 12, Build: build} }
	for _, tc := range []struct {
		name   string
		demand nexus.Demand
		limits tasks.ShelfLimits
		want   int
	}{
		{"no signups", nexus.Demand{}, usual, 2},
		{"no signups, and no floor", nexus.Demand{}, wide, 0},
		{"one a day, just now", one, wide, 2},
		{"one a day, a quarter of an hour ago", after(one, 15*time.Minute), wide, 1},
		{"one a day, an hour ago", after(one, time.Hour), wide, 0},
		{"one a day with a floor", after(one, time.Hour), usual, 2},
		{"one a minute", steady(60), wide, 6},
		{"1,500 an hour", steady(1500), wide, 128},
		{"1,500 an hour with a ceiling", steady(1500), usual, 20},
		{"1,500 an hour with slow builds", nexus.Demand{Hour: 1500, Minutes: 125, Build: 30 * time.Second}, wide, 145},
		{"a crowd, just now", crowd, wide, 52},
		{"a crowd, five minutes ago", after(crowd, 5*time.Minute), wide, 20},
		{"a crowd, a quarter of an hour ago", after(crowd, 15*time.Minute), wide, 3},
		{"a crowd, an hour ago", after(crowd, time.Hour), wide, 1},
		{"a crowd, six hours ago", after(crowd, 6*time.Hour), wide, 0},
		{"as many as there is room for", steady(1500), tasks.ShelfLimits{Least: 2, Most: 20, Bytes: 10 << 30, Each: 3 << 30}, 3},
		{"less room than the floor", steady(1500), tasks.ShelfLimits{Least: 2, Most: 20, Bytes: 1 << 30, Each: 3 << 30}, 0},
		{"a size that is not known", steady(1500), tasks.ShelfLimits{Least: 2, Most: 20, Bytes: 1 << 30}, 20},
		{"a floor above the ceiling", nexus.Demand{}, tasks.ShelfLimits{Least: 9, Most: 4}, 4},
		{"none at all", steady(1500), tasks.ShelfLimits{}, 0},
		{"no count of five minutes", nexus.Demand{Hour: 1500, Minutes: math.NaN(), Build: build}, wide, 3},
		{"no count of an hour", nexus.Demand{Hour: math.NaN(), Minutes: 125, Build: build}, wide, 128},
		{"a count below zero", nexus.Demand{Hour: 1500, Minutes: -100, Build: build}, wide, 3},
		{"a build time that is not known", nexus.Demand{Hour: 1500, Minutes: 125}, wide, 130},
		{"a build time below zero", nexus.Demand{Hour: 1500, Minutes: 125, Build: -time.Hour}, wide, 130},
	} {
		if got := tasks.Size(tc.demand, tc.limits); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// anyCount draws a count of signups, also one that is none.
func anyCount() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.Float64Range(0, 5000), rapid.Float64(), rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}))
}

// TestSizeProperties: within the limits whatever the numbers are, the floor without demand,
// and never less for more demand, slower builds, or a higher ceiling.
func TestSizeProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		build := rapid.OneOf(rapid.Int64Range(1, int64(time.Minute)), rapid.Int64())
		d := nexus.Demand{Hour: anyCount().Draw(t, "hour"), Minutes: anyCount().Draw(t, "minutes"), Build: time.Duration(build.Draw(t, "build"))}
		l := tasks.ShelfLimits{Least: rapid.IntRange(0, 60).Draw(t, "least"), Most: rapid.IntRange(0, 60).Draw(t, "most"),
			Bytes: rapid.Int64Range(0, 20<<30).Draw(t, "bytes"), Each: rapid.Int64Range(0, 1<<30).Draw(t, "each")}
		size := tasks.Size(d, l)
		switch {
		case size < 0, size > l.Most:
			t.Fatalf("%d, of at most %d", size, l.Most)
		case l.Each > 0 && int64(size)*l.Each > l.Bytes:
			t.Fatalf("%d of %d bytes take more than %d", size, l.Each, l.Bytes)
		case size < l.Least && size < l.Most && (l.Each == 0 || int64(size+1)*l.Each <= l.Bytes):
			t.Fatalf("%d, of at least %d", size, l.Least)
		}
		if none := tasks.Size(nexus.Demand{Build: d.Build}, l); none > size || none > l.Least {
			t.Fatalf("%d without demand, %d with it", none, size)
		}
		more := map[string]int{}
		grown, wider, each := d, l, rapid.Float64Range(0, 100).Draw(t, "more")
		grown.Hour = max(d.Hour, 0) + each // NaN stays
		more["more in an hour"] = tasks.Size(grown, l)
		grown = d
		grown.Minutes = max(d.Minutes, 0) + each
		more["more in five minutes"] = tasks.Size(grown, l)
		if grown = d; d.Build > 0 && d.Build < time.Hour {
			grown.Build += time.Duration(each * float64(time.Second))
			more["slower builds"] = tasks.Size(grown, l)
		}
		wider.Most += int(each)
		more["a higher ceiling"] = tasks.Size(d, wider)
		wider = l
		wider.Bytes += int64(each) << 20
		more["more room"] = tasks.Size(d, wider)
		for what, got := range more {
			if got < size {
				t.Fatalf("%s: %d, before %d", what, got, size)
			}
		}
	})
}

// anyShelf draws a shelf in any state.
func anyShelf(t *rapid.T) nexus.Shelf {
	s := nexus.Shelf{Bench: "main", Key: "plain", Now: time.Unix(1_790_000_000, 0), Drained: rapid.IntRange(0, 4).Draw(t, "drained") == 0}
	ago := func(most time.Duration) time.Time {
		return s.Now.Add(-time.Duration(rapid.Int64Range(int64(-time.Minute), int64(most)).Draw(t, "ago")))
	}
	if s.Failures = rapid.SampledFrom([]int{0, 0, 0, 1, 3, 9, 1 << 40}).Draw(t, "failures"); s.Failures > 0 {
		s.FailedAt = ago(time.Hour)
	}
	if rapid.Bool().Draw(t, "filled") {
		s.AtLeast, s.Until = rapid.IntRange(0, 12).Draw(t, "at least"), ago(time.Hour)
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "standbys") {
		state := rapid.SampledFrom([]nexus.StandbyState{nexus.StandbyMaking, nexus.StandbyShelved, nexus.StandbyShelved, nexus.StandbyShelved, nexus.StandbyPopped, nexus.StandbyReaping}).Draw(t, "state")
		s.Standbys = append(s.Standbys, nexus.ShelfStandby{Job: id(i), State: state, At: ago(50 * time.Hour)})
	}
	slices.SortStableFunc(s.Standbys, func(a, b nexus.ShelfStandby) int { return a.At.Compare(b.At) })
	return s
}

func id(i int) nexus.JobID { return nexus.JobID(fmt.Sprintf("%032x", i)) }

// TestShelfWork: never more than the size, never more than four at once, none while a shelf
// is drained or after failures; what is reaping is always dropped, and beyond that one old
// standby at a time, when nothing else is to be done.
func TestShelfWork(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, size := anyShelf(t), rapid.IntRange(0, 12).Draw(t, "size")
		w := tasks.ShelfWorkOf(s, size)
		making, shelved, reaping := s.Count(nexus.StandbyMaking), s.Count(nexus.StandbyShelved), s.Count(nexus.StandbyReaping)
		want := size
		if s.Now.Before(s.Until) {
			want = max(size, s.AtLeast)
		}
		pause := s.Failures > 0 && s.Now.Sub(s.FailedAt) < min(15*time.Second<<min(s.Failures, 20), 30*time.Minute)
		switch {
		case w.Make < 0, w.Make > 0 && making+shelved+w.Make > want, w.Make > 0 && making+w.Make > 4:
			t.Fatalf("makes %d, of %d, beside %d and %d on the shelf", w.Make, want, making, shelved)
		case w.Make > 0 && (s.Drained || pause):
			t.Fatalf("makes %d: drained %t, in a pause %t", w.Make, s.Drained, pause)
		case w.Make == 0 && !s.Drained && !pause && making < 4 && making+shelved < want:
			t.Fatalf("makes none, of %d, beside %d and %d on the shelf", want, making, shelved)
		}
		dropped := map[nexus.StandbyState]int{}
		for _, each := range w.Drop {
			if dropped[each.State]++; each.State == nexus.StandbyShelved && !s.Drained && (s.Now.Sub(each.At) < 24*time.Hour || making > 0 || w.Make > 0 || reaping > 0 || pause) {
				t.Fatalf("renews %+v beside %d that are made, %d more, %d that are dropped, in a pause %t", each, making, w.Make, reaping, pause)
			}
		}
		renewed := dropped[nexus.StandbyShelved]
		switch {
		case dropped[nexus.StandbyReaping] != reaping, dropped[nexus.StandbyMaking] > 0, dropped[nexus.StandbyPopped] > 0, !s.Drained && renewed > 1:
			t.Fatalf("drops %v", dropped)
		case s.Drained && renewed != shelved:
			t.Fatalf("drained: drops %d of %d", renewed, shelved)
		case renewed == 1 && !s.Drained: // the oldest
			if oldest := s.Standbys[slices.IndexFunc(s.Standbys, func(e nexus.ShelfStandby) bool { return e.State == nexus.StandbyShelved })]; w.Drop[0] != oldest {
				t.Fatalf("renews %+v before %+v", w.Drop[0], oldest)
			}
		}
	})
}

// TestRenewal: a full shelf of old standbys is renewed one by one.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := nexus.Shelf{Now: time.Unix(1_790_000_000, 0)}
	for i := range 3 {
		s.Standbys = append(s.Standbys, nexus.ShelfStandby{Job: id(i), State: nexus.StandbyShelved, At: s.Now.Add(-25 * time.Hour)})
	}
	if w := tasks.ShelfWorkOf(s, 3); w.Make != 0 || len(w.Drop) != 1 || w.Drop[0].Job != id(0) {
		t.Errorf("begins with %+v", w)
	}
	s.Standbys = s.Standbys[1:]
	if w := tasks.ShelfWorkOf(s, 3); w.Make != 1 || len(w.Drop) > 0 {
		t.Errorf("goes on with %+v", w)
	}
	s.Failures, s.FailedAt = 1, s.Now
	if w := tasks.ShelfWorkOf(s, 3); w.Make != 0 || len(w.Drop) > 0 {
		t.Errorf("after a failure: %+v", w)
	}
	s.Now = s.Now.Add(30 * time.Second)
	if w := tasks.ShelfWorkOf(s, 3); w.Make != 1 {
		t.Errorf("after the pause: %+v", w)
	}
}

// TestCompareShelves: what each pair of a bench's word and the registry's leads to, while no
// job works on it.
func TestCompareShelves(t *testing.T) {
	t.Parallel()
	const missing, good, ill = "missing", "good", "ill"
	for _, tc := range []struct {
		bench string
		row   nexus.StandbyState // empty: none
		want  string
	}{
		{good, "", "reshelve"}, {good, nexus.StandbyMaking, "reshelve"}, {good, nexus.StandbyShelved, ""}, {good, nexus.StandbyPopped, "drop"}, {good, nexus.StandbyReaping, "drop"},
		{ill, "", "drop"}, {ill, nexus.StandbyMaking, "drop"}, {ill, nexus.StandbyShelved, "drop"}, {ill, nexus.StandbyPopped, "drop"}, {ill, nexus.StandbyReaping, "drop"},
		{missing, nexus.StandbyMaking, "drop"}, {missing, nexus.StandbyShelved, "drop"}, {missing, nexus.StandbyPopped, "drop"}, {missing, nexus.StandbyReaping, "drop"},
	} {
		for _, works := range []nexus.JobID{"", maker, job} {
			row := nexus.ShelfStandby{Job: maker, DB: "nx1", Template: "plain-1", State: tc.row}
			want := tc.want
			if works == maker || works == job && tc.row == nexus.StandbyPopped {
				want = ""
			}
			if tc.row == nexus.StandbyPopped {
				row.Taker = job
			}
			shelves := []nexus.Shelf{{Key: "plain other"}, {Key: "plain", Standbys: []nexus.ShelfStandby{row}}}
			if tc.row == "" {
				shelves = shelves[:1]
			}
			there := nexus.Standby{Name: nexus.StandbyName(maker), Job: maker, DB: "nx1", Template: "plain-1"}
			listed := []nexus.Standby{there}
			switch tc.bench {
			case missing:
				listed = nil
			case ill:
				listed[0].Problem = "It is not whole."
			}
			reshelve, drop := tasks.CompareShelves(listed, shelves, func(id nexus.JobID) bool {
				if id == "" {
					t.Error("asked for a job without an id")
				}
				return id == works
			})
			wantReshelve, wantDrop := []nexus.Standby(nil), []nexus.Standby(nil)
			switch {
			case want == "reshelve":
				wantReshelve = listed
			case want == "drop" && tc.bench == missing:
				wantDrop = []nexus.Standby{there}
			case want == "drop":
				wantDrop = listed
			}
			if diff := cmp.Diff([][]nexus.Standby{wantReshelve, wantDrop}, [][]nexus.Standby{reshelve, drop}); diff != "" {
				t.Errorf("%s on the bench, %q in the registry, the job %q at work: %s", tc.bench, tc.row, works, diff)
			}
		}
	}
}

// TestCompareShelvesProperties: nothing that a job works on, and nothing that is on the shelf
// on both sides, is touched; nothing is both put on the shelf and dropped, also if the bench
// names a job twice or names none.
func TestCompareShelvesProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var listed []nexus.Standby
		problems := map[nexus.JobID]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "listed") {
			each := nexus.Standby{Job: rapid.SampledFrom([]nexus.JobID{id(0), id(1), id(2), id(3), id(4), id(5), "", "0"}).Draw(t, "job"), Problem: rapid.SampledFrom([]string{"", "", "It is not whole."}).Draw(t, "problem")}
			problems[each.Job] = problems[each.Job] || each.Problem != ""
			listed = append(listed, each)
		}
		shelf := anyShelf(t)
		alive := map[nexus.JobID]bool{}
		rows := map[nexus.JobID]nexus.ShelfStandby{}
		for i, each := range shelf.Standbys {
			if each.State == nexus.StandbyPopped {
				shelf.Standbys[i].Taker = id(100 + i)
				alive[id(100+i)] = rapid.Bool().Draw(t, "taker")
			}
			alive[each.Job] = rapid.IntRange(0, 3).Draw(t, "maker") == 0
			rows[each.Job] = shelf.Standbys[i]
		}
		reshelve, drop := tasks.CompareShelves(listed, []nexus.Shelf{shelf}, func(id nexus.JobID) bool { return alive[id] })
		did := map[nexus.JobID]string{}
		for what, all := range map[string][]nexus.Standby{"reshelve": reshelve, "drop": drop} {
			for _, each := range all {
				if before := did[each.Job]; before != "" && before != what {
					t.Fatalf("%s: %s and %s", each.Job, before, what)
				}
				did[each.Job] = what
				row, found := rows[each.Job]
				onBench := slices.ContainsFunc(listed, func(s nexus.Standby) bool { return s.Job == each.Job })
				switch {
				case !each.Job.Valid(), alive[each.Job], found && alive[row.Taker]:
					t.Fatalf("%s %s, which a job works on", what, each.Job)
				case found && row.State == nexus.StandbyShelved && onBench && !problems[each.Job]:
					t.Fatalf("%s %s, which is on the shelf", what, each.Job)
				case what == "reshelve" && (!onBench || problems[each.Job]):
					t.Fatalf("reshelve %s, which the bench does not have whole", each.Job)
				}
			}
		}
	})
}
