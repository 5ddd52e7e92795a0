//go:build service

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const crowd200 = 200

// outcome is one answer to a signup.
type outcome struct {
	gen.Accepted
	err error
}

// rush sends signups at once, to two APIs in turn.
func rush(t *testing.T, apis []*client.Client, n int, ask func(i int) (gen.SignupRequest, string)) []outcome {
	t.Helper()
	out := make([]outcome, n)
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() {
			body, key := ask(i)
			out[i].Accepted, out[i].err = apis[i%len(apis)].Signup(t.Context(), body, key)
		})
	}
	all.Wait()
	return out
}

func person(name, email string) gen.SignupRequest {
	return gen.SignupRequest{Email: email, Password: "Passw0rdXyz", FullName: "Jane Doe", OrganizationName: "Jane " + name, Subdomain: &name}
}

// distinct returns the different jobs among answers, and counts refusals by their text.
func distinct(answers []outcome) (jobs []string, refused map[string]int) {
	refused = map[string]int{}
	for _, a := range answers {
		var status *client.Refusal
		switch {
		case a.err == nil && !slices.Contains(jobs, a.JobId):
			jobs = append(jobs, a.JobId)
		case errors.As(a.err, &status):
			refused[status.Status]++
		case a.err != nil:
			refused[a.err.Error()]++
		}
	}
	return jobs, refused
}

// TestFaultSubmitsAtOnce sends two hundred signups at once for one name, with one
// idempotency key, with one key and other bodies, by other callers, and for the same
// company.
func TestFaultSubmitsAtOnce(t *testing.T) {
	s := newStack(t, 1, "NEXUS_APPS=erpnext", "NEXUS_TOKENS=op:operate:"+operator+",shop:signup:token-of-the-shop,form:signup:token-of-the-form")
	first := s.client
	s.startAPI()
	apis := []*client.Client{first, s.client}

	jobs, refused := distinct(rush(t, apis, crowd200, func(i int) (gen.SignupRequest, string) {
		return person("one-name", fmt.Sprintf("p%d@example.com", i)), fmt.Sprintf("k-%d", i)
	}))
	if len(jobs) != 1 || refused["409 Conflict"] != crowd200-1 {
		t.Errorf("one name: %d jobs, refused %v", len(jobs), refused)
	}
	same := rush(t, apis, crowd200, func(int) (gen.SignupRequest, string) { return person("one-key", "one@example.com"), "one" })
	jobs, refused = distinct(same)
	if len(jobs) != 1 || len(refused) > 0 || slices.ContainsFunc(same, func(o outcome) bool { return o.Accepted != same[0].Accepted }) {
		t.Errorf("one key: %d jobs, refused %v", len(jobs), refused)
	}
	jobs, refused = distinct(rush(t, apis, crowd200, func(i int) (gen.SignupRequest, string) {
		return person("one-key", fmt.Sprintf("other%d@example.com", i)), "one"
	}))
	if len(jobs) != 0 || refused["422 Unprocessable Entity"] != crowd200 {
		t.Errorf("one key with another body: %d jobs, refused %v", len(jobs), refused)
	}
	mixed := rush(t, apis, crowd200, func(i int) (gen.SignupRequest, string) {
		return person(fmt.Sprintf("mixed-%d", i%2), "mixed@example.com"), "mixed"
	})
	if jobs, refused = distinct(mixed); len(jobs) != 1 || refused["422 Unprocessable Entity"] != crowd200/2 {
		t.Errorf("one key, two bodies, new to both: %d jobs, refused %v", len(jobs), refused)
	}
	jobs, refused = distinct(rush(t, apis, 20, func(int) (gen.SignupRequest, string) {
		return gen.SignupRequest{Email: "jane@example.com", Password: "Passw0rdXyz", FullName: "Jane", OrganizationName: "Twenty of One"}, ""
	}))
	if len(jobs) != 20 {
		t.Errorf("one company, twenty times: %d jobs, refused %v", len(jobs), refused)
	}
	s.others(t)
	s.allEnd(t)
	s.sound()
}

// others uses one idempotency key as callers of every kind: each has jobs of its own,
// and callers without a token are distinguished by their e-mail.
func (s *stack) others(t *testing.T) {
	t.Helper()
	var callers []*client.Client
	for _, token := range []nexus.Secret{operator, "token-of-the-shop", "token-of-the-form", "", ""} {
		callers = append(callers, client.New(s.api, token))
		t.Cleanup(callers[len(callers)-1].Close)
	}
	answers := rush(t, callers, crowd200, func(i int) (gen.SignupRequest, string) {
		who := i % len(callers)
		return person(fmt.Sprintf("caller-%d", who), fmt.Sprintf("caller%d@example.com", who)), "shared"
	})
	jobs, refused := distinct(answers)
	if len(jobs) != len(callers) || len(refused) > 0 {
		t.Errorf("five callers with one key: %d jobs, refused %v", len(jobs), refused)
	}
	for _, id := range jobs {
		if job := s.end(id, time.Minute); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	pair, err := s.client.Credentials(t.Context(), answers[0].JobId, nexus.Secret(answers[1].ClaimToken), "x")
	if err == nil {
		t.Errorf("one caller's claim token opens another's credentials: %+v", pair.Site)
	}
}

// TestFaultAPIKilledInBurst kills the API with SIGKILL at random moments of a burst,
// several times. With its idempotency key each signup finds its one job again. Without
// one there is no half-recorded job and no blocked name: every recorded job ends, and
// every other name is free.
func TestFaultAPIKilledInBurst(t *testing.T) {
	s := newStack(t, 1, "NEXUS_APPS=erpnext")
	const rounds, each = 8, 40
	keyed, answered, free := map[string]string{}, 0, 0
	for round := range rounds {
		log := &logs{also: s.log}
		api := start(t, log, s.env, binaries+"/api")
		caller := client.New(listening(t, log, "api started", "api"), operator)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		answers := make([]outcome, each)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				name, key := burstName(round, i)
				answers[i].Accepted, answers[i].err = caller.Signup(ctx, person(name, name+"@example.com"), key)
			})
		}
		<-time.After(rand.N(time.Duration(round+1) * 40 * time.Millisecond)) // later in each round, since a busy machine answers late
		api.end(syscall.SIGKILL)
		all.Wait()
		cancel()
		caller.Close()
		for i, a := range answers {
			if name, _ := burstName(round, i); a.err == nil {
				keyed[name] = a.JobId
				answered++
			}
		}
	}
	t.Logf("%d of %d signups were answered before the kill", answered, rounds*each)
	if answered == 0 || answered == rounds*each {
		t.Error("no kill hit a burst, so this showed nothing")
	}
	for round := range rounds {
		for i := range each {
			free += s.asFound(round, i, keyed)
		}
	}
	s.allEnd(t)
	t.Logf("%d names had stayed free", free)
	s.sound()
}

// burstName is a signup of a round; every second one has an idempotency key.
func burstName(round, i int) (name, key string) {
	name = fmt.Sprintf("burst-%d-%02d", round, i)
	if i%2 == 0 {
		key = "key-of-" + name
	}
	return name, key
}

// asFound repeats a signup whose answer was lost. It returns 1 if the name was free.
func (s *stack) asFound(round, i int, known map[string]string) (free int) {
	s.t.Helper()
	name, key := burstName(round, i)
	row, err := s.client.Tenant(s.t.Context(), name+".localhost")
	if nexus.CodeOf(err) == nexus.NotFound {
		free = 1
	}
	again, err := s.client.Signup(s.t.Context(), person(name, name+"@example.com"), key)
	switch {
	case key != "" && (err != nil || known[name] != "" && again.JobId != known[name]):
		s.t.Errorf("%s: its key finds job %q (%v), want %q", name, again.JobId, err, known[name])
	case key == "" && free == 0 && nexus.CodeOf(err) != nexus.Conflict:
		s.t.Errorf("%s was taken by %+v, and is given away: %v", name, row, err)
	case free == 1 && (err != nil || known[name] != ""):
		s.t.Errorf("%s was free after the answer %q: %v", name, known[name], err)
	}
	return free
}

// allEnd checks that every job in Redis succeeds, that each tenant's row has its job and
// each job its tenant, and that the due index is empty.
func (s *stack) allEnd(t *testing.T) {
	t.Helper()
	rows := map[string]string{} // job → site
	eventually(t, 60*time.Second, "nothing is due any more", func() bool {
		n, err := s.rdb.ZCard(t.Context(), "{nexus}:due").Result()
		return err == nil && n == 0
	})
	for _, site := range fromRedis(t, s.rdb.ZRange(t.Context(), "{nexus}:tenants", 0, -1)) {
		row := fromRedis(t, s.rdb.HGetAll(t.Context(), "{nexus}:tenant:"+site))
		if row["state"] != "active" || row["job"] != "" {
			t.Errorf("%s: %v", site, row)
		}
		rows[row["madeBy"]] = site
	}
	ids := fromRedis(t, s.rdb.ZRange(t.Context(), "{nexus}:jobs", 0, -1))
	for _, id := range ids {
		if r := s.record(id); r.State != nexus.Succeeded || rows[id] != r.Fields["site"] {
			t.Errorf("job %s of %s is %s, and the tenant is %q", id, r.Fields["site"], r.State, rows[id])
		}
	}
	for _, key := range fromRedis(t, s.rdb.Keys(t.Context(), "{nexus}:job:*")) {
		if !slices.Contains(ids, strings.TrimPrefix(key, "{nexus}:job:")) {
			t.Errorf("half a job: %s", key)
		}
	}
	if len(rows) != len(ids) {
		t.Errorf("%d tenants, %d jobs", len(rows), len(ids))
	}
}
