package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestArguments: --help and --version are answered, and a process does not start with
// another argument.
func TestArguments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		arg, out, errs string
		code           int
	}{
		{"--help", "Usage: worker", "", 0},
		{"-h", "Usage: worker", "", 0},
		{"help", "Usage: worker", "", 0},
		{"--version", "worker ", "", 0},
		{"--concurrency=4", "", `unexpected argument "--concurrency=4"`, 2},
		{"start", "", `unexpected argument "start"`, 2},
	} {
		var out, errs bytes.Buffer
		code := app.Arguments("worker", []string{tc.arg}, &out, &errs)
		if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errs.String(), tc.errs) ||
			(tc.out == "") != (out.Len() == 0) || (tc.errs == "") != (errs.Len() == 0) {
			t.Errorf("%s: exit %d, %q, %q", tc.arg, code, out.String(), errs.String())
		}
	}
}

// TestProcessRefuses: if settings are missing, the process ends with 2 before it begins,
// and prints one sentence for each of them.
func TestProcessRefuses(t *testing.T) {
	t.Parallel()
	const keys, tokens = "NEXUS_SECRET_KEYS=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "NEXUS_TOKENS=op:operate:0123456789abcdef0123456789"
	for _, tc := range []struct {
		name    string
		parts   app.Parts
		environ []string
		want    []string
	}{
		{"a worker without anything", app.Parts{Worker: true}, nil, []string{"NEXUS_SECRET_KEYS is not set", "NEXUS_SANDBOX_DIR is not set"}},
		{"an api without keys", app.Parts{API: true}, nil, []string{"NEXUS_SECRET_KEYS is not set"}},
		{"an api with a broken token", app.Parts{API: true}, []string{keys, "NEXUS_TOKENS=op:rule:x"}, []string{"NEXUS_TOKENS: "}},
		{"keys that are none", app.Parts{Worker: true}, []string{"NEXUS_SECRET_KEYS=k1:short"}, []string{"NEXUS_SECRET_KEYS: "}},
		{"a bench without the account's password", app.Parts{Worker: true}, append([]string{keys}, docker...), []string{"NEXUS_DB_PASSWORD is not set"}},
		{"a short password", app.Parts{Worker: true}, append([]string{keys, "NEXUS_DB_PASSWORD=short"}, docker...), []string{"NEXUS_DB_PASSWORD is too short: 16 characters"}},
		{"nexus dev on a bench without it", app.Parts{Worker: true, API: true, Dev: true}, append([]string{tokens}, docker...), []string{"NEXUS_DB_PASSWORD is not set"}},
		{"nexus sandbox without a folder", app.Parts{Sandbox: true}, nil, []string{"NEXUS_SANDBOX_DIR is not set"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			// Nothing listens at this port, so a process that accepts the settings ends with 1.
			code := app.Process(t.Context(), "worker", tc.parts, append(tc.environ, "REDIS_URL=redis://127.0.0.1:1/0"), &errs, nil)
			if code != 2 {
				t.Errorf("exit %d, want 2", code)
			}
			// An interactive process prints plain text, others log a line of JSON.
			said := errs.String()
			if !tc.parts.Dev && !tc.parts.Sandbox {
				var line struct {
					Msg, Process string
					Problems     []string
				}
				if err := json.Unmarshal(errs.Bytes(), &line); err != nil {
					t.Fatalf("%v\n%s", err, said)
				}
				said = line.Process + ": " + line.Msg + ":\n  " + strings.Join(line.Problems, "\n  ")
			}
			for _, want := range append(tc.want, "worker: the configuration has errors:\n  ") {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
		})
	}
}

// TestProcessNeeds: the API needs neither the database's password nor a folder.
func TestProcessNeeds(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	ctx, stop := context.WithCancel(t.Context())
	var errs bytes.Buffer
	environ := append([]string{"REDIS_URL=redis://" + redis.Addr(), "NEXUS_HTTP_ADDR=127.0.0.1:0",
		"NEXUS_SECRET_KEYS=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}, docker...)
	if code := app.Process(ctx, "api", app.Parts{API: true}, environ, &errs, func(app.Config, app.Addresses) { stop() }); code != 0 {
		t.Errorf("exit %d\n%s", code, errs.String())
	}
}

// TestWorkerStarted: the first log line of a worker names its bench.
func TestWorkerStarted(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	ctx, stop := context.WithCancel(t.Context())
	var errs bytes.Buffer
	code := app.Process(ctx, "worker", app.Parts{Worker: true}, []string{"REDIS_URL=redis://" + redis.Addr(), "NEXUS_SECRET_KEYS=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
		"NEXUS_BENCH=docker", "DOCKER_SERVICE=erp/backend", "NEXUS_VERIFY_ADDR=backend:8000", "NEXUS_DB_PASSWORD=0123456789abcdef"}, &errs,
		func(app.Config, app.Addresses) { stop() })
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		var said map[string]any
		if json.Unmarshal([]byte(line), &said) != nil || said["msg"] != "worker started" {
			continue
		}
		for key, want := range map[string]string{"bench": "backend", "container": "erp/backend", "sites_at": "backend:8000"} {
			if said[key] != want {
				t.Errorf("%s is %v, want %s", key, said[key], want)
			}
		}
		return
	}
	t.Errorf("no line says that it started:\n%s", errs.String())
}

// TestCheckBench: bench check reports what would make a signup fail.
func TestCheckBench(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(broken.Close)
	for _, tc := range []struct {
		name, addr string
		hurt       func(t *testing.T, dir string)
		want       string // in a problem; empty: there is none
	}{
		{"all is well", other.Listener.Addr().String(), nil, ""},
		{"nobody listens", "127.0.0.1:1", nil, "nothing answers at 127.0.0.1:1"},
		{"a proxy without its bench", broken.Listener.Addr().String(), nil, "status 502"},
		{"a folder that cannot be written", other.Listener.Addr().String(), func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "probe.new", "x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "The sandbox's folder cannot be used"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			redis, dir := miniredis.RunT(t), t.TempDir()
			if tc.hurt != nil {
				tc.hurt(t, dir)
			}
			hello, _, err := app.CheckBench(t.Context(), []string{"REDIS_URL=redis://" + redis.Addr(), "NEXUS_SANDBOX_DIR=" + dir, "NEXUS_VERIFY_ADDR=" + tc.addr})
			if err != nil {
				t.Fatal(err)
			}
			if (tc.want == "") != (len(hello.Problems) == 0) || tc.want != "" && !strings.Contains(problemText(hello.Problems), tc.want) {
				t.Errorf("problems %v, want %q", hello.Problems, tc.want)
			}
		})
	}
}

func problemText(list []nexus.Problem) string {
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.What + "\n")
	}
	return b.String()
}

// TestOneSignupInTheLog: the workers' log lines name the request that recorded the job,
// and the worker.
func TestOneSignupInTheLog(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	code := app.Process(ctx, "nexus dev", app.Parts{API: true, Worker: true, Sandbox: true, Dev: true},
		[]string{"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_SANDBOX_ADDR=127.0.0.1:0"}, &log, func(_ app.Config, at app.Addresses) {
			go func() {
				defer stop()
				signUp(t, at.API, "a-request-of-mine")
			}()
		})
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	steps, workers := 0, map[any]bool{}
	for line := range strings.Lines(log.String()) {
		var said map[string]any
		if json.Unmarshal([]byte(line), &said) == nil && said["msg"] == "step done" && said["request"] == "a-request-of-mine" {
			steps++
			workers[said["worker"]] = true
		}
	}
	if steps < 6 || len(workers) != 1 || workers[nil] || workers[""] {
		t.Errorf("%d steps by %v\n%s", steps, workers, log.String())
	}
}

// signUp signs up for a site and waits for it.
func signUp(t *testing.T, api, id string) {
	body := `{"email":"jane@example.com","password":"Correct1Horse","fullName":"Jane Doe","organizationName":"Acme Tools"}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api+"/signup", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "X-Request-Id": id, "Prefer": "wait=20"} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Errorf("status %d", response.StatusCode)
	}
}
