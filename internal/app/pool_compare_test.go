package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestPoolReshelves: standbys that a restored registry does not know are put on their shelf.
func TestPoolReshelves(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	before := s.shelf().Standbys
	for _, pattern := range []string{"pool*", "shelf:*", "standby*"} {
		for _, key := range s.rdb.Keys(t.Context(), "{nexus}:"+pattern).Val() {
			s.rdb.Del(t.Context(), key)
		}
	}
	s.want("when all is lost", 0, 0, 2)
	w.compare()
	w.tend()
	w.tend()
	s.want("after one round", 0, 2, 2)
	by := func(a, b nexus.ShelfStandby) int { return strings.Compare(string(a.Job), string(b.Job)) }
	after := s.shelf().Standbys
	slices.SortFunc(before, by)
	slices.SortFunc(after, by)
	for i := range before {
		if b, a := before[i], after[i]; b.Job != a.Job || b.DB != a.DB || b.Template != a.Template {
			t.Errorf("before %+v, after %+v", b, a)
		}
	}
	if _, job := s.signup(); job.Standby == "" {
		t.Error("a signup got no standby")
	}
}

// TestPoolGone: a standby that is gone from the bench is no longer on the shelf.
func TestPoolGone(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	gone := s.shelf().Standbys[0]
	if _, err := s.Run(t.Context(), nexus.Op{Site: nexus.StandbyName(gone.Job), Room: nexus.RoomStandby, DB: gone.DB, Owner: gone.Job,
		Gen: nexus.Gen(time.Now().UnixMicro()), Args: nexus.DropSite{}}); err != nil {
		t.Fatal(err)
	}
	w.compare()
	w.tend()
	s.want("after one round", 1, 1, 1)
	for _, each := range s.shelf().Standbys {
		if each.Job == gone.Job {
			t.Errorf("it is still %s", each.State)
		}
	}
}

// TestPoolUpgraded: standbys that the bench's new apps make useless are dropped in the second
// round, unless the upgrade was taken back.
func TestPoolUpgraded(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	s.open(t, "16.2.0")
	w.list()
	w.compare()
	w.tend()
	s.want("at first", 0, 2, 2)
	s.open(t, "16.1.0")
	w.compare()
	s.open(t, "16.2.0")
	w.compare()
	w.tend()
	s.want("after it was taken back", 0, 2, 2)
	w.compare()
	w.tend()
	s.want("in the end", 0, 0, 0)
	if len(s.shelf().Standbys) > 0 {
		t.Errorf("left: %+v", s.shelf())
	}
}

// TestPoolUpgradedUnknown: the same for those that the registry does not know.
func TestPoolUpgradedUnknown(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	s.rdb.FlushAll(t.Context())
	if err := s.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	s.open(t, "16.2.0")
	w.compare()
	s.want("at first", 0, 0, 2)
	w.compare()
	s.want("in the second round", 0, 0, 0)
}

// TestPoolForeign: a standby whose database is not its job's is left to an operator.
func TestPoolForeign(t *testing.T) {
	t.Parallel()
	s, w := full(t, "2")
	s.rdb.FlushAll(t.Context())
	if err := s.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	s.open(t, "16.2.0")
	s.foreign = true
	for range 3 {
		w.compare()
	}
	if len(s.drops) > 0 {
		t.Errorf("dropped %v", s.drops)
	}
}

// TestPoolDoubts: three signups that could not use their standbys make a worker compare at
// once.
func TestPoolDoubts(t *testing.T) {
	t.Parallel()
	s, w := full(t, "4")
	w.round()
	for _, each := range s.shelf().Standbys {
		if _, err := s.Run(t.Context(), nexus.Op{Site: nexus.StandbyName(each.Job), Room: nexus.RoomStandby, DB: each.DB, Owner: each.Job,
			Gen: nexus.Gen(time.Now().UnixMicro()), Args: nexus.DropSite{}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		lease, job := s.signup()
		if _, err := lease.Divert(t.Context(), job.ID.Database(install), plainKey); err != nil {
			t.Fatal(err)
		}
		w.round()
		w.round()
		if shelf := s.shelf(); (shelf.Count(nexus.StandbyShelved) == 0) != (i == 2) || i == 2 && shelf.Detours != 0 {
			t.Errorf("after %d: %+v", i+1, shelf)
		}
	}
}

// TestPoolLeaves: a shelf without a template of its key is left.
func TestPoolLeaves(t *testing.T) {
	t.Parallel()
	s := newShop(t, "2")
	if err := s.store.SetTarget(t.Context(), "main", "plain erpnext hrms", 2); err != nil {
		t.Fatal(err)
	}
	w := s.worker()
	w.tend()
	shelves, err := s.store.Shelves(t.Context(), "main")
	if got := fmt.Sprint(shelves[0].Kept, shelves[1].Kept); err != nil || got != "true false" {
		t.Errorf("kept: %s, %v", got, err)
	}
}
