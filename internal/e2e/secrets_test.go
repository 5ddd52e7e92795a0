//go:build service

package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// places are the texts in which a secret is looked for, by name.
type places map[string][]byte

// traces are the forms in which a secret may be written: as it is, in hexadecimal, or in
// base64 at any of its three offsets.
func traces(secret string) (out [][]byte) {
	out = append(out, []byte(secret), []byte(hex.EncodeToString([]byte(secret))), []byte(url.QueryEscape(secret)))
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		if text = text[4 : len(text)-4]; len(text) > 8 {
			out = append(out, []byte(text))
		}
	}
	return out
}

// find returns each place that contains a secret, with the text around it.
func (p places) find(secret string) map[string]string {
	found := map[string]string{}
	for place, text := range p {
		for _, trace := range traces(secret) {
			if at := bytes.Index(text, trace); at >= 0 {
				around := text[max(0, at-200):min(len(text), at+len(trace)+100)]
				found[place] = string(bytes.ReplaceAll(around, trace, []byte("<HERE>")))
				break
			}
		}
	}
	return found
}

// free checks that no place contains a secret.
func (p places) free(t *testing.T, name, secret string) {
	t.Helper()
	if len(secret) < 12 {
		t.Fatalf("%s is too short to be looked for", name)
	}
	for place, around := range p.find(secret) {
		t.Errorf("%s stands in %s: %q", name, place, around)
	}
}

// looked checks that the search finds what each place contains: the control that was
// planted there, or a text that every such place has.
func (p places) looked(t *testing.T, control string, others map[string]string) {
	t.Helper()
	for place, text := range p {
		want := cmp.Or(others[place], control)
		if len((places{place: text}).find(want)) == 0 {
			t.Errorf("%q was not found in %s, where it stands: nothing else would be found there", want, place)
		}
	}
}

// TestSecretsAreFound checks that the search finds a secret in each form.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	const secret = "CanaryPassw0rd+/=é"
	for name, text := range map[string]string{
		"plain": secret, "in hexadecimal": hex.EncodeToString([]byte(secret)), "in a URL": url.QueryEscape(secret),
		"in base64": base64.StdEncoding.EncodeToString([]byte("user:" + secret)), "in base64 of URLs": base64.URLEncoding.EncodeToString([]byte("u:" + secret)),
		"in base64, in the middle": base64.StdEncoding.EncodeToString([]byte("x" + secret + "and more")),
	} {
		if found := (places{name: []byte("before " + text + " after")}).find(secret); len(found) != 1 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// redisAt connects to a Redis at host:port, with user:password@ before it if needed.
func redisAt(t testing.TB, addr string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL("redis://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	return redis.NewClient(options)
}

// redisOf reads every key and value of a Redis.
func redisOf(t testing.TB, addr string) []byte {
	t.Helper()
	rdb := redisAt(t, addr)
	defer func() { _ = rdb.Close() }()
	var out bytes.Buffer
	ctx := context.WithoutCancel(t.Context())
	keys := rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind := fromRedis(t, rdb.Type(ctx, key))
		read := map[string][]any{"string": {"GET", key}, "hash": {"HGETALL", key}, "list": {"LRANGE", key, 0, -1}, "set": {"SMEMBERS", key},
			"zset": {"ZRANGE", key, 0, -1, "WITHSCORES"}, "stream": {"XRANGE", key, "-", "+"}}[kind]
		if kind == "none" {
			continue // it was deleted meanwhile
		}
		if read == nil {
			t.Fatalf("%s is a %s, which nobody looks into", key, kind)
		}
		fmt.Fprintf(&out, "%s %s %v\n", kind, key, fromRedis(t, rdb.Do(ctx, read...)))
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readFolder reads every file below a folder into one text.
func readFolder(t testing.TB, root string) []byte {
	t.Helper()
	var out bytes.Buffer
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fmt.Fprintf(&out, "\n== %s\n%s", path, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sampler repeatedly reads the argv and environment of every process on this machine,
// also of those in containers.
type sampler struct {
	stop chan struct{}
	done sync.WaitGroup
	argv map[string]struct{}
	env  map[string]struct{}
}

func sample() *sampler {
	s := &sampler{stop: make(chan struct{}), argv: map[string]struct{}{}, env: map[string]struct{}{}}
	s.done.Go(func() {
		tick := time.NewTicker(15 * time.Millisecond)
		defer tick.Stop()
		for {
			s.look()
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
		}
	})
	return s
}

func (s *sampler) look() {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		if text, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil {
			s.argv[string(text)] = struct{}{}
		}
		if text, err := os.ReadFile("/proc/" + entry.Name() + "/environ"); err == nil {
			s.env[string(text)] = struct{}{}
		}
	}
}

// end stops it; what it saw, argv and environments apart.
func (s *sampler) end() (argv, env []byte) {
	close(s.stop)
	s.done.Wait()
	join := func(set map[string]struct{}) []byte {
		var out bytes.Buffer
		for text := range set {
			out.WriteString(text + "\n")
		}
		return out.Bytes()
	}
	return join(s.argv), join(s.env)
}

// watchDocker reads the daemon's events of one container.
func watchDocker(t *testing.T, name string) *logs {
	t.Helper()
	events := &logs{}
	start(t, events, nil, "docker", "events", "--filter", "container="+name, "--format", "{{json .}}")
	eventually(t, 20*time.Second, "docker tells its events", func() bool {
		_ = exec.Command("docker", "exec", name, "true").Run()
		return len(events.all()) > 0
	})
	return events
}

// asked is all that the API answers about jobs, and to requests that are refused.
func (s *stack) asked(jobs ...gen.Accepted) []byte {
	s.t.Helper()
	var out bytes.Buffer
	note := func(a answer) { fmt.Fprintf(&out, "%d %v\n%s\n", a.status, a.header, a.body) }
	auth := []string{"Authorization", "Bearer " + operator}
	for _, a := range jobs {
		note(s.call("GET", "/jobs/"+a.JobId, ""))
		for _, who := range [][]string{nil, auth} {
			stream := s.call("GET", "/jobs/"+a.JobId+"/events", "", who...)
			if stream.status != http.StatusOK || stream.err != nil || bytes.Count(stream.body, []byte("\nid: ")) < 5 {
				s.t.Errorf("the events of %s: %d %s %v", a.JobId, stream.status, stream.body, stream.err)
			}
			note(stream)
		}
		note(s.call("GET", "/tenants/"+a.Site, "", auth...))
	}
	for _, path := range []string{"/jobs", "/tenants", "/benches", "/metrics", "/readyz", "/openapi.yaml", "/ops/queues/api/queues",
		"/ops/queues/api/queues/provision/completed_tasks", "/ops/queues/api/queues/resume/completed_tasks", "/ops/queues/api/queues/provision/archived_tasks"} {
		note(s.call("GET", path, "", auth...))
	}
	return out.Bytes()
}

// TestSecretsNowhere signs up with a recognizable password, lets three jobs succeed, two of them
// with standbys, and one
// fail with an exception that quotes it, picks up the key, and looks for password, key
// and secret in every place that may have stored them.
func TestSecretsNowhere(t *testing.T) {
	core := "CanaryPassw0rd" + string(nexus.NewJobID())
	password := core + `'"\&%{}é`
	s, _ := frailStack(t, "", "NEXUS_LOG_LEVEL=DEBUG", "ADMIN_PASSWORD=CanaryAdm1n"+string(nexus.NewJobID()), "NEXUS_APPS=erpnext")
	d := s.onStandin(t, 600*time.Millisecond)
	events := watchDocker(t, d.box.Name)
	argvAndEnv := sample()
	metrics := freeAddr(t)
	worker := s.worker("NEXUS_METRICS_ADDR=" + metrics)

	body := form(t, "canary", "canary@example.com", password)
	accepted := s.accepted(body, "canary-key")
	s.sayWrong(body, core)
	d.whole(accepted.JobId, nil)
	pair, err := s.client.Credentials(t.Context(), accepted.JobId, nexus.Secret(accepted.ClaimToken), "canary-pick-up")
	if err != nil {
		t.Fatal(err)
	}
	kept, standbys := d.keptCanaries(password)
	worker.end(os.Interrupt)
	d.breakPasswords()
	worker = s.worker("NEXUS_METRICS_ADDR=" + metrics)
	died := s.accepted(form(t, "died", "died@example.com", password), "died-key")
	if job := s.end(died.JobId, 2*time.Minute); job.State != gen.StateFailed || value(job.Error.Step) != "user" {
		t.Fatalf("the job that was to die is %s: %+v", job.State, job.Error)
	}
	d.gone(died.Site, died.JobId)
	d.box.Sh(t, "touch /tmp/break-it-too")
	admin := s.accepted(form(t, "third", "third@example.com", password), "third-key")
	if job := s.end(admin.JobId, 2*time.Minute); job.State != gen.StateFailed || value(job.Error.Step) != "site" {
		t.Fatalf("the job that was to die is %s: %+v", job.State, job.Error)
	}

	control := "C0ntrol" + string(nexus.NewJobID())
	d.plant(control)
	seen := places{"the api's answers": s.asked(accepted, died, admin), "the worker's metrics": s.page(metrics, "/metrics")}
	eventually(t, 20*time.Second, "docker tells of the control", func() bool { return events.count(control) > 0 })
	seen["docker events"] = []byte(strings.Join(events.all(), "\n"))
	var inspected []byte
	if inspected, err = exec.Command("docker", "inspect", d.box.Name).Output(); err != nil {
		t.Fatal(err)
	}
	seen["docker inspect"] = inspected
	if seen["docker logs"], err = exec.Command("docker", "logs", d.box.Name).CombinedOutput(); err != nil {
		t.Fatalf("docker logs: %v\n%s", err, seen["docker logs"])
	}
	argv, env := argvAndEnv.end()
	seen["argv"], seen["environments"] = argv, env
	worker.end(os.Interrupt)
	seen["logs"] = []byte(strings.Join(s.log.all(), "\n"))
	d.kept(seen)
	t.Logf("looked at %d argv, %d environments, %s", len(argvAndEnv.argv), len(argvAndEnv.env), sizes(seen))

	seen.looked(t, control, map[string]string{"the api's answers": accepted.JobId, "the worker's metrics": "nexus_jobs_ended_total",
		"docker inspect": d.box.Name, "logs": accepted.JobId})
	seen.free(t, "the password", core)
	seen.free(t, "the API key", pair.ApiKey)
	seen.free(t, "the API secret", pair.ApiSecret)
	d.nameless(seen, standbys)
	for _, a := range kept {
		key, err := s.client.Credentials(t.Context(), a.JobId, nexus.Secret(a.ClaimToken), "pick-up") // as hasApps did
		if err != nil {
			t.Fatal(err)
		}
		seen.free(t, "the API key of "+a.Site, key.ApiKey)
		seen.free(t, "the API secret of "+a.Site, key.ApiSecret)
	}
	s.configured(t, seen, d.box.Password(t, nexus.SiteName(accepted.Site)))
	t.Run("database account", func(t *testing.T) { d.accountIsPowerless(t, accepted) })
}

// configured looks for the secrets that processes have in their environment: they may be
// nowhere else; and no argv may contain a site's database password.
func (s *stack) configured(t *testing.T, seen places, dbPassword string) {
	t.Helper()
	environment := seen["environments"]
	delete(seen, "environments")
	for _, entry := range s.env {
		name, secret, _ := strings.Cut(entry, "=")
		switch name {
		case "NEXUS_SECRET_KEYS":
			_, secret, _ = strings.Cut(secret, ":")
			seen.free(t, name, secret)
		case "ADMIN_PASSWORD", "NEXUS_DB_PASSWORD":
			seen.free(t, name, secret)
		}
	}
	places{"argv": seen["argv"], "environments": environment, "logs": seen["logs"], "docker events": seen["docker events"],
		"redis": seen["redis"], "redis' files": seen["redis' files"]}.free(t, "the site's database password", dbPassword)
}

// accepted signs up without the client.
func (s *stack) accepted(body, key string) (out gen.Accepted) {
	s.t.Helper()
	a := s.call("POST", "/signup", body, "Idempotency-Key", key)
	if a.status != http.StatusAccepted || json.Unmarshal(a.body, &out) != nil {
		s.t.Fatalf("signup: %d %s %v", a.status, a.body, a.err)
	}
	return out
}

// sayWrong sends a secret in requests that are refused: no answer may repeat it.
func (s *stack) sayWrong(body, secret string) {
	s.t.Helper()
	for name, a := range map[string]answer{
		"reused key":    s.call("POST", "/signup", strings.Replace(body, "Jane Doe", "Joe Doe", 1), "Idempotency-Key", "canary-key"),
		"broken JSON":   s.call("POST", "/signup", body[:len(body)-1]),
		"unknown field": s.call("POST", "/signup", strings.Replace(body, `"password"`, `"passw0rd"`, 1)),
		"weak password": s.call("POST", "/signup", strings.Replace(body, `"password":"`, `"password":"`+strings.Repeat("x", 120), 1)),
		"wrong type":    s.call("POST", "/signup", strings.Replace(body, `"fullName":"Jane Doe"`, `"fullName":["`+secret+`"]`, 1)),
		"as a token":    s.call("GET", "/tenants", "", "Authorization", "Bearer "+secret),
		"as a field":    s.call("POST", "/signup", `{"`+secret+`":1}`),
	} {
		if a.status < 400 || a.status >= 500 || a.err != nil {
			s.t.Errorf("%s: %d %v", name, a.status, a.err)
		}
		if bytes.Contains(a.body, []byte(secret)) && name != "as a field" { // nobody puts a secret into the name of a field
			s.t.Errorf("%s: the answer repeats a secret: %s", name, a.body)
		}
	}
}

// breakPasswords makes the stand-in fail on a password and quote it, like a trace of
// Frappe with its variables.
func (s *dockerStack) breakPasswords() {
	s.t.Helper()
	s.box.Sh(s.t, `cat >> apps/frappe/frappe/utils/password.py <<'PY'


set_it = update_password


def update_password(user, pwd, *rest, **more):
    import json
    import sys
    if user == "Administrator" and not os.path.exists("/tmp/break-it-too"):
        return set_it(user, pwd, *rest, **more)
    for text in (pwd, repr(pwd), json.dumps(pwd), [pwd], {"pwd": pwd}):
        print(text)
        print(text, file=sys.stderr)
    raise RuntimeError(f"cannot set {pwd} {pwd!r} {json.dumps(pwd)} {[pwd]} {ascii(pwd)}")
PY`)
}

// plant writes a control to each place that allows it: an argv and an environment of the
// container, the daemon's events and logs, every Redis, and the bench's files.
func (s *dockerStack) plant(control string) {
	s.t.Helper()
	lines := "echo " + control + " > /proc/1/fd/1; echo " + control + " > logs/control.log; sleep 5"
	if out, err := exec.Command("docker", "exec", "-e", "CONTROL="+control, s.box.Name, "sh", "-c", lines).CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	for _, addr := range append(s.benchRedis(), s.rdb.Options().Addr) {
		rdb := redisAt(s.t, addr)
		fromRedis(s.t, rdb.Set(s.t.Context(), "control", control, time.Hour))
		_ = rdb.Close()
	}
}

// benchRedis are the addresses of the bench's own Redis servers.
func (s *dockerStack) benchRedis() []string {
	s.t.Helper()
	urls := s.box.Sh(s.t, `grep -o 'redis://[^"]*' sites/common_site_config.json | sort -u`)
	addrs := strings.Fields(strings.ReplaceAll(urls, "redis://", ""))
	if len(addrs) == 0 {
		s.t.Fatal("the bench names no Redis")
	}
	return addrs
}

// page reads a page of another process.
func (s *stack) page(addr, path string) []byte {
	s.t.Helper()
	at := *s
	at.api = "http://" + addr
	a := at.call("GET", path, "")
	if a.status != http.StatusOK {
		s.t.Fatalf("%s: %d %v", path, a.status, a.err)
	}
	return a.body
}

// kept is what disks and servers store: Redis' keys and files, before and after a
// rewrite, the bench's own Redis servers, and all of its files.
func (s *dockerStack) kept(seen places) {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	addr := strings.TrimSuffix(strings.TrimPrefix(s.redis, "redis://"), "/0")
	seen["redis"] = redisOf(s.t, addr)
	for name, value := range map[string]string{"aof-use-rdb-preamble": "no", "rdbcompression": "no"} {
		if err := s.rdb.ConfigSet(ctx, name, value).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
	folder := filepath.Join(s.dir, "appendonlydir")
	seen["redis' files"] = readFolder(s.t, folder)
	if err := s.rdb.BgRewriteAOF(ctx).Err(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 30*time.Second, "the AOF is rewritten", func() bool {
		info := fromRedis(s.t, s.rdb.Info(ctx, "persistence"))
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0")
	})
	seen["redis' files, rewritten"] = readFolder(s.t, folder)
	for _, addr := range s.benchRedis() {
		seen["the bench's Redis at "+addr] = redisOf(s.t, addr)
	}
	files, err := exec.Command("docker", "exec", s.box.Name, "tar", "-c", "logs", "sites", "archived", "config").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Contains(files, []byte(".nexus/fence/")) || !bytes.Contains(files, []byte("madeAt")) || !bytes.Contains(files, []byte("logs/")) {
		s.t.Error("the bench's files were not read whole")
	}
	seen["the bench's files"] = files
}

func sizes(p places) string {
	var out []string
	for name, text := range p {
		out = append(out, fmt.Sprintf("%s %d", name, len(text)))
	}
	slices.Sort(out)
	return strings.Join(out, ", ") + " bytes"
}
