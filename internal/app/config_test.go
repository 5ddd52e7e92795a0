package app_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// docker has the settings that a bench in a container needs.
var docker = []string{"NEXUS_BENCH=docker", "NEXUS_VERIFY_ADDR=backend:8000"}

func defaults() app.Config {
	return app.Config{
		HTTPAddr: "127.0.0.1:8300", SandboxAddr: "127.0.0.1:8301", Bench: "sandbox", BenchSlots: 64, Service: "backend",
		Domain: "localhost", SiteURL: "http://{site}:8301", VerifyAddr: "127.0.0.1:8301", Apps: []string{"erpnext", "nexus_core?"},
		DBAccount: "nexus", Signup: "open", ProvisionTimeout: 24 * time.Hour, OutputLimit: 10 << 20, JobRetention: 30 * 24 * time.Hour, DeleteGrace: 7 * 24 * time.Hour,
		Concurrency: 16, EventStreams: 1000, TimeZone: "UTC", Pool: "0", PoolBytes: "10GiB",
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		environ []string
		change  func(*app.Config) // of the defaults
	}{
		{"nothing set", nil, func(*app.Config) {}},
		{"set but empty", []string{"NEXUS_HTTP_ADDR=", "NEXUS_CONCURRENCY=", "NEXUS_LOG_LEVEL="}, func(*app.Config) {}},
		{"other people's variables", []string{"PATH=/bin", "HOME=/root", "NOT_NEXUS_BENCH=x", "odd"}, func(*app.Config) {}},
		{"docker", docker, func(c *app.Config) {
			c.Bench, c.VerifyAddr, c.BenchSlots, c.SiteURL, c.Pool = "docker", "backend:8000", 8, "https://{site}", "2-20"
		}},
		{"sites follow the sandbox", []string{"NEXUS_SANDBOX_ADDR=:9000"}, func(c *app.Config) {
			c.SandboxAddr, c.VerifyAddr, c.SiteURL = ":9000", ":9000", "http://{site}:9000"
		}},
		{"sites elsewhere", []string{"NEXUS_SITE_URL=https://{site}/", "NEXUS_VERIFY_ADDR=10.0.0.1:80"}, func(c *app.Config) {
			c.VerifyAddr, c.SiteURL = "10.0.0.1:80", "https://{site}/"
		}},
		{"lists and units", []string{"NEXUS_APPS=erpnext,hrms?", "NEXUS_PROVISION_TIMEOUT=90m", "NEXUS_LOG_LEVEL=debug"}, func(c *app.Config) {
			c.Apps, c.ProvisionTimeout, c.LogLevel = []string{"erpnext", "hrms?"}, 90*time.Minute, slog.LevelDebug
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := defaults()
			tc.change(&want)
			got, warnings, err := app.Load(tc.environ)
			if err != nil || warnings != nil {
				t.Fatalf("answered %v, warned %q", err, warnings)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLoadKnows: every setting is read without a warning, and changes the configuration.
func TestLoadKnows(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"REDIS_URL": "redis://127.0.0.1:7000/1", "REDIS_URL_FILE": file, "DOCKER_SERVICE": "bench", "ADMIN_PASSWORD": "Secret-Horse-7",
		"NEXUS_HTTP_ADDR": ":1", "NEXUS_METRICS_ADDR": ":3", "NEXUS_SANDBOX_ADDR": ":2", "NEXUS_SANDBOX_DIR": "/srv", "NEXUS_SANDBOX_DELAY": "2s", "NEXUS_BENCH": "docker",
		"NEXUS_BENCH_SLOTS": "7", "NEXUS_DOMAIN": "example.com", "NEXUS_SITE_URL": "https://{site}", "NEXUS_VERIFY_ADDR": "backend:8000",
		"NEXUS_APPS": "erpnext", "NEXUS_ADMIN_ROLES": "System Manager,Sales User", "NEXUS_DB_ACCOUNT": "acct", "NEXUS_DB_PASSWORD": "p234567890123456",
		"NEXUS_DB_PASSWORD_FILE": file, "NEXUS_SECRET_KEYS": "k1:x", "NEXUS_SECRET_KEYS_FILE": file, "NEXUS_TOKENS": "a:read:x",
		"NEXUS_TOKENS_FILE": file, "NEXUS_SIGNUP": "closed", "NEXUS_CORS_ORIGINS": "https://example.com",
		"NEXUS_RATE_LIMIT": "off", "NEXUS_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1,2001:db8::1", "NEXUS_PROVISION_TIMEOUT": "1h",
		"NEXUS_POOL": "3-9", "NEXUS_POOL_BYTES": "2GiB", "NEXUS_OUTPUT_LIMIT": "1000", "NEXUS_JOB_RETENTION": "1h", "NEXUS_DELETE_GRACE": "1h", "NEXUS_CONCURRENCY": "3", "NEXUS_EVENT_STREAMS": "10", "NEXUS_TIME_ZONE": "Europe/Berlin", "NEXUS_LOG_LEVEL": "WARN",
	}
	environ := []string{"NEXUS_API_URL=http://127.0.0.1:8300", "NEXUS_API_TOKEN=x", "NEXUS_TEST_BENCH=box"} // read elsewhere
	for name, value := range values {
		environ = append(environ, name+"="+value)
	}
	got, warnings, err := app.Load(environ)
	if err != nil || warnings != nil {
		t.Fatalf("answered %v, warned %q", err, warnings)
	}
	loaded, unset := reflect.ValueOf(got), reflect.ValueOf(defaults())
	for i := range loaded.NumField() {
		field := loaded.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if values[name] == "" {
			continue // newer than this table: its own test holds it
		}
		if reflect.DeepEqual(loaded.Field(i).Interface(), unset.Field(i).Interface()) {
			t.Errorf("%s was not read into %s", name, field.Name)
		}
		delete(values, name)
	}
	for name := range values {
		t.Errorf("%s is not in the configuration", name)
	}
}

// refusals are the lines of the error with which settings are refused, sorted; nil: they are
// taken.
func refusals(environ []string) (lines []string) {
	if _, _, err := app.Load(environ); err != nil {
		lines = strings.Split(err.Error(), "\n")
	}
	slices.Sort(lines)
	return lines
}

func delayError(given string) string {
	return fmt.Sprintf("NEXUS_SANDBOX_DELAY: %q is no time; write one such as 500ms or 2s, 0 for none, or real for the times of a real bench", given)
}

// TestSandboxDelay: a time is read as it was before there was another value.
func TestSandboxDelay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		given  string
		delay  time.Duration
		asReal bool
	}{
		{"", 0, false}, {"0", 0, false}, {"0s", 0, false}, {"1s", time.Second, false}, {"1m0.5s", 60500 * time.Millisecond, false}, {"real", 0, true},
	} {
		c, warnings, err := app.Load([]string{"NEXUS_SANDBOX_DELAY=" + tc.given})
		if err != nil || warnings != nil {
			t.Errorf("%q: %v, warned %q", tc.given, err, warnings)
		}
		if delay, asReal, err := app.SandboxDelay(c); delay != tc.delay || asReal != tc.asReal || err != nil {
			t.Errorf("%q is read as %s, %t, %v", tc.given, delay, asReal, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	const weak = "ADMIN_PASSWORD is too weak: 8 characters or more, with small and capital letters and digits; or leave it unset"
	on := func(more ...string) []string { return slices.Concat(docker, more) }
	for _, tc := range []struct {
		name    string
		environ []string
		want    []string // the lines, sorted; nil: taken
	}{
		{"no such bench", []string{"NEXUS_BENCH=podman"}, []string{`NEXUS_BENCH: "podman" is neither sandbox nor docker`}},
		{"docker without an address", []string{"NEXUS_BENCH=docker"}, []string{"NEXUS_VERIFY_ADDR is needed with NEXUS_BENCH=docker: the bench's internal host:port, e.g. backend:8000"}},
		{"an address without a port", []string{"NEXUS_HTTP_ADDR=localhost"}, []string{`NEXUS_HTTP_ADDR: "localhost" is not host:port`}},
		{"a shelf without a size", []string{"NEXUS_POOL=many"}, []string{poolError("many")}},
		{"a shelf of less than nothing", []string{"NEXUS_POOL=-1"}, []string{poolError("-1")}},
		{"a shelf with its bounds exchanged", []string{"NEXUS_POOL=9-3"}, []string{poolError("9-3")}},
		{"a shelf that is too large", []string{"NEXUS_POOL=2-1001"}, []string{poolError("2-1001")}},
		{"bytes of no number", []string{"NEXUS_POOL_BYTES=lots"}, []string{bytesError("lots")}},
		{"no bytes", []string{"NEXUS_POOL_BYTES=0"}, []string{bytesError("0")}},
		{"a delay that is no time", []string{"NEXUS_SANDBOX_DELAY=soon"}, []string{delayError("soon")}},
		{"a delay without a unit", []string{"NEXUS_SANDBOX_DELAY=5"}, []string{delayError("5")}},
		{"a delay below zero", []string{"NEXUS_SANDBOX_DELAY=-1s"}, []string{delayError("-1s")}},
		{"a delay in capitals", []string{"NEXUS_SANDBOX_DELAY=REAL"}, []string{delayError("REAL")}},
		{"no such signup", []string{"NEXUS_SIGNUP=maybe"}, []string{`NEXUS_SIGNUP: "maybe" is none of open, token, closed`}},
		{"a site's URL without {site}", []string{"NEXUS_SITE_URL=https://example.com"}, []string{`NEXUS_SITE_URL is not a URL with {site} in it, such as https://{site}`}},
		{"a site's URL without a host", []string{"NEXUS_SITE_URL=/{site}"}, []string{`NEXUS_SITE_URL is not a URL with {site} in it, such as https://{site}`}},
		{"a domain in capitals", []string{"NEXUS_DOMAIN=Example.com"}, []string{`NEXUS_DOMAIN: "Example.com" is not a domain name in small letters`}},
		{"a domain with a dot too many", []string{"NEXUS_DOMAIN=example.com."}, []string{`NEXUS_DOMAIN: "example.com." is not a domain name in small letters`}},
		{"no such limit", []string{"NEXUS_RATE_LIMIT=maybe"}, []string{`NEXUS_RATE_LIMIT: "maybe" is neither on nor off`}},
		{"a proxy by name", []string{"NEXUS_TRUSTED_PROXIES=10.0.0.0/8,proxy"}, []string{`NEXUS_TRUSTED_PROXIES: "proxy" is neither an address nor a network such as 10.0.0.0/8`}},
		{"a network that is none", []string{"NEXUS_TRUSTED_PROXIES=10.0.0.0/33"}, []string{`NEXUS_TRUSTED_PROXIES: "10.0.0.0/33" is neither an address nor a network such as 10.0.0.0/8`}},
		{"no such time zone", []string{"NEXUS_TIME_ZONE=Mars/Base"}, []string{`NEXUS_TIME_ZONE: "Mars/Base" is no time zone; use a name such as UTC or Europe/Berlin`}},
		{"hardly any grace", []string{"NEXUS_DELETE_GRACE=59s"}, []string{"NEXUS_DELETE_GRACE must be 1m or more; DELETE with ?purge=now removes at once"}},
		{"no slots", []string{"NEXUS_BENCH_SLOTS=-1"}, []string{"NEXUS_BENCH_SLOTS, NEXUS_CONCURRENCY and NEXUS_EVENT_STREAMS must be 1 or more"}},
		{"no streams", []string{"NEXUS_EVENT_STREAMS=0"}, []string{"NEXUS_BENCH_SLOTS, NEXUS_CONCURRENCY and NEXUS_EVENT_STREAMS must be 1 or more"}},
		{"too little time", []string{"NEXUS_PROVISION_TIMEOUT=59s"}, []string{"NEXUS_PROVISION_TIMEOUT must be between 1m and 48h"}},
		{"too much time", []string{"NEXUS_PROVISION_TIMEOUT=49h"}, []string{"NEXUS_PROVISION_TIMEOUT must be between 1m and 48h"}},
		{"a weak password in the sandbox", []string{"ADMIN_PASSWORD=admin"}, nil},
		{"a weak password on docker", on("ADMIN_PASSWORD=admin"), []string{weak}},
		{"no digit", on("ADMIN_PASSWORD=Secret-Horse"), []string{weak}},
		{"no capital letter", on("ADMIN_PASSWORD=secret-horse-7"), []string{weak}},
		{"no small letter", on("ADMIN_PASSWORD=SECRET-HORSE-7"), []string{weak}},
		{"7 characters", on("ADMIN_PASSWORD=Secre-7"), []string{weak}},
		{"a strong password", on("ADMIN_PASSWORD=Secret-Horse-7"), nil},
		{"no password", on(), nil},
		{"all at once", []string{"NEXUS_BENCH=podman", "NEXUS_SIGNUP=maybe", "NEXUS_DOMAIN=", "NEXUS_HTTP_ADDR=x", "NEXUS_SANDBOX_ADDR=y",
			"NEXUS_VERIFY_ADDR=z", "NEXUS_CONCURRENCY=-1", "NEXUS_SITE_URL=ftp:", "NEXUS_PROVISION_TIMEOUT=1s"}, []string{
			`NEXUS_BENCH: "podman" is neither sandbox nor docker`,
			"NEXUS_BENCH_SLOTS, NEXUS_CONCURRENCY and NEXUS_EVENT_STREAMS must be 1 or more",
			`NEXUS_HTTP_ADDR: "x" is not host:port`,
			"NEXUS_PROVISION_TIMEOUT must be between 1m and 48h",
			`NEXUS_SANDBOX_ADDR: "y" is not host:port`,
			`NEXUS_SIGNUP: "maybe" is none of open, token, closed`,
			`NEXUS_SITE_URL is not a URL with {site} in it, such as https://{site}`,
			`NEXUS_VERIFY_ADDR: "z" is not host:port`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, refusals(tc.environ)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLoadUnreadable: the error names each setting that cannot be parsed, besides those
// that are parsed and refused.
func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	_, _, err := app.Load([]string{"NEXUS_CONCURRENCY=many", "NEXUS_SANDBOX_DELAY=soon", "NEXUS_LOG_LEVEL=loud",
		"NEXUS_TOKENS_FILE=/does/not/exist", "NEXUS_BENCH=podman", "NEXUS_SIGNUP=maybe"})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, name := range []string{"NEXUS_CONCURRENCY", "NEXUS_SANDBOX_DELAY", "NEXUS_LOG_LEVEL", "NEXUS_TOKENS_FILE", "NEXUS_BENCH:", "NEXUS_SIGNUP"} {
		if !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.Contains(line, name) }) {
			t.Errorf("no line names %s:\n%v", name, err)
		}
	}
}

func TestLoadWarns(t *testing.T) {
	t.Parallel()
	_, warnings, err := app.Load([]string{"NEXUS_SECRET_KEY=canary", "NEXUS_BENHC=docker", "NEXUS_=x", "NEXUS_TEST_ANYTHING=x", "NEXUSBENCH=x"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"NEXUS_ is not a setting of this version; check its spelling",
		"NEXUS_BENHC is not a setting of this version; check its spelling",
		"NEXUS_SECRET_KEY is not a setting of this version; check its spelling",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
}

func TestLoadFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, direct, file, want string }{
		{"from the file", "", "from-file", "from-file"},
		{"a line break behind", "", "from-file\n", "from-file"},
		{"as Windows ends lines", "", "from-file\r\n", "from-file"},
		{"spaces inside stay", "", "from file\n", "from file"},
		{"an empty file", "", "\n", ""},
		{"the direct value wins", "direct", "from-file\n", "direct"},
		{"a direct value is not trimmed", " direct\n", "from-file\n", " direct\n"},
	} {
		for _, secret := range []struct {
			name string
			get  func(app.Config) nexus.Secret
		}{
			{"NEXUS_DB_PASSWORD", func(c app.Config) nexus.Secret { return c.DBPassword }},
			{"NEXUS_SECRET_KEYS", func(c app.Config) nexus.Secret { return c.SecretKeys }},
			{"NEXUS_TOKENS", func(c app.Config) nexus.Secret { return c.Tokens }},
		} {
			t.Run(secret.name+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(file, []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
				environ := []string{secret.name + "_FILE=" + file}
				if tc.direct != "" {
					environ = append(environ, secret.name+"="+tc.direct)
				}
				c, _, err := app.Load(environ)
				if err != nil {
					t.Fatal(err)
				}
				if got := secret.get(c).Reveal(); got != tc.want {
					t.Errorf("read %q, want %q", got, tc.want)
				}
			})
		}
	}
}

// TestLoadKeepsSecrets: no error, warning or printed configuration contains a secret.
func TestLoadKeepsSecrets(t *testing.T) {
	t.Parallel()
	const canary = "hunter2"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := []string{"ADMIN_PASSWORD=" + canary, "REDIS_URL=redis://nexus:" + canary + "@127.0.0.1:6379/0",
		"NEXUS_DB_PASSWORD=" + canary, "NEXUS_DB_PASSWORD_FILE=" + file, "NEXUS_SECRET_KEYS=k1:" + canary, "NEXUS_SECRET_KEYS_FILE=" + file,
		"NEXUS_TOKENS=a:operate:" + canary, "NEXUS_TOKENS_FILE=" + file, "NEXUS_API_TOKEN=" + canary, "NEXUS_TOKEN=" + canary}
	for _, tc := range []struct {
		name    string
		environ []string
	}{
		{"taken", nil},
		{"refused", []string{"NEXUS_BENCH=docker", "NEXUS_SIGNUP=maybe"}},
		{"unreadable", []string{"NEXUS_CONCURRENCY=many", "NEXUS_LOG_LEVEL=loud"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, warnings, err := app.Load(slices.Concat(secrets, tc.environ))
			for what, text := range map[string]string{
				"the error": fmt.Sprint(err), "the warnings": fmt.Sprint(warnings),
				"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", c), "%#v": fmt.Sprintf("%#v", c), "%+v of the pointer": fmt.Sprintf("%+v", &c),
			} {
				if strings.Contains(text, canary) {
					t.Errorf("%s shows it: %s", what, text)
				}
			}
		})
	}
}

// TestProcessKeepsSecrets: the errors of a start, which are logged, contain no secret.
func TestProcessKeepsSecrets(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, tc := range []struct {
		name, variable string
	}{
		{"a URL of Redis that cannot be read", "REDIS_URL=redis://nexus:" + canary + "@127.0.0.1:port/0"},
		{"a URL of Redis with white space", "REDIS_URL=redis://nexus:" + canary + "@127.0.0.1 :6379/0"},
		{"a password of Redis with a slash", "REDIS_URL=redis://nexus:" + canary + "/x@127.0.0.1:6379/0"},
		{"a password of Redis with a slash behind digits", "REDIS_URL=redis://nexus:12/" + canary + "@127.0.0.1:6379/0"},
		{"a password of Redis with a hash", "REDIS_URL=redis://nexus:12#" + canary + "@127.0.0.1:6379/0"},
		{"a password of Redis with a question mark", "REDIS_URL=redis://nexus:12?" + canary + "=1@127.0.0.1:6379/0"},
		{"a password of Redis with a percent sign", "REDIS_URL=redis://nexus:%" + canary + "@127.0.0.1:6379/0"},
		{"a password of Redis with a second at", "REDIS_URL=redis://nexus:x@" + canary + ":1/1@127.0.0.1:6379/0"},
		{"a database of Redis that is none", "REDIS_URL=redis://127.0.0.1:6379/" + canary},
		{"an option of Redis that is none", "REDIS_URL=redis://127.0.0.1:6379/0?" + canary + "=1"},
		{"a site's URL with a password", "NEXUS_SITE_URL=https://u:" + canary + "/x@{site}"},
		{"the master site's URL with a password", "ERP_NEXT_URL=https://u:" + canary + "/x@erp.example.com\x00NEXUS_MODE=single"},
		{"a URL of another server", "REDIS_URL=http://nexus:" + canary + "@127.0.0.1/0"},
		{"keys without an id", "NEXUS_SECRET_KEYS=" + canary},
		{"keys that are none", "NEXUS_SECRET_KEYS=k1:" + canary},
		{"keys the wrong way round", "NEXUS_SECRET_KEYS=" + canary + canary + canary + ":k1"},
		{"tokens without a name", "NEXUS_TOKENS=" + canary},
		{"tokens with the scope behind", "NEXUS_TOKENS=ops:" + canary + ":operate"},
		{"tokens with the name behind", "NEXUS_TOKENS=" + canary + ":operate:ops"},
		{"tokens of no scope", "NEXUS_TOKENS=ops:everything:" + canary},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			code := app.Process(t.Context(), "nexus", app.Parts{API: true, Dev: true}, append(strings.Split(tc.variable, "\x00"), "NEXUS_HTTP_ADDR=127.0.0.1:0"), &said, nil)
			if code != 2 && strings.Contains(tc.variable, "_URL=") {
				t.Errorf("left with %d", code)
			}
			if code == 0 || said.Len() == 0 || strings.Contains(said.String(), canary) {
				t.Errorf("left with %d, and said %q", code, said.String())
			}
		})
	}
}
