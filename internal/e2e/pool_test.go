//go:build service

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestPool fills a shelf, empties it by signups, drains it and fills it again. A signup gets a
// standby while there is one, then a copy. Nothing is left of a standby that was taken or
// dropped.
func TestPool(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_APPS=erpnext", "NEXUS_TEMPLATES=plain")
	builder := s.worker()
	eventually(t, 30*time.Second, "the worker has built a template", func() bool {
		all := s.templates()
		return len(all) == 1 && all[0].Offered
	})
	builder.end(syscall.SIGTERM)
	worker := s.worker("NEXUS_POOL=2-4") // it lists the templates at its start
	accepted := s.signedUpFromShelf(s.filled("sandbox", 2))

	worker.end(syscall.SIGTERM)
	accepted = append(accepted, s.moreThanShelved()...)

	s.drained()
	s.noShelf()
	s.noStandbyFiles()
	s.shown("0 ready, kept: true")
	drained := s.signup("drained", "jane@example.com")
	s.onClone(drained)
	s.pool("fill", "--members", "5", "--for", "1h")
	all := s.shelved(5)
	s.shown(`5 ready, kept: true`)
	s.workers[len(s.workers)-1].end(syscall.SIGTERM)

	s.startWorkers(1) // on the sandbox it keeps none
	s.warmed()
	for i := range len(all) {
		a := s.signup(fmt.Sprintf("last-%d", i), "jane@example.com")
		s.takes(a, all)
		accepted = append(accepted, a)
	}
	none := s.signup("none-left", "jane@example.com")
	s.onClone(none)
	accepted = append(accepted, drained, none)
	s.keysOpenTheirOwn(accepted)
	s.ownDatabases(accepted)
	s.noShelf()
	s.noStandbyFiles()
	s.sound()
}

// warmed waits until a worker of an idle bench has warmed a standby. It looks at the bench when
// it starts, then once a minute.
func (s *stack) warmed() {
	s.t.Helper()
	eventually(s.t, 4*time.Minute, "a standby is warm", func() bool {
		files, _ := filepath.Glob(filepath.Join(s.dir, "sandbox", "standby", "sites", "*"))
		return slices.ContainsFunc(files, func(path string) bool {
			text, _ := os.ReadFile(path)
			var site struct{ Warm bool }
			return json.Unmarshal(text, &site) == nil && site.Warm
		})
	})
}

// signedUpFromShelf signs up for two sites, one after the other, of which each gets a standby,
// the oldest first. The shelf grows with the signups.
func (s *stack) signedUpFromShelf(shelf []reserved) (accepted []gen.Accepted) {
	s.t.Helper()
	for _, name := range []string{"first", "second"} {
		a := s.signup(name, "jane@example.com")
		s.takes(a, shelf)
		accepted = append(accepted, a)
	}
	s.keysOpenTheirOwn(accepted)
	if hits, misses := s.poolField("sandbox", "hits"), s.poolField("sandbox", "misses"); hits != "2" || misses != "" {
		s.t.Errorf("%s hits and %q misses are counted", hits, misses)
	}
	for _, r := range s.filled("sandbox", 2) {
		if slices.Contains(shelf, r) {
			s.t.Errorf("%s is on the shelf again, or still", r.name())
		}
	}
	s.sound()
	return accepted
}

// moreThanShelved signs up for more sites than there are standbys, before there is a worker.
// Those that get none are copied, and each of both is counted. It leaves a worker.
func (s *stack) moreThanShelved() (accepted []gen.Accepted) {
	s.t.Helper()
	for i := range 12 {
		accepted = append(accepted, s.signup(fmt.Sprintf("many-%02d", i), "jane@example.com"))
	}
	s.env = append(s.env, "NEXUS_POOL=2-4")
	s.startWorkers(1)
	s.env = s.env[:len(s.env)-1]
	roads := map[string]int{}
	for _, a := range accepted {
		job := s.end(a.JobId, time.Minute)
		roads[value(job.Road)]++
		if job.State != gen.StateSucceeded {
			s.t.Errorf("%s is %s: %+v", a.Site, job.State, job.Error)
		}
	}
	kept, copied := roads[string(nexus.RoadStandby)], roads[string(nexus.RoadClone)]
	if kept < 2 || copied == 0 || kept+copied != len(accepted) {
		s.t.Errorf("made by %v", roads)
	}
	if hits, misses := s.poolField("sandbox", "hits"), s.poolField("sandbox", "misses"); hits != strconv.Itoa(2+kept) || misses != strconv.Itoa(copied) {
		s.t.Errorf("%s hits and %s misses are counted, made by %v", hits, misses, roads)
	}
	if full := s.filled("sandbox", 4); len(full) != 4 {
		s.t.Errorf("%d standbys after many signups, of 4 at most", len(full))
	}
	return accepted
}

// shown checks that the command and the API tell the same of the only shelf.
func (s *stack) shown(want string) {
	s.t.Helper()
	benches, err := s.client.Benches(s.t.Context())
	if err != nil || len(benches.Benches) != 1 || len(benches.Benches[0].Pool) != 1 {
		s.t.Fatalf("%+v, %v", benches, err)
	}
	var list struct{ Shelves []gen.Shelf }
	if err := json.Unmarshal([]byte(s.pool("show", "-o", "json")), &list); err != nil || !reflect.DeepEqual(list.Shelves, benches.Benches[0].Pool) {
		s.t.Errorf("nexus pool show: %+v, GET /benches: %+v, %v", list, benches.Benches[0].Pool, err)
	}
	its := benches.Benches[0].Pool[0]
	if got := fmt.Sprintf("%d ready, kept: %t", its.Shelved, its.Kept); got != want || its.Making+its.Popped+its.Reaping > 0 {
		s.t.Errorf("the shelf is shown as %+v, want %s", its, want)
	}
}

// ownDatabases checks that no two sites of the sandbox have the same database.
func (s *stack) ownDatabases(all []gen.Accepted) {
	s.t.Helper()
	of := map[string]string{}
	for _, a := range all {
		db := s.record(a.JobId).Fields["db"]
		if other := of[db]; db == "" || other != "" {
			s.t.Errorf("%s and %s have the database %q", a.Site, other, db)
		}
		of[db] = a.Site
		if _, err := os.Stat(s.dir + "/sandbox/intent/" + a.Site); err == nil {
			s.t.Errorf("%s: an intent is left", a.Site)
		}
	}
}
