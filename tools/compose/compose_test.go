// Package compose_test checks compose.yaml with the parser that Docker Compose
// itself uses, on machines that have neither Compose nor the images. It is a
// module of its own so that the product does not depend on that parser.
package compose_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../../"

func load(t *testing.T) *types.Project {
	t.Helper()
	// Without .env and without the environment of this process, the defaults must work.
	options, err := cli.NewProjectOptions([]string{root + "compose.yaml"}, cli.WithEnv([]string{"SOCKET_GID=999"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func service(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServices(t *testing.T) {
	want := []string{"redis", "init", "api", "worker", "db", "redis-cache", "redis-queue", "configurator", "backend",
		"frontend", "websocket", "queue-short", "queue-long", "scheduler"}
	got := load(t).ServiceNames()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("services are\n%v, want\n%v", got, want)
	}
}

func TestPortsAreOnLoopback(t *testing.T) {
	var published []string
	for name, s := range load(t).Services {
		for _, port := range s.Ports {
			published = append(published, name+" "+port.Published)
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q, want 127.0.0.1", name, port.Published, port.HostIP)
			}
		}
		if s.NetworkMode != "" || s.Privileged {
			t.Errorf("%s: network_mode %q, privileged %v", name, s.NetworkMode, s.Privileged)
		}
	}
	slices.Sort(published)
	if want := []string{"api 8300", "frontend 8080"}; !slices.Equal(published, want) {
		t.Errorf("published are %v, want %v", published, want)
	}
}

func TestRedisKeepsEveryJob(t *testing.T) {
	redis := service(t, load(t), "redis")
	command := strings.Join(redis.Command, " ") + " "
	for _, flag := range []string{"--appendonly yes ", "--appendfsync always ", "--maxmemory-policy noeviction "} {
		if strings.Count(command, flag) != 1 || strings.Count(command, strings.Fields(flag)[0]) != 1 {
			t.Errorf("command %q lacks %q, or has it twice", command, flag)
		}
	}
	if len(redis.Volumes) != 1 || redis.Volumes[0].Target != "/data" || redis.Volumes[0].Type != types.VolumeTypeVolume {
		t.Errorf("volumes %v, want one at /data", redis.Volumes)
	}
}

// A tenant's template can send lines of text to any address of the bench's network, and a
// client that writes to a Redis of the bench can run code there.
func TestRedisWantsAPassword(t *testing.T) {
	p := load(t)
	script := read(t, "scripts/make-secrets")
	servers := 0
	for name, s := range p.Services {
		if !strings.HasPrefix(s.Image, "redis:") {
			continue
		}
		servers++
		if len(s.Command) < 2 || len(s.Secrets) != 1 || s.Command[1] != "/run/secrets/"+s.Secrets[0].Source {
			t.Errorf("%s does not begin with a secret for its configuration: %v", name, s.Command)
			continue
		}
		user := regexp.MustCompile(`\nkeep ` + s.Secrets[0].Source + ` "user default on >\$\(random 24\) ([^"]*)"`).FindStringSubmatch(script)
		if user == nil || strings.Contains(user[1], "nopass") {
			t.Errorf("%s: scripts/make-secrets gives it no user with a password", name)
		} else if _, bench := s.Networks["bench"]; bench && !strings.Contains(user[1], " -@admin") {
			t.Errorf("%s: the bench may reconfigure it: %s", name, user[1])
		}
	}
	if servers != 3 {
		t.Errorf("%d Redis servers, want 3", servers)
	}
	told := strings.Join(service(t, p, "configurator").Command, "\n")
	for _, url := range regexp.MustCompile(`redis://\S*`).FindAllString(told, -1) {
		if !strings.HasPrefix(url, "redis://:$$word@") && !strings.HasPrefix(url, "redis://:$word@") {
			t.Errorf("the bench is told %s: no password", url)
		}
	}
	if strings.Contains(told, "bench set-config") {
		t.Error("the configurator writes passwords into the bench's log")
	}
}

// A tenant can make the bench send HTTP requests. They must reach only the bench, its servers,
// and workers, which listen on no port by default.
func TestTenantsCodeReachesLittle(t *testing.T) {
	p := load(t)
	allowed := []string{"db", "redis-cache", "redis-queue", "worker"}
	for name, s := range p.Services {
		if _, bench := s.Networks["bench"]; bench && !strings.HasPrefix(s.Image, "frappe/") && !slices.Contains(allowed, name) {
			t.Errorf("%s is on the tenants' network", name)
		}
	}
	if addr := service(t, p, "worker").Environment["NEXUS_METRICS_ADDR"]; addr == nil || *addr != "" {
		t.Error("workers listen on the tenants' network by default")
	}
}

func TestTenantsCodeCannotReachTheJobs(t *testing.T) {
	p := load(t)
	jobs := service(t, p, "redis")
	for name, s := range p.Services {
		if !strings.HasPrefix(s.Image, "frappe/") {
			continue
		}
		for network := range s.Networks {
			if _, shared := jobs.Networks[network]; shared {
				t.Errorf("%s shares the network %s with the jobs' Redis", name, network)
			}
		}
	}
}

func TestWorkersScaleAndDrain(t *testing.T) {
	p := load(t)
	worker := service(t, p, "worker")
	if worker.ContainerName != "" || len(worker.Ports) > 0 || worker.Hostname != "" {
		t.Errorf("name %q, host name %q, ports %v: two workers cannot share them", worker.ContainerName, worker.Hostname, worker.Ports)
	}
	if _, there := worker.Environment["FRAPPE_SITE_NAME"]; !there {
		t.Error("FRAPPE_SITE_NAME does not reach the workers: the master site would not be protected")
	}
	for key, want := range map[string]string{"NEXUS_BENCH": "docker", "DOCKER_SERVICE": "nexus/backend", "NEXUS_VERIFY_ADDR": "backend:8000"} {
		if got := worker.Environment[key]; got == nil || *got != want {
			t.Errorf("%s is not %s", key, want)
		}
	}
	found := regexp.MustCompile(`drainTime = (\d+) \* time\.Second`).FindStringSubmatch(read(t, "internal/app/app.go"))
	if found == nil {
		t.Fatal("internal/app/app.go has no drainTime in seconds any more")
	}
	seconds, _ := strconv.Atoi(found[1])
	grace := time.Duration(0)
	if worker.StopGracePeriod != nil {
		grace = time.Duration(*worker.StopGracePeriod)
	}
	if grace <= time.Duration(seconds)*time.Second {
		t.Errorf("stop_grace_period %s does not exceed the drain of %d s", grace, seconds)
	}
}

func TestOnlyWorkersHoldTheSocket(t *testing.T) {
	for name, s := range load(t).Services {
		for _, volume := range s.Volumes {
			if strings.Contains(volume.Source, "docker.sock") && name != "worker" && name != "init" {
				t.Errorf("%s mounts the Docker socket", name)
			}
			if volume.Type == types.VolumeTypeBind && !strings.Contains(volume.Source, "docker.sock") {
				t.Errorf("%s mounts %s of the host", name, volume.Source)
			}
		}
	}
}

// Names that hold a secret, and URLs with a password in them.
var (
	secretName = regexp.MustCompile(`(?i)PASS|SECRET|TOKEN|KEY|CREDENTIAL`)
	secretURL  = regexp.MustCompile(`://[^/\s]*:[^/\s]*@`)
	secretFlag = regexp.MustCompile(`(?i)pass(word|wd)?[= ]|--requirepass|identified by`)
)

func TestSecretsComeFromFiles(t *testing.T) {
	p := load(t)
	used := map[string]bool{}
	for name, s := range p.Services {
		mounted := map[string]bool{}
		for _, secret := range s.Secrets {
			mounted["/run/secrets/"+secret.Source] = true
			used[secret.Source] = true
		}
		for key, value := range s.Environment {
			switch {
			case value == nil:
				t.Errorf("%s: %s comes from the caller's environment unseen", name, key)
			case secretURL.MatchString(*value):
				t.Errorf("%s: %s has a password in a URL", name, key)
			case !secretName.MatchString(key):
			case !strings.HasSuffix(key, "_FILE") || !mounted[*value]:
				t.Errorf("%s: %s=%s is not a file among the service's secrets", name, key, *value)
			}
		}
		for _, word := range append(slices.Clone(s.Command), s.Entrypoint...) {
			if secretFlag.MatchString(strings.ReplaceAll(word, "/run/secrets/db_root_password", "")) {
				t.Errorf("%s: a password on the command line: %s", name, word)
			}
		}
	}
	folder, err := filepath.Abs(root + "secrets")
	if err != nil {
		t.Fatal(err)
	}
	script := read(t, "scripts/make-secrets")
	for name, secret := range p.Secrets {
		if secret.File != filepath.Join(folder, name) || secret.Content != "" || secret.Environment != "" || bool(secret.External) {
			t.Errorf("the secret %s is not the file secrets/%s", name, name)
		}
		if !strings.Contains(script, "\nkeep "+name+" ") {
			t.Errorf("scripts/make-secrets does not make %s", name)
		}
		if !used[name] {
			t.Errorf("the secret %s is used nowhere", name)
		}
	}
	for _, list := range []string{".gitignore", ".dockerignore"} {
		lines := strings.Fields(strings.ReplaceAll(read(t, list), "/\n", "\n"))
		if !slices.Contains(lines, "secrets") || !slices.Contains(lines, ".env") {
			t.Errorf("%s does not ignore secrets and .env", list)
		}
	}
}

// A setting that was renamed or misspelled would only cause a warning in a log.
func TestSettingsAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, tag := range regexp.MustCompile("env:\"([A-Z_]+)").FindAllStringSubmatch(read(t, "internal/app/config.go"), -1) {
		known[tag[1]] = true
	}
	if len(known) < 20 {
		t.Fatalf("only %d settings found in internal/app/config.go", len(known))
	}
	for _, name := range regexp.MustCompile(`\b(NEXUS|DOCKER|REDIS)_[A-Z_]+`).FindAllString(read(t, "compose.yaml"), -1) {
		if !known[name] {
			t.Errorf("%s is not a setting in internal/app/config.go", name)
		}
	}
}

// A log without a limit fills the disk of the sites, and a process that leaks takes the host's
// memory from the database.
func TestLogsAndMemoryAreBounded(t *testing.T) {
	for name, s := range load(t).Services {
		if s.Logging == nil || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s has no rotation of its log: %+v", name, s.Logging)
		}
		if s.MemLimit <= 0 {
			t.Errorf("%s has no limit of memory", name)
		}
	}
}

// The number of workers must not depend on a flag that the next "up" does not have.
func TestWorkersAreCountedInEnv(t *testing.T) {
	if d := service(t, load(t), "worker").Deploy; d == nil || d.Replicas == nil || *d.Replicas != 1 {
		t.Errorf("the number of workers: %+v", d)
	}
	options, err := cli.NewProjectOptions([]string{root + "compose.yaml"}, cli.WithEnv([]string{"SOCKET_GID=999", "WORKERS=3"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := service(t, project, "worker").Deploy; d == nil || d.Replicas == nil || *d.Replicas != 3 {
		t.Errorf("WORKERS=3 makes %+v", d)
	}
}

func TestImagesArePinned(t *testing.T) {
	tag := regexp.MustCompile(`:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)
	bench := ""
	for name, s := range load(t).Services {
		if s.Build == nil && !tag.MatchString(s.Image) {
			t.Errorf("%s: %q has no full tag", name, s.Image)
		}
		if s.Build == nil && s.Restart == "" {
			t.Errorf("%s has no restart policy", name)
		}
		if strings.HasPrefix(s.Image, "frappe/") {
			if bench == "" {
				bench = s.Image
			}
			if s.Image != bench {
				t.Errorf("the bench mixes %s and %s", bench, s.Image)
			}
		}
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(read(t, "Dockerfile"), -1)
	if len(from) == 0 {
		t.Error("Dockerfile has no FROM")
	}
	for _, image := range from {
		if image[1] != "scratch" && !tag.MatchString(image[1]) {
			t.Errorf("Dockerfile: %q has no full tag", image[1])
		}
	}
}

// A service that waits for the health of a service without a health check waits forever.
func TestDependencies(t *testing.T) {
	p := load(t)
	for name, s := range p.Services {
		for other, dependency := range s.DependsOn {
			if dependency.Condition == types.ServiceConditionHealthy && service(t, p, other).HealthCheck == nil {
				t.Errorf("%s waits for the health of %s, which has no health check", name, other)
			}
		}
	}
	for name, needs := range map[string]map[string]string{
		"init":   {"db": types.ServiceConditionHealthy, "backend": types.ServiceConditionHealthy, "redis": types.ServiceConditionHealthy},
		"worker": {"init": types.ServiceConditionCompletedSuccessfully},
	} {
		for other, condition := range needs {
			if got := service(t, p, name).DependsOn[other].Condition; got != condition {
				t.Errorf("%s depends on %s by %q, want %q", name, other, got, condition)
			}
		}
	}
	if got := *service(t, p, "api").Environment["NEXUS_SITE_URL"]; got != "http://{site}:8080" {
		t.Errorf("NEXUS_SITE_URL is %q by default", got)
	}
}
