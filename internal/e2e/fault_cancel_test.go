//go:build service

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestFaultCancelRaces cancels many jobs at random moments, a third of them as close to
// the commit point as possible. Each job is either canceled and leaves nothing, or it
// succeeds, its key works, and its cancel was refused.
func TestFaultCancelRaces(t *testing.T) {
	s := newStack(t, 2, "NEXUS_SANDBOX_DELAY=40ms", "NEXUS_CONCURRENCY=32", "NEXUS_APPS=erpnext")
	const jobs = 150
	accepted := make([]gen.Accepted, jobs)
	refused := make([]error, jobs)
	var all sync.WaitGroup
	for i := range jobs {
		accepted[i] = s.signup(fmt.Sprintf("race-%03d", i), fmt.Sprintf("race%d@example.com", i))
		all.Go(func() {
			s.aim(accepted[i].JobId, i%3 == 0)
			_, refused[i] = s.client.Cancel(t.Context(), accepted[i].JobId, nexus.Secret(accepted[i].ClaimToken))
		})
	}
	all.Wait()
	outcomes := map[string]int{}
	for i, a := range accepted {
		job := s.end(a.JobId, time.Minute)
		outcomes[string(job.State)+" "+string(nexus.CodeOf(refused[i]))]++
		s.oneOutcome(a, job, refused[i])
	}
	if outcomes["canceled "] == 0 || outcomes["succeeded conflict"] == 0 {
		t.Errorf("this race had but one winner and showed nothing: %v", outcomes)
	}
	t.Logf("outcomes: %v", outcomes)
	s.sound()
}

// aim waits for a random moment of a job, or for one around its last step.
func (s *stack) aim(id string, late bool) {
	if late {
		for tick, until := time.NewTicker(2*time.Millisecond), time.Now().Add(20*time.Second); ; <-tick.C {
			if state := s.rdb.HGet(s.t.Context(), "{nexus}:job:"+id, "steps").Val(); time.Now().After(until) ||
				strings.Contains(state, `["activate","started"`) || strings.Contains(state, `["activate","done"`) {
				break
			}
		}
		<-time.After(rand.N(60 * time.Millisecond))
		return
	}
	<-time.After(rand.N(700 * time.Millisecond))
}

func (s *stack) oneOutcome(a gen.Accepted, job gen.Job, refused error) {
	s.t.Helper()
	pair, err := s.client.Credentials(s.t.Context(), a.JobId, nexus.Secret(a.ClaimToken), "pick-up")
	switch {
	case job.State == gen.StateCanceled && refused == nil:
		if err == nil {
			s.t.Errorf("%s was canceled, and gave a key away", a.Site)
		}
		s.freed(a.Site)
	case job.State == gen.StateSucceeded && nexus.CodeOf(refused) == nexus.Conflict:
		if err != nil || logged(s.t, "http://"+s.sites, a.Site, pair) != http.StatusOK {
			s.t.Errorf("%s succeeded, and its key does not work: %v", a.Site, err)
		}
	default:
		s.t.Errorf("%s is %s (%+v), and the cancel was answered with %v", a.Site, job.State, job.Error, refused)
	}
}

// TestFaultBusyNames sends requests that a live job on the name forbids.
func TestFaultBusyNames(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=1s", "NEXUS_APPS=erpnext")
	made := s.signup("busy", "busy@example.com")
	eventually(t, 20*time.Second, "it is being made", func() bool { return s.record(made.JobId).step("site").State == nexus.StepStarted })
	if _, err := s.client.Delete(t.Context(), made.Site, true); nexus.CodeOf(err) != nexus.Conflict {
		t.Errorf("a teardown while it is being made: %v", err)
	}
	if _, err := s.client.Delete(t.Context(), made.Site, false); nexus.CodeOf(err) != nexus.Conflict {
		t.Errorf("a suspension while it is being made: %v", err)
	}
	if job := s.end(made.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Fatalf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	let := s.lock(&staged{Accepted: made}) // the teardown lasts until all are answered
	if let == nil {
		t.Fatal("the site is in use")
	}
	var all sync.WaitGroup
	downs, errs := make([]gen.Job, 50), make([]error, 50)
	for i := range downs {
		all.Go(func() { downs[i], errs[i] = s.client.Delete(t.Context(), made.Site, true) })
	}
	all.Wait()
	down := ""
	for i, err := range errs {
		switch {
		case err == nil && down == "":
			down = downs[i].Id
		case nexus.CodeOf(err) != nexus.Conflict:
			t.Errorf("one of fifty teardowns: %+v, %v", downs[i], err)
		}
	}
	eventually(t, 10*time.Second, "the teardown began", func() bool { return s.record(down).State == nexus.Running })
	let()
	name, over := "busy", false
	eventually(t, 30*time.Second, "the name is free again", func() bool {
		_, err := s.client.Signup(t.Context(), gen.SignupRequest{Email: "joe@example.com", Password: "Passw0rdXyz",
			FullName: "Joe", OrganizationName: "Busy", Subdomain: &name}, "joe")
		_, denied := s.client.Cancel(t.Context(), down, operator)
		over = s.record(down).State == nexus.Succeeded
		switch {
		case nexus.CodeOf(denied) != nexus.Conflict:
			t.Fatalf("a teardown that has begun was canceled: %v", denied)
		case err == nil && !over:
			t.Fatal("the name was given away while it is being torn down")
		case err != nil && nexus.CodeOf(err) != nexus.Conflict:
			t.Fatal(err)
		}
		return err == nil
	})
	row, err := s.client.Tenant(t.Context(), made.Site)
	if err != nil || !over {
		t.Fatalf("the name's next owner: %+v, %v", row, err)
	}
	eventually(t, time.Minute, "the name's next owner has its site", func() bool {
		row, err = s.client.Tenant(t.Context(), made.Site)
		return err == nil && row.State == "active"
	})
	s.sound()
}

// TestFaultRoomToCleanUp removes a tenant while its bench is full and signups wait for a
// slot. A clean-up job has a slot of its own and does not wait behind signups.
func TestFaultRoomToCleanUp(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=200ms", "NEXUS_APPS=erpnext", "NEXUS_BENCH_SLOTS=1")
	old := s.signup("old", "old@example.com")
	s.end(old.JobId, time.Minute)
	slow := &staged{Accepted: s.signup("slow", "slow-site@example.com"), step: "site"}
	s.hold([]*staged{slow})
	var waiting []gen.Accepted
	for i := range 3 {
		waiting = append(waiting, s.signup(fmt.Sprintf("waits-%d", i), fmt.Sprintf("waits%d@example.com", i)))
	}
	eventually(t, 10*time.Second, "three wait for room", func() bool { return s.rdb.ZCard(t.Context(), "{nexus}:waiters:sandbox").Val() == 3 })
	down := s.removal(old.Site, "drop")
	if job := s.end(down.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	if !s.there(slow) {
		t.Error("the teardown came only after what is new")
	}
	slow.let()
	leaving := append(waiting, slow.Accepted)
	for _, a := range leaving {
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	if _, err := s.client.SetBench(t.Context(), "sandbox", "pause"); err != nil {
		t.Fatal(err)
	}
	var later []gen.Accepted
	for i := range 3 {
		later = append(later, s.signup(fmt.Sprintf("later-%d", i), fmt.Sprintf("later%d@example.com", i)))
	}
	eventually(t, 10*time.Second, "three wait for the bench", func() bool { return s.rdb.ZCard(t.Context(), "{nexus}:waiters:sandbox").Val() == 3 })
	var downs []*staged
	for _, a := range leaving {
		downs = append(downs, s.removal(a.Site, "drop"))
	}
	eventually(t, 20*time.Second, "one teardown after the other is done", func() bool {
		return !slices.ContainsFunc(downs, func(j *staged) bool { return s.record(j.JobId).State != nexus.Succeeded })
	})
	s.reopened(later)
}

// reopened resumes the paused bench: all signups that waited for it succeed.
func (s *stack) reopened(waiting []gen.Accepted) {
	s.t.Helper()
	if _, err := s.client.SetBench(s.t.Context(), "sandbox", "resume"); err != nil {
		s.t.Fatal(err)
	}
	for _, a := range waiting {
		if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
			s.t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	s.keysOpenTheirOwn(waiting)
	s.sound()
}

// TestFaultCancelOnPausedBench cancels a job whose site is half made on a paused bench:
// the rollback does not wait for the bench.
func TestFaultCancelOnPausedBench(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=100ms", "NEXUS_APPS=erpnext", "NEXUS_BENCH_SLOTS=1")
	a := s.signup("paused", "down-verify@example.com")
	eventually(t, 20*time.Second, "it waits for the bench", func() bool { return s.record(a.JobId).State == nexus.Waiting })
	if _, err := s.client.SetBench(t.Context(), "sandbox", "pause"); err != nil {
		t.Fatal(err)
	}
	var waiting []gen.Accepted
	for i := range 3 {
		waiting = append(waiting, s.signup(fmt.Sprintf("waits-%d", i), fmt.Sprintf("waits%d@example.com", i)))
	}
	line := "{nexus}:waiters:sandbox"
	eventually(t, 70*time.Second, "all four stand in line", func() bool { return s.rdb.ZCard(t.Context(), line).Val() == 4 })
	// It was first in the queue. As the last one it shows that an undo does not wait for others.
	last := float64(time.Now().Add(time.Minute).UnixMilli())
	if err := s.rdb.ZAddXX(t.Context(), line, redis.Z{Score: last, Member: a.JobId}).Err(); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	if _, err := s.client.Cancel(t.Context(), a.JobId, nexus.Secret(a.ClaimToken)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the canceled job is undone", func() bool { return s.record(a.JobId).State == nexus.Canceled })
	t.Logf("undone on a paused bench %s after the cancel", time.Since(asked))
	s.freed(a.Site)
	s.reopened(waiting)
}
