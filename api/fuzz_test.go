package api_test

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// handler is the API on a miniredis, with one job and one tenant.
func handler(f *testing.F) (http.Handler, *store.Store) {
	f.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(f).Addr(), MaxRetries: -1})
	f.Cleanup(func() { _ = rdb.Close() })
	keys, _ := nexus.NewKeyring()
	tokens, err := api.ParseTokens("op:operate:" + operator)
	if err != nil {
		f.Fatal(err)
	}
	memory := store.New(rdb, store.Options{Embedded: true})
	h := api.New(api.Options{Store: memory, Keys: keys, Tokens: tokens, Domain: "example.com",
		SiteURL: "https://{site}", Apps: []string{"erpnext"}, Log: slog.New(slog.DiscardHandler)}).Handler()
	if response := post(h, signupBody(""), "first"); response.Code != http.StatusAccepted {
		f.Fatalf("the first signup: %d %s", response.Code, response.Body)
	}
	return h, memory
}

func post(h http.Handler, body, key string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/signup", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header["Idempotency-Key"] = []string{key}
	response := httptest.NewRecorder()
	h.ServeHTTP(response, request)
	return response
}

// kind checks that an answer is a result, or a problem in its documented form with a 4xx.
func kind(t *testing.T, response *httptest.ResponseRecorder, good int) {
	t.Helper()
	if response.Code == good {
		return
	}
	var p gen.Problem
	err := json.Unmarshal(response.Body.Bytes(), &p)
	if response.Code < 400 || response.Code >= 500 || response.Header().Get("Content-Type") != "application/problem+json" ||
		err != nil || p.Code == "" || p.Status != response.Code || p.Detail == nil {
		t.Errorf("%d %s: %s (%v)", response.Code, response.Header().Get("Content-Type"), response.Body, err)
	}
}

// FuzzSignup sends any body with any Idempotency-Key.
func FuzzSignup(f *testing.F) {
	h, _ := handler(f)
	for _, key := range []string{"first", "", " ", "\x00", "key/with:all|kinds", "ключ", strings.Repeat("k", 129), "a\r\nb: c"} {
		f.Add(signupBody(""), key)
	}
	for _, body := range []string{"", "{}", "[]", "null", "7", `"x"`, "{", `{"email":null}`, `{"email":{}}`, `{"password":["x"]}`, `{"email":"a@b.c"}{"email":"a@b.c"}`,
		`{"email":"a@b.c","email":"d@e.f"}`, `{"unknown":1}`, `{"EMAIL":"a@b.c"}`, "\xef\xbb\xbf{}", "{\"fullName\":\"\xff\xfe\"}", `{"fullName":"\ud800"}`, `{"email":1e400}`,
		strings.Repeat("[", 20_000), strings.Repeat(`{"email":`, 5_000), signupBody(`{"subdomain":"a/../b"}`), signupBody(`{"subdomain":"ａｂｃ"}`),
		signupBody(`{"organizationName":"\u0000\u202e"}`), signupBody(`{"timezone":"../../etc/passwd"}`), signupBody(`{"plan":"` + strings.Repeat("x", 70_000) + `"}`)} {
		f.Add(body, "k")
	}
	f.Fuzz(func(t *testing.T, body, key string) { kind(t, post(h, body, key), http.StatusAccepted) })
}

// FuzzCursor sends any cursor, state and kind to the lists, the cursor also in the encoding
// of cursors.
func FuzzCursor(f *testing.F) {
	h, _ := handler(f)
	for _, seed := range []string{"", "x", "/", "7", "7/", "1790000000000/ffff", "-1/x", "1e999/x", "+inf", "(7", "NaN/0", "\x00", "\xff", "a/b/c", strings.Repeat("9", 400) + "/"} {
		f.Add(seed, "", "")
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(seed)), "queued", "provision")
	}
	f.Add("", "no such state", "no such kind")
	f.Fuzz(func(t *testing.T, cursor, state, what string) {
		for _, text := range []string{cursor, base64.RawURLEncoding.EncodeToString([]byte(cursor))} {
			for _, path := range []string{"/jobs", "/tenants"} {
				query := url.Values{"cursor": {text}, "state": {state}, "kind": {what}}
				if path == "/tenants" {
					query.Del("kind")
				}
				request := httptest.NewRequest(http.MethodGet, path+"?"+query.Encode(), nil)
				request.Header.Set("Authorization", "Bearer "+operator)
				response := httptest.NewRecorder()
				h.ServeHTTP(response, request)
				kind(t, response, http.StatusOK)
			}
		}
	})
}

// FuzzLastEventID asks for the events of a finished job with any Last-Event-ID: the stream
// has the events after it, or all if it is not an id.
func FuzzLastEventID(f *testing.F) {
	h, memory := handler(f)
	const last = 13
	jobs, _, err := memory.Jobs(f.Context(), store.JobFilter{})
	if err != nil {
		f.Fatal(err)
	}
	lease, job, _, err := memory.Take(f.Context(), jobs[0].ID, 1, nil)
	for i := 3; i < last && err == nil; i++ { // after the events of Submit and of the start
		_, err = lease.Checkpoint(f.Context(), &job, "", nexus.Event{Step: "site", Percent: i, Note: "line\none\r\x00\xff"})
	}
	job.State = nexus.Succeeded
	if err == nil {
		err = lease.Finish(f.Context(), &job, "", nexus.Event{})
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "0", "1", "7", "007", "12", "13", "14", "-1", "+1", " 1", "1 ", "1.0", "0x1", "1e1", "1_0", "9223372036854775807", "9223372036854775808",
		"18446744073709551617", strings.Repeat("0", 999) + "3", strings.Repeat("0", 1000) + "3", strings.Repeat("9", 1000), "1,2", "\x00", "\xff", "١", "1\r\nid: 2", "snapshot"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		request := httptest.NewRequest(http.MethodGet, "/jobs/"+string(job.ID)+"/events", nil)
		request.Header["Last-Event-Id"] = []string{id}
		response := httptest.NewRecorder()
		h.ServeHTTP(response, request)
		if id == strconv.Itoa(last) { // no event follows
			if response.Code != http.StatusNoContent || response.Body.Len() > 0 {
				t.Fatalf("after the last event: %d", response.Code)
			}
			return
		}
		if len(id) > 1000 {
			kind(t, response, http.StatusBadRequest)
			return
		}
		list, err := frames(response.Body.String())
		if response.Code != http.StatusOK || err != nil {
			t.Fatalf("%d, %v", response.Code, err)
		}
		next := 1
		for rev := range last + 1 {
			if strings.TrimLeft(id, "0") == strconv.Itoa(rev) {
				next = rev + 1
			}
		}
		for _, event := range list[1:] {
			if event.id != strconv.Itoa(next) {
				t.Errorf("after %q comes %s, not %d", id, event.id, next)
			}
			next++
		}
		if next != last+1 {
			t.Errorf("after %q the events end before %d", id, next)
		}
	})
}
