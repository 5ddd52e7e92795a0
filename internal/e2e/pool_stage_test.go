//go:build service

package e2e_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// reserved is a standby in Redis.
type reserved struct{ id, bench, key, state, template, db, taker string }

func (r reserved) name() string { return string(nexus.StandbyName(nexus.JobID(r.id))) }

// standbys reads the rows of the standbys in Redis, whichever list has them.
func (s *stack) standbys() (out []reserved) {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	all := s.rdb.Scan(ctx, 0, "{nexus}:standby:*", 1000).Iterator()
	for all.Next(ctx) {
		if f := fromRedis(s.t, s.rdb.HGetAll(ctx, all.Val())); len(f) > 0 { // else it went meanwhile
			out = append(out, reserved{id: strings.TrimPrefix(all.Val(), "{nexus}:standby:"), bench: f["bench"], key: f["key"], state: f["state"],
				template: f["template"], db: f["db"], taker: f["job"]})
		}
	}
	if err := all.Err(); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// shelved waits until a shelf has n standbys, and nothing else is made, taken or dropped. It
// does not wait for the minute for which a drop that failed is left to the worker that began.
func (s *stack) shelved(n int) (all []reserved) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, "the shelf is filled, and at rest", func() bool {
		all = s.standbys()
		for _, r := range all {
			if r.state == string(nexus.StandbyReaping) {
				s.rdb.Del(s.t.Context(), "{nexus}:reap:"+r.id)
			}
		}
		return len(all) == n && !slices.ContainsFunc(all, func(r reserved) bool { return r.state != string(nexus.StandbyShelved) })
	})
	return all
}

// standby is the row of one standby; its state is empty if it is gone.
func (s *stack) standby(id string) reserved {
	s.t.Helper()
	all := s.standbys()
	if i := slices.IndexFunc(all, func(r reserved) bool { return r.id == id }); i >= 0 {
		return all[i]
	}
	return reserved{id: id}
}

// filled waits until the shelf has as many standbys as it is to have, at least n, and nothing
// else is made, taken or dropped.
func (s *stack) filled(bench string, n int) (all []reserved) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, "the shelf is full, and at rest", func() bool {
		all = s.standbys()
		return len(all) >= n && strconv.Itoa(len(all)) == s.poolField(bench, "target") &&
			!slices.ContainsFunc(all, func(r reserved) bool { return r.state != string(nexus.StandbyShelved) })
	})
	return all
}

// drained has the shelves emptied, and waits until they are.
func (s *stack) drained() {
	s.t.Helper()
	s.pool("drain")
	s.shelved(0)
}

// pool runs a command on the shelves.
func (s *stack) pool(args ...string) (stdout string) {
	s.t.Helper()
	out, errs, code := s.nexus("", append([]string{"pool"}, args...)...)
	if code != 0 {
		s.t.Fatalf("nexus pool %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// takes checks that a site was made from one of these standbys, and returns which. Its job, its
// tenant's row and the note say so, and its key opens it.
func (s *stack) takes(a gen.Accepted, from []reserved) reserved {
	s.t.Helper()
	job := s.end(a.JobId, time.Minute)
	r := s.record(a.JobId)
	i := slices.IndexFunc(from, func(each reserved) bool { return each.db == r.Fields["db"] })
	if job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadStandby) || i < 0 {
		s.t.Fatalf("%s is %s by %q with the database %q: %+v %s", a.Site, job.State, value(job.Road), r.Fields["db"], job.Error, stepNote(job, "site"))
	}
	its := from[i]
	if value(job.Template) != its.template || stepNote(job, "site") != "It was kept ready, as a copy of the template "+its.template+"." {
		s.t.Errorf("%s: the template %q, the note %q", a.Site, value(job.Template), stepNote(job, "site"))
	}
	if row, err := s.client.Tenant(s.t.Context(), a.Site); err != nil || value(row.Road) != string(nexus.RoadStandby) || value(row.Template) != its.template {
		s.t.Errorf("the row of %s: by %q of %q, %v", a.Site, value(row.Road), value(row.Template), err)
	}
	if db := s.row(a.Site, "db"); db != its.db {
		s.t.Errorf("the row of %s has the database %q, want %q", a.Site, db, its.db)
	}
	return its
}

// onClone checks that a site was made by a copy although standbys were asked for.
func (s *stack) onClone(a gen.Accepted) gen.Job {
	s.t.Helper()
	job := s.end(a.JobId, time.Minute)
	if job.State != gen.StateSucceeded || value(job.Road) != string(nexus.RoadClone) {
		s.t.Fatalf("%s is %s by %q: %+v %s", a.Site, job.State, value(job.Road), job.Error, stepNote(job, "site"))
	}
	return job
}

// poolField is a field of the only shelf in Redis.
func (s *stack) poolField(bench, field string) string {
	s.t.Helper()
	return fromRedis(s.t, s.rdb.HGet(s.t.Context(), "{nexus}:pool:"+bench+" "+plainKey, field))
}

// plainKey is the key of the shelf of the template plain with the app of most tests.
var plainKey = nexus.TemplatePlain.Key([]string{"erpnext"})

// noShelf checks that Redis has nothing of a standby but the records of the jobs.
func (s *stack) noShelf() {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	for _, pattern := range []string{"standby:*", "standbys:*", "shelf:*"} {
		if left := fromRedis(s.t, s.rdb.Keys(ctx, "{nexus}:"+pattern)); len(left) > 0 {
			s.t.Errorf("left in Redis: %v", left)
		}
	}
	for _, job := range fromRedis(s.t, s.rdb.ZRange(ctx, "{nexus}:due", 0, -1)) {
		s.t.Errorf("%s is due", job)
	}
}

// noStandbyFiles checks that the sandbox has nothing of a standby.
func (s *stack) noStandbyFiles() {
	s.t.Helper()
	for _, part := range []string{"sites", "intent"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, "sandbox", "standby", part))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			s.t.Errorf("left of standbys: %s/%s", part, e.Name())
		}
	}
}

// withoutSteps takes steps away from the record of a job that waits, as if a process of a
// former version had recorded it.
func withoutSteps(t testing.TB, s *stack, id string, names ...nexus.StepName) {
	t.Helper()
	r := s.record(id)
	kept := slices.DeleteFunc(r.Steps, func(step nexus.Step) bool { return slices.Contains(names, step.Name) })
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.rdb.HSet(t.Context(), "{nexus}:job:"+id, "steps", string(text)).Err(); err != nil {
		t.Fatal(err)
	}
}
