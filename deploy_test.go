package provisioner_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUnits: the systemd units start what the manual says, leave a drain its time, do
// not start again what is configured wrongly, and take away what no process needs.
func TestUnits(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("internal/app/app.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`drainTime = (\d+) \* time\.Second`).FindSubmatch(source)
	if found == nil {
		t.Fatal("internal/app/app.go has no drainTime in seconds any more")
	}
	seconds, _ := strconv.Atoi(string(found[1]))
	for file, program := range map[string]string{"nexus-api.service": "api", "nexus-worker@.service": "worker"} {
		text, err := os.ReadFile("deploy/systemd/" + file)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]string{}
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
				has[name] = value
			}
		}
		for name, want := range map[string]string{
			"ExecStart": "/usr/local/bin/" + program, "EnvironmentFile": "/etc/nexus/nexus.env", "User": "nexus", "KillSignal": "SIGTERM",
			"KillMode": "mixed", "Restart": "on-failure", "RestartPreventExitStatus": "2", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
			"ProtectHome": "yes", "PrivateTmp": "yes", "CapabilityBoundingSet": "", "SystemCallFilter": "@system-service", "WantedBy": "nexus.target",
			"PartOf": "nexus.target",
		} {
			if is, there := has[name]; !there || is != want {
				t.Errorf("%s: %s is %q, want %q", file, name, is, want)
			}
		}
		if stop, err := time.ParseDuration(has["TimeoutStopSec"]); err != nil || stop <= time.Duration(seconds)*time.Second {
			t.Errorf("%s: TimeoutStopSec=%s does not exceed the drain of %d s", file, has["TimeoutStopSec"], seconds)
		}
		if docker := has["SupplementaryGroups"] == "docker"; docker != (program == "worker") {
			t.Errorf("%s: the group of Docker's socket: %t", file, docker)
		}
	}
}

// TestRelease: the version that programs tell without a tag is the newest of the changelog.
func TestRelease(t *testing.T) {
	t.Parallel()
	changes, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("internal/app/version.go")
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## \[([\d.]+)\]`).FindSubmatch(changes)
	release := regexp.MustCompile(`const release = "([\d.]+)"`).FindSubmatch(code)
	if newest == nil || release == nil || string(newest[1]) != string(release[1]) {
		t.Errorf("internal/app/version.go has %s, CHANGELOG.md %s", release, newest)
	}
}
