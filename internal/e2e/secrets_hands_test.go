//go:build service

package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// pickUp picks up a job's credentials without the client.
func (s *stack) pickUp(job, token, key string) answer {
	s.t.Helper()
	return s.call("POST", "/jobs/"+job+"/credentials", "{}", "Authorization", "Bearer "+token, "Idempotency-Key", key)
}

// TestSecretsWrongHands asks for credentials without a right to them. The answers do not
// even show whether there is such a job.
func TestSecretsWrongHands(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=300ms")
	other := s.signup("other", "other@example.com")
	failed := s.signup("failed", "fail-plan@example.com")
	mine := s.signup("mine", "mine@example.com")
	early := s.pickUp(mine.JobId, mine.ClaimToken, "first")
	if early.status != http.StatusConflict || early.header.Get("Retry-After") == "" {
		t.Errorf("before the end: %d, Retry-After %q", early.status, early.header.Get("Retry-After"))
	}
	for _, a := range []gen.Accepted{other, failed, mine} {
		s.end(a.JobId, time.Minute)
	}

	unknown := s.pickUp(string(nexus.NewJobID()), mine.ClaimToken, "first")
	changed := []byte(mine.ClaimToken)
	changed[len(changed)/2] ^= 1
	for name, a := range map[string]answer{
		"a guessed job id":      unknown,
		"another job's token":   s.pickUp(mine.JobId, other.ClaimToken, "first"),
		"a token of one letter": s.pickUp(mine.JobId, "x", "first"),
		"no token":              s.call("POST", "/jobs/"+mine.JobId+"/credentials", "{}", "Idempotency-Key", "first"),
		"one bit another":       s.pickUp(mine.JobId, string(changed), "first"),
		"a part of the token":   s.pickUp(mine.JobId, mine.ClaimToken[:len(mine.ClaimToken)-1], "first"),
		"the job's id":          s.pickUp(mine.JobId, mine.JobId, "first"),
	} {
		if a.status != http.StatusNotFound || detail(a) != detail(unknown) {
			t.Errorf("with %s: %d %s", name, a.status, a.body)
		}
	}
	if a := s.call("POST", "/jobs/"+mine.JobId+"/cancel", "", "Authorization", "Bearer "+other.ClaimToken); a.status/100 != 4 {
		t.Errorf("cancel with another job's token: %d %s", a.status, a.body)
	}
	first, again := s.pickUp(mine.JobId, mine.ClaimToken, "first"), s.pickUp(mine.JobId, mine.ClaimToken, "first")
	if first.status != http.StatusOK || again.status != http.StatusOK || string(first.body) != string(again.body) {
		t.Errorf("the pick-up and its repetition: %d, %d", first.status, again.status)
	}
	if a := s.pickUp(mine.JobId, mine.ClaimToken, "second"); a.status != http.StatusGone || strings.Contains(string(a.body), "apiSecret") {
		t.Errorf("a second pick-up: %d %s", a.status, a.body)
	}
	if a := s.pickUp(failed.JobId, failed.ClaimToken, "first"); a.status != http.StatusGone {
		t.Errorf("of a failed job: %d %s", a.status, a.body)
	}
}

func detail(a answer) string {
	var p gen.Problem
	_ = json.Unmarshal(a.body, &p) // other answers have no detail
	return value(p.Detail)
}

// TestSecretsRotation introduces a new sealing key, in the API first. Jobs and
// credentials under the old key stay readable, and new ones are sealed with the new key.
func TestSecretsRotation(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0)
	_, old := nexus.NewKeyring() // its id is k1, like that of the stack's key
	_, fresh := nexus.NewKeyring()
	oldKey, newKey := strings.Replace(old.Reveal(), "k1:", "old:", 1), strings.Replace(fresh.Reveal(), "k1:", "new:", 1)
	keys := func(list ...string) string { return "NEXUS_SECRET_KEYS=" + strings.Join(list, ",") }

	api := s.anotherAPI(keys(oldKey))
	worker := s.worker(keys(oldKey))
	done := s.signup("done", "done@example.com")
	s.end(done.JobId, time.Minute)
	worker.end(os.Interrupt)
	queued := s.signup("queued", "queued@example.com")

	api.end(os.Interrupt)
	api = s.anotherAPI(keys(newKey, oldKey))
	if replay := s.signup("done", "done@example.com"); replay != done {
		t.Errorf("the same request under the new key: %+v, was %+v", replay, done)
	}
	under := s.signup("under", "under@example.com")
	for id, want := range map[string]string{done.JobId: "old", queued.JobId: "old", under.JobId: "new"} {
		if got := s.record(id).Fields["keyID"]; got != want {
			t.Errorf("a job is sealed under %q, want %q", got, want)
		}
	}
	behind := s.worker(keys(oldKey))
	if job := s.end(queued.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("the old job on the old worker is %s: %+v", job.State, job.Error)
	}
	eventually(t, 30*time.Second, "readyz says that a worker lacks a key", func() bool {
		a := s.call("GET", "/readyz", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(string(a.body), `new`)
	})
	if r := s.record(under.JobId); r.State != nexus.Queued {
		t.Errorf("a worker without its key has touched the job: %s", r.State)
	}
	behind.end(os.Interrupt)
	worker = s.worker(keys(newKey, oldKey))
	if job := s.end(under.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("the new job is %s: %+v", job.State, job.Error)
	}
	for _, a := range []gen.Accepted{done, queued, under} {
		pair, err := s.client.Credentials(t.Context(), a.JobId, nexus.Secret(a.ClaimToken), "pick-up")
		if err != nil {
			t.Errorf("%s: %v", a.Site, err)
			continue
		}
		if got := logged(t, "http://"+s.sites, a.Site, pair); got != http.StatusOK {
			t.Errorf("%s: its key answers %d", a.Site, got)
		}
	}
	api.end(os.Interrupt)
	worker.end(os.Interrupt)
}

// anotherAPI starts an API with its own environment, of which later entries win, and
// calls it from then on.
func (s *stack) anotherAPI(env ...string) *process {
	s.t.Helper()
	log := &logs{also: s.log}
	p := start(s.t, log, slices.Concat(s.env, env), filepath.Join(binaries, "api"))
	s.api = listening(s.t, log, "api started", "api")
	s.client = client.New(s.api, operator)
	s.t.Cleanup(s.client.Close)
	return p
}
