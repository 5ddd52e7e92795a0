package bench_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// reply is one HTTP answer.
type reply struct {
	status int
	body   string
}

const (
	pingPath = "/api/method/ping"
	whoPath  = "/api/method/frappe.auth.get_logged_user"
	listPath = "/api/resource/Sales%20Order?limit_page_length=1"
)

// fakeSite answers as the web server of a site, except where the test sets another answer.
type fakeSite struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // path, host and authorization of each request
}

func newFakeSite(t *testing.T, replies map[string]reply) *fakeSite {
	t.Helper()
	f := &fakeSite{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seen = append(f.seen, strings.TrimSpace(r.URL.RequestURI()+" "+r.Host+" "+r.Header.Get("Authorization")))
		answer, ok := replies[r.URL.RequestURI()]
		if !ok {
			answer = map[string]reply{
				pingPath: {200, `{"message":"pong"}`}, whoPath: {200, `{"message":"jane@example.com"}`}, listPath: {200, `{"data":[]}`},
			}[r.URL.RequestURI()]
		}
		if answer.status >= 300 && answer.status < 400 {
			w.Header().Set("Location", "/login")
		}
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	}))
	t.Cleanup(f.Close)
	return f
}

// addr is the site's host:port.
func (f *fakeSite) addr() string { return strings.TrimPrefix(f.URL, "http://") }

// verified runs Verify on a site, as a job does.
func verified(t *testing.T, ctx context.Context, addr, public string) (nexus.Result, error) {
	t.Helper()
	docker, err := bench.NewDocker(bench.DockerOptions{Service: "none", VerifyAddr: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close() //nolint:errcheck // it holds no file
	result, err := docker.Run(ctx, nexus.Op{Site: "acme.example.com", Args: nexus.Verify{Email: "Jane@Example.com", PublicURL: public,
		DocType: "Sales Order", Key: "key-canary", Secret: "secret-canary"}})
	if text := result.Note + errText(err); strings.Contains(text, "canary") {
		t.Errorf("the key is in %q", text)
	}
	return result, err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f := newFakeSite(t, nil)
	result, err := verified(t, t.Context(), f.addr(), f.URL)
	if err != nil || result.Note != "" {
		t.Errorf("answered %+v, %v", result, err)
	}
	const token = " acme.example.com token key-canary:secret-canary"
	want := []string{whoPath + token, listPath + token, pingPath + " " + f.addr()}
	slices.Sort(f.seen[:2]) // they come at once
	if diff := cmp.Diff(want, f.seen); diff != "" {
		t.Error(diff)
	}
}

func TestVerifyAnswers(t *testing.T) {
	t.Parallel()
	type replies map[string]reply
	const wrong, away = nexus.Internal, nexus.Unavailable
	for _, tc := range []struct {
		name    string
		replies replies
		want    nexus.Code
	}{
		{"all well", nil, ""},
		{"the user's name in other letters", replies{whoPath: {200, `{"message":"JANE@EXAMPLE.COM"}`}}, ""},
		{"a list with something in it", replies{listPath: {200, `{"data":[{"name":"SO-1"}],"more":1}`}}, ""},
		{"the answer is a page", replies{whoPath: {200, `<html>It works!</html>`}}, wrong},
		{"the answer is empty", replies{whoPath: {200, ``}}, wrong},
		{"the answer is no object", replies{whoPath: {200, `["jane@example.com"]`}}, wrong},
		{"the answer is longer than anybody reads", replies{whoPath: {200, `{"message":"jane@example.com","x":"` + strings.Repeat("x", 2<<20) + `"}`}}, wrong},
		{"an answer without content", replies{whoPath: {204, ``}}, wrong},
		{"the answer goes elsewhere", replies{whoPath: {302, ``}}, wrong},
		{"the answer goes elsewhere for good", replies{whoPath: {301, `{"message":"jane@example.com"}`}}, wrong},
		{"the site is not known yet", replies{whoPath: {404, `acme.example.com does not exist`}}, away},
		{"too many requests", replies{whoPath: {429, ``}}, away},
		{"the site is broken", replies{whoPath: {500, `{"message":"jane@example.com"}`}}, away},
		{"a gateway waits", replies{whoPath: {502, ``}}, away},
		{"maintenance", replies{whoPath: {503, ``}}, away},
		{"a gateway gave up", replies{whoPath: {504, ``}}, away},
		{"the key is refused", replies{whoPath: {401, `{"exc_type":"AuthenticationError"}`}}, wrong},
		{"the key may do nothing", replies{whoPath: {403, `{}`}}, wrong},
		{"somebody else's key", replies{whoPath: {200, `{"message":"joe@example.com"}`}}, wrong},
		{"nobody's key", replies{whoPath: {200, `{"message":"Guest"}`}}, wrong},
		{"the key's user is not told", replies{whoPath: {200, `{}`}}, wrong},
		{"the list is forbidden", replies{listPath: {403, `{}`}}, wrong},
		{"the list has no data", replies{listPath: {200, `{}`}}, wrong},
		{"the list's data is null", replies{listPath: {200, `{"data":null}`}}, wrong},
		{"the list's data is no list", replies{listPath: {200, `{"data":"x"}`}}, wrong},
		{"an outage before the list", replies{listPath: {500, ``}}, away},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := verified(t, t.Context(), newFakeSite(t, tc.replies).addr(), "")
			wantVerdict(t, err, tc.want)
		})
	}
}

// TestVerifyAgain: a request that failed beside the other is made again alone; if both failed,
// neither is.
func TestVerifyAgain(t *testing.T) {
	t.Parallel()
	for _, broken := range [][]string{{whoPath}, {listPath}, {whoPath, listPath}} {
		t.Run(strings.Join(broken, " "), func(t *testing.T) {
			t.Parallel()
			replies := map[string]reply{}
			for _, path := range broken {
				replies[path] = reply{500, ""}
			}
			f := newFakeSite(t, replies)
			once := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f.Config.Handler.ServeHTTP(w, r)
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(replies, r.URL.RequestURI())
			}))
			t.Cleanup(once.Close)
			want := 3
			if len(broken) == 2 {
				want = 2
			}
			if _, err := verified(t, t.Context(), strings.TrimPrefix(once.URL, "http://"), ""); (err != nil) != (want == 2) || len(f.seen) != want {
				t.Errorf("asked %q: %v", f.seen, err)
			}
		})
	}
}

// wantVerdict checks the code of an error, and that an outage has its Wait.
func wantVerdict(t *testing.T, err error, want nexus.Code) {
	t.Helper()
	if got := nexus.CodeOf(err); got != want {
		t.Fatalf("answered %v, want %q", err, want)
	}
	if err == nil {
		return
	}
	wait := nexus.Wait("")
	if want == nexus.Unavailable {
		wait = nexus.WaitBench
	}
	if e, ok := errors.AsType[*nexus.Error](err); !ok || e.Wait != wait || e.Op != "bench.verify" || e.Msg == "" || e.Err == nil {
		t.Errorf("answered %+v, want it to wait for %q", e, wait)
	}
}

// closedAddr returns an address on which no server listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	return strings.TrimPrefix(gone.URL, "http://")
}

func TestVerifyUnreachable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		cause error // the cause with which the context has ended before the call; nil: it has not
		want  nexus.Code
	}{
		{"nobody listens", nil, nexus.Unavailable},
		{"the step's time is over", nexus.ErrStepTimeout, nexus.Unavailable}, // an outage, never a rollback
		{"a deadline", context.DeadlineExceeded, nexus.Unavailable},
		{"canceled", nexus.ErrCanceled, nexus.CodeCanceled},
		{"draining", nexus.ErrDraining, nexus.CodeCanceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if tc.cause != nil {
				cancel(tc.cause)
			}
			_, err := verified(t, ctx, closedAddr(t), "")
			wantVerdict(t, err, tc.want)
			if tc.want == nexus.CodeCanceled && !errors.Is(err, tc.cause) {
				t.Errorf("the cause is not in %v", err)
			}
		})
	}
}

// TestVerifyPublic: DNS and proxies do not belong to the product, so a wrong answer of the
// public address is a note and never a failure.
func TestVerifyPublic(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		replies map[string]reply
		down    bool
		public  string // replaces the URL of the fake site
		want    string // a part of the note; empty: no note
	}{
		{name: "well"},
		{name: "well behind a slash", public: "/"},
		{name: "not asked for", public: "none"},
		{name: "broken", replies: map[string]reply{pingPath: {503, ""}}, want: "status 503"},
		{name: "a login page", replies: map[string]reply{pingPath: {302, ""}}, want: "status 302"},
		{name: "down", down: true, want: "refused"},
		{name: "not a URL", public: "http://[acme", want: "does not answer at http://[acme yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			front := newFakeSite(t, tc.replies)
			public := front.URL
			switch {
			case tc.public == "none":
				public = ""
			case tc.public == "/":
				public += "/"
			case tc.public != "":
				public = tc.public
			case tc.down:
				public = "http://" + closedAddr(t)
			}
			result, err := verified(t, t.Context(), newFakeSite(t, nil).addr(), public)
			if err != nil {
				t.Fatal(err)
			}
			if (tc.want == "") != (result.Note == "") || !strings.Contains(result.Note, tc.want) {
				t.Errorf("noted %q, want %q", result.Note, tc.want)
			}
			for _, request := range front.seen {
				if strings.Contains(request, "token") {
					t.Errorf("the key went to the public address: %s", request)
				}
			}
		})
	}
}
