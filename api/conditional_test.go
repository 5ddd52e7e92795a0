package api_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConditionalJob: a poll waits for a change also if a proxy has changed the tag. If it
// were answered at once, the client would ask again at once.
func TestConditionalJob(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(""))
	path := "/jobs/" + job["jobId"].(string)
	_, header, _ := s.ask("GET", path, "")
	tag := header.Get("ETag")
	rev, _, _ := strings.Cut(tag, "-")
	for name, match := range map[string][]string{"as it was": {tag}, "weak": {"W/" + tag}, "in a list": {`"x", W/` + tag + `,"y"`}, "any": {"*"}, "in two lines": {`"x"`, tag},
		"the rev alone": {rev + `"`}, "the rev alone, weak, in a list": {`"x",W/` + rev + `"`}} {
		headers := []string{}
		for _, line := range match {
			headers = append(headers, "If-None-Match", line)
		}
		if status, _, _ := s.lines("GET", path, headers...); status != http.StatusNotModified {
			t.Errorf("%s: %d", name, status)
		}
		started := time.Now()
		if status, _, _ := s.lines("GET", path+"?wait=200ms", headers...); status != http.StatusNotModified || time.Since(started) < 200*time.Millisecond {
			t.Errorf("%s, waiting: %d after %s", name, status, time.Since(started))
		}
	}
	for name, match := range map[string]string{"another": `"0"`, "without quotes": strings.Trim(tag, `"`), "nothing in a list": ", ,", "a part": tag[:2],
		"the rev at another time": rev + `-1"`, "the rev without quotes": rev[1:]} {
		if status, _, _ := s.ask("GET", path+"?wait=20s", "", "If-None-Match", match); status != http.StatusOK {
			t.Errorf("%s: %d", name, status)
		}
	}
	_, header, _ = s.lines("GET", "/ui/app.js")
	if status, _, _ := s.lines("GET", "/ui/app.js", "If-None-Match", strings.TrimPrefix(header.Get("ETag"), "W/")); status != http.StatusNotModified {
		t.Errorf("a file of the page: %d", status)
	}
}

// lines sends a request with headers in several lines.
func (s *server) lines(method, path string, headers ...string) (status int, header http.Header, body []byte) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	if body, err = io.ReadAll(response.Body); err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, response.Header, body
}

// TestJobAfterLostWrites: a job whose last writes Redis has lost, and which was changed
// otherwise since, is shown as it is now, also to a caller who has seen it at the same rev.
func TestJobAfterLostWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"lost"}`))
	job, _ := body["jobId"].(string)
	_, before, _ := s.ask("GET", "/jobs/"+job, "")
	s.redis.HSet("{nexus}:job:"+job, "state", "running", "updatedAt", "1790000000001")
	for path, known := range map[string]string{"/jobs/" + job: "", "/jobs/" + job + "?": before.Get("ETag"), "/jobs/" + job + "?wait=20s": before.Get("ETag")} {
		if status, _, body := s.ask("GET", path, "", "If-None-Match", known); body["state"] != "running" {
			t.Errorf("%s, known as %s: %d, shown as %v", path, known, status, body["state"])
		}
	}
}

// TestPreferences checks how long a signup waits, by the header of its answer.
func TestPreferences(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k")
	s.finish(job["jobId"].(string), nexus.Succeeded)
	for prefer, want := range map[string]string{
		"wait=5": "wait=5", "Wait=5": "wait=5", "wait=5; foo": "wait=5", "wait = 5;foo=bar": "wait=5", `wait="5"`: "wait=5",
		"respond-async, wait=100": "wait=30", "wait=999999999999": "wait=30", "wait=7, wait=3": "wait=7", "handling=lenient; wait=5": "",
		"wait=-1": "", "wait=soon": "", "wait": "", "": "",
	} {
		_, header, _ := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k", "Prefer", prefer)
		if got := header.Get("Preference-Applied"); got != want {
			t.Errorf("%q: applied %q, want %q", prefer, got, want)
		}
	}
}

func TestBigAnswersAreCompressed(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.tells(nexus.Knows{Countries: korea().Countries, TimeZones: slices.Repeat([]string{"Asia/Seoul"}, 200)})
	for i := range 5 {
		s.ask("POST", "/signup", signupBody(`{"subdomain":"site-`+string(rune('a'+i))+`"}`))
	}
	_, _, job := s.ask("POST", "/signup", signupBody(""))
	for path, want := range map[string]string{"/jobs": "gzip", "/choices": "gzip", "/openapi.yaml": "gzip", "/": "gzip", "/ui/app.css": "gzip", "/benches": "",
		"/jobs/" + job["jobId"].(string): ""} {
		_, header, body := s.lines("GET", path, "Accept-Encoding", "br, gzip;q=0.5", "Authorization", "Bearer "+reader)
		if header.Get("Content-Encoding") != want || want != "" && !strings.Contains(header.Get("Vary"), "Accept-Encoding") {
			t.Errorf("%s: %q, Vary %q", path, header.Get("Content-Encoding"), header.Get("Vary"))
		}
		if path == "/jobs" {
			if plain, err := gzip.NewReader(strings.NewReader(string(body))); err != nil || json.NewDecoder(plain).Decode(&struct{}{}) != nil {
				t.Errorf("not a compressed list: %v", err)
			}
		}
		if _, header, _ := s.lines("GET", path, "Accept-Encoding", "gzip; q=0", "Authorization", "Bearer "+reader); header.Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for a client that does not want it", path)
		}
	}
}

func TestTimesAreInMilliseconds(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, signed := s.ask("POST", "/signup", signupBody(""))
	id := nexus.JobID(signed["jobId"].(string))
	job, err := s.store.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	lease, job, _, err := s.store.Take(t.Context(), id, job.Dispatch, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_790_000_000, 123_456_789).UTC()
	job.Steps[0].StartedAt, job.Steps[0].EndedAt = &at, &at
	if _, err := lease.Checkpoint(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	_, _, shown := s.ask("GET", "/jobs/"+string(id), "")
	step := shown["steps"].([]any)[0].(map[string]any)
	if want := "2026-09-21T14:13:20.123Z"; step["startedAt"] != want || step["endedAt"] != want {
		t.Errorf("%v", step)
	}
}
