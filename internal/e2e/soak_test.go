//go:build service

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

var soakJobs = flag.Int("soak", 0, "jobs of TestSoak; 0: as many as come in a minute and a half")

const (
	soakPeople  = 40
	soakShort   = 90 * time.Second
	soakLongest = 40 * time.Minute
)

// soak is many tenants that come and go on a system that breaker breaks. It records
// every accepted job, and so knows what must exist at the end.
type soak struct {
	*stack
	redis *redisServer
	until time.Time
	most  int  // jobs; 0: no limit
	pool  bool // workers keep standbys

	mu     sync.Mutex
	jobs   map[string]string          // the kind of every accepted job
	there  map[string]gen.Credentials // the key of every site that must work
	ends   map[string]int             // kind and state → how many
	faults map[string]int
}

// TestSoak makes and removes tenants, the templates that they are copied from, and copies that
// are kept for them on shelves, while
// workers, APIs and Redis are killed, frozen and replaced at random. No job is lost, none is done twice, nothing is left, and the
// doctor finds nothing.
func TestSoak(t *testing.T) {
	k := newSoak(t)
	chaos := k.breakThings()
	var people sync.WaitGroup
	for who := range soakPeople {
		people.Go(func() { k.person(who) })
	}
	people.Go(k.builder)
	people.Go(k.shopkeeper)
	people.Wait()
	chaos.rest()
	k.noShelves()
	k.settle()
	k.report()
	k.nothingLost()
	k.nothingTwice()
	k.nothingLeft()
	k.noTemplates()
	k.sound()
}

func newSoak(t *testing.T) *soak {
	pool := rand.IntN(4) > 0
	size := "0"
	if pool {
		size = fmt.Sprintf("%d-%d", rand.IntN(3), 3+rand.IntN(8))
	}
	t.Logf("NEXUS_POOL=%s", size)
	s, r := frailStack(t, "", "NEXUS_POOL="+size, "NEXUS_SANDBOX_DELAY=20ms", "NEXUS_APPS=erpnext", "NEXUS_LOG_LEVEL=warn", "NEXUS_DELETE_GRACE=24h")
	api := freeAddr(t)
	s.env = append(s.env, "NEXUS_SANDBOX_DIR="+filepath.Join(s.dir, "sandbox"), "NEXUS_HTTP_ADDR="+api)
	s.server = start(t, s.log, append(s.env, "NEXUS_LOG_LEVEL=info", "NEXUS_SANDBOX_ADDR=127.0.0.1:0"), filepath.Join(binaries, "nexus"), "sandbox")
	s.sites = listening(t, s.log, "nexus sandbox started", "sandbox")
	s.env = append(s.env, "NEXUS_SANDBOX_ADDR="+s.sites)
	s.api = "http://" + api
	s.client = client.New(s.api, operator)
	t.Cleanup(s.client.Close)
	k := &soak{stack: s, redis: r, until: time.Now().Add(soakShort), most: *soakJobs, pool: pool,
		jobs: map[string]string{}, there: map[string]gen.Credentials{}, ends: map[string]int{}, faults: map[string]int{}}
	if k.most > 0 {
		k.until = time.Now().Add(soakLongest)
	}
	return k
}

// more reports whether another tenant may be made.
func (k *soak) more() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.t.Failed() && time.Now().Before(k.until) && (k.most == 0 || len(k.jobs) < k.most)
}

// person makes one tenant after the other, sometimes with a name that became free.
func (k *soak) person(who int) {
	name, again := "", false
	for n := 0; k.more(); n++ {
		if !again {
			name = fmt.Sprintf("p%02d-%d", who, n)
		}
		gone := k.tenancy(name, fmt.Sprintf("%s-%d", name, n))
		again = gone && rand.IntN(3) == 0
	}
}

// mailbox returns the e-mail of the next signup, most of them without a fault. A stuck
// rollback takes two minutes until it is parked, so none begins late.
func (k *soak) mailbox() string {
	ill := []string{"flaky-site", "flaky-apps", "flaky-verify", "full-bench", "fail-site", "fail-apps", "fail-user", "fail-plan",
		"fail-key", "fail-verify"}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Until(k.until) > soakShort*3/4 && (k.most == 0 || len(k.jobs) < k.most/2) {
		ill = append(ill, "stuck-undo")
	}
	if rand.IntN(6) > 0 {
		return "well"
	}
	return ill[rand.IntN(len(ill))]
}

// tenancy is the life of one tenant, from the signup to the end of its last job. Gone:
// its name is free again.
func (k *soak) tenancy(name, key string) (gone bool) {
	email := k.mailbox()
	a, err := insist(k, func() (gen.Accepted, error) {
		return k.client.Signup(k.t.Context(), person(name, email+"+"+key+"@example.com"), key)
	})
	if err != nil {
		k.t.Errorf("signup of %s: %v", name, err)
		return false
	}
	k.promised(a.JobId, "provision")
	if rand.IntN(10) == 0 {
		pass(rand.N(400 * time.Millisecond))
		if _, err := insist(k, func() (gen.Job, error) { return k.client.Cancel(k.t.Context(), a.JobId, nexus.Secret(a.ClaimToken)) }); err != nil && nexus.CodeOf(err) != nexus.Conflict {
			k.t.Errorf("cancel of %s: %v", name, err)
		}
	}
	job := k.over(a.JobId)
	switch {
	case job.State != gen.StateSucceeded:
		return job.State == gen.StateFailed || job.State == gen.StateCanceled
	case email == "fail-apps" && value(job.Road) == string(nexus.RoadStandby): // its apps were there
	case strings.HasPrefix(email, "fail") || email == "stuck-undo":
		k.t.Errorf("%s of %s succeeded", name, email)
	}
	if job.Road != nil {
		k.count("road", *job.Road)
	}
	k.opens(a.Site, a.JobId, a.ClaimToken)
	for !gone && rand.IntN(5) > 0 && k.more() {
		gone = k.change(a.Site)
	}
	return gone
}

// change does one more operation on a tenant.
func (k *soak) change(site string) (gone bool) {
	key := fmt.Sprintf("%s-%x", site, rand.Uint64())
	switch rand.IntN(4) {
	case 0:
		a, err := insist(k, func() (gen.Accepted, error) { return k.client.RotateKey(k.t.Context(), site, key) })
		if err != nil {
			k.t.Errorf("rotation on %s: %v", site, err)
			return false
		}
		k.promised(a.JobId, "rotate_key")
		old := k.key(site)
		if job := k.over(a.JobId); job.State != gen.StateSucceeded {
			k.t.Errorf("the rotation on %s is %s: %+v", site, job.State, job.Error)
			return false
		}
		k.opens(site, a.JobId, a.ClaimToken)
		if got := logged(k.t, "http://"+k.sites, site, old); got != http.StatusUnauthorized {
			k.t.Errorf("the old key of %s: %d", site, got)
		}
	case 1:
		if k.operate("suspend", http.MethodDelete, "/tenants/"+site, key) == gen.StateSucceeded {
			k.operate("restore", http.MethodPost, "/tenants/"+site+"/restore", key+"-back")
		}
	default:
		k.forget(site)
		if gone = k.operate("teardown", http.MethodDelete, "/tenants/"+site+"?purge=now", key) == gen.StateSucceeded; !gone {
			k.t.Errorf("%s was not removed", site)
		}
	}
	return gone
}

// operate runs an operator's job, without the client, which sends no idempotency key
// here.
func (k *soak) operate(kind, method, path, key string) gen.State {
	job, err := insist(k, func() (job gen.Job, err error) {
		a := k.call(method, path, "", "Authorization", "Bearer "+operator, "Idempotency-Key", key)
		switch {
		case a.err != nil || a.status == http.StatusServiceUnavailable:
			return job, &nexus.Error{Code: nexus.Unavailable, Msg: "not now", Err: a.err}
		case a.status != http.StatusAccepted:
			return job, fmt.Errorf("%d %s", a.status, a.body)
		}
		return job, json.Unmarshal(a.body, &job)
	})
	if err != nil {
		k.t.Errorf("%s %s: %v", method, path, err)
		return ""
	}
	k.promised(job.Id, kind)
	return k.over(job.Id).State
}

// insist repeats a request until there is an answer, with the same idempotency key.
func insist[T any](k *soak, ask func() (T, error)) (out T, err error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if out, err = ask(); nexus.CodeOf(err) != nexus.Unavailable || k.t.Context().Err() != nil {
			return out, err
		}
		if time.Now().After(k.until.Add(10 * time.Minute)) {
			return out, fmt.Errorf("no answer came any more: %w", err)
		}
		pass(wait + rand.N(wait))
	}
}

// over waits for the end of a job. A parked job is resumed, as by an operator who has
// mended the cause.
func (k *soak) over(id string) (job gen.Job) {
	ctx, cancel := context.WithDeadline(k.t.Context(), k.until.Add(10*time.Minute))
	defer cancel()
	for ctx.Err() == nil {
		job, err := insist(k, func() (gen.Job, error) {
			job, _, _, err := k.client.Job(ctx, id, "", 5*time.Second)
			return job, err
		})
		switch {
		case err != nil:
			k.t.Errorf("job %s: %v", id, err)
			return job
		case job.State == gen.StateRollbackFailed:
			k.count(string(job.Kind), "parked")
			if _, err := insist(k, func() (gen.Job, error) { return k.client.Resume(ctx, id) }); err != nil && nexus.CodeOf(err) != nexus.Conflict {
				k.t.Errorf("resume of %s: %v", id, err)
			}
		case job.State == gen.StateSucceeded, job.State == gen.StateFailed, job.State == gen.StateCanceled:
			k.count(string(job.Kind), string(job.State))
			if job.State != gen.StateSucceeded && (job.Error == nil || job.Error.Message == "") {
				k.t.Errorf("job %s is %s without a word", id, job.State)
			}
			return job
		}
	}
	k.t.Errorf("job %s did not end: %s", id, job.State)
	return job
}

// opens picks up a key, and checks that it opens its site.
func (k *soak) opens(site, job, claim string) {
	pair, err := insist(k, func() (gen.Credentials, error) {
		return k.client.Credentials(k.t.Context(), job, nexus.Secret(claim), "pick-up")
	})
	if err != nil {
		k.t.Errorf("credentials of %s: %v", site, err)
		return
	}
	k.mu.Lock()
	k.there[site] = pair
	k.mu.Unlock()
	if got := logged(k.t, "http://"+k.sites, site, pair); got != http.StatusOK {
		k.t.Errorf("the key of %s: %d", site, got)
	}
}

func (k *soak) key(site string) gen.Credentials {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.there[site]
}

func (k *soak) forget(site string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.there, site)
}

func (k *soak) promised(id, kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if was, ok := k.jobs[id]; ok {
		k.t.Errorf("the job %s was promised twice: as %s and as %s", id, was, kind)
	}
	k.jobs[id] = kind
}

func (k *soak) count(kind, end string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends[kind+" "+end]++
}

// report prints what was done and which faults happened.
func (k *soak) report() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, table := range []map[string]int{k.ends, k.faults} {
		for _, what := range slices.SortedFunc(maps.Keys(table), func(a, b string) int { return cmp.Compare(table[b], table[a]) }) {
			k.t.Logf("%6d  %s", table[what], what)
		}
	}
	k.t.Logf("%6d  jobs in all, %d sites are there", len(k.jobs), len(k.there))
	if k.most > 0 && len(k.jobs) < k.most {
		k.t.Errorf("%d jobs were asked for, and %d came about in time", k.most, len(k.jobs))
	}
	for _, must := range []string{"provision succeeded", "provision failed", "teardown succeeded", "rotate_key succeeded", "restore succeeded",
		"template succeeded", "road clone", "road new-site", "road standby"} {
		if k.ends[must] == 0 && (k.pool || must != "road standby") {
			k.t.Errorf("no %s: this showed too little", must)
		}
	}
	if well := k.ends["provision succeeded"]; 2*well < k.ends["provision failed"]+k.ends["provision canceled"] {
		k.t.Errorf("only %d signups came to anything", well)
	}
}
