package bench_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	docker "github.com/docker/docker/api/types/container"

	"github.com/nexus-erp/provisioner/internal/bench"
)

// TestDaemon: the daemon is the one that the docker command would use, or an error.
func TestDaemon(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	put := func(text string, parts ...string) {
		path := filepath.Join(append([]string{home}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, host := range map[string]string{"rootless": "unix:///run/user/1000/docker.sock", "far": "ssh://ops@bench", "odd": ""} {
		sum := sha256.Sum256([]byte(name))
		put(`{"Name":"`+name+`","Metadata":{},"Endpoints":{"docker":{"Host":"`+host+`","SkipTLSVerify":false}}}`,
			".docker", "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json")
	}
	put(`{"currentContext":"rootless"}`, "chosen", "config.json")
	put(`{"currentContext":"far"}`, "remote", "config.json")
	put(`{"auths":{}}`, "plain", "config.json")
	for _, folder := range []string{"chosen", "remote", "plain"} {
		if err := os.Symlink(filepath.Join(home, ".docker", "contexts"), filepath.Join(home, folder, "contexts")); err != nil {
			t.Fatal(err)
		}
	}
	const local = "unix:///var/run/docker.sock"
	for _, tc := range []struct {
		name string
		env  map[string]string
		want string // the daemon's address, or a part of the refusal
	}{
		{"nothing is said", nil, local},
		{"no home", map[string]string{"HOME": ""}, local},
		{"DOCKER_CONTEXT", map[string]string{"DOCKER_CONTEXT": "rootless"}, "unix:///run/user/1000/docker.sock"},
		{"the default by name", map[string]string{"DOCKER_CONTEXT": "default"}, local},
		{"the current context", map[string]string{"DOCKER_CONFIG": filepath.Join(home, "chosen")}, "unix:///run/user/1000/docker.sock"},
		{"DOCKER_CONTEXT before the current one", map[string]string{"DOCKER_CONFIG": filepath.Join(home, "remote"), "DOCKER_CONTEXT": "default"}, local},
		{"a config without a context", map[string]string{"DOCKER_CONFIG": filepath.Join(home, "plain")}, local},
		{"DOCKER_HOST by SSH", map[string]string{"DOCKER_HOST": "ssh://ops@bench"}, "DOCKER_HOST is an address by SSH"},
		{"DOCKER_HOST before a context", map[string]string{"DOCKER_HOST": "ssh://ops@bench", "DOCKER_CONTEXT": "rootless"}, "DOCKER_HOST is an address by SSH"},
		{"DOCKER_HOST is nonsense", map[string]string{"DOCKER_HOST": "bench:2375"}, "DOCKER_HOST is no address"},
		{"a context by SSH", map[string]string{"DOCKER_CONTEXT": "far"}, "the Docker context far (DOCKER_CONTEXT) is an address by SSH"},
		{"the current context by SSH", map[string]string{"DOCKER_CONFIG": filepath.Join(home, "remote")}, "is an address by SSH"},
		{"a context that is not there", map[string]string{"DOCKER_CONTEXT": "gone"}, "there is no Docker context gone"},
		{"a context without Docker", map[string]string{"DOCKER_CONTEXT": "odd"}, "is no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := bench.DaemonHost(func(name string) string {
				if value, ok := tc.env[name]; ok {
					return value
				}
				return map[string]string{"HOME": home}[name]
			})
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != tc.want || !strings.Contains(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestChoose: a service that runs in two projects is ambiguous; containers that
// do not run, or were started once for a command, do not count.
func TestChoose(t *testing.T) {
	t.Parallel()
	box := func(id, project, number, state string) docker.Summary {
		return docker.Summary{ID: id, State: state, Labels: map[string]string{"com.docker.compose.project": project, "com.docker.compose.container-number": number}}
	}
	once := box("once", "a", "1", "running")
	once.Labels["com.docker.compose.oneoff"] = "True"
	for _, tc := range []struct {
		name string
		list []docker.Summary
		want string
	}{
		{"none", nil, "backend"},
		{"one", []docker.Summary{box("one", "a", "1", "running")}, "one"},
		{"scaled", []docker.Summary{box("two", "a", "2", "running"), box("one", "a", "1", "running")}, "one"},
		{"the first does not run", []docker.Summary{box("one", "a", "1", "exited"), box("two", "a", "2", "running")}, "two"},
		{"another project does not run", []docker.Summary{box("other", "b", "1", "exited"), box("one", "a", "1", "running")}, "one"},
		{"a command's own container", []docker.Summary{once, box("two", "a", "2", "running")}, "two"},
		{"two projects", []docker.Summary{box("one", "b", "1", "running"), box("two", "a", "1", "running")}, "set DOCKER_SERVICE to the one that is meant: a/backend or b/backend."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := bench.Choose("backend", tc.list)
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != tc.want || !strings.Contains(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
