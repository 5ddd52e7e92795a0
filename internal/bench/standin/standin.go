//go:build service

package standin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Bench is a running stand-in.
type Bench struct {
	Name         string // of the container
	Addr         string // host:port where its sites answer
	RootPassword string // of its MariaDB
}

// Start builds the image if needed and starts a container with two Redis servers, on the
// MariaDB that NEXUS_TEST_DB names. The test's end stops all but MariaDB. If a service is
// missing the test fails. Pace is the least time that a new site takes.
func Start(t testing.TB, pace time.Duration) *Bench {
	t.Helper()
	db, root := os.Getenv("NEXUS_TEST_DB"), os.Getenv("NEXUS_TEST_DB_ROOT_PASSWORD")
	host, port, err := net.SplitHostPort(db)
	if err != nil || root == "" {
		t.Fatal("the stand-in needs a MariaDB: source .ci/services, or set NEXUS_TEST_DB (host:port) and NEXUS_TEST_DB_ROOT_PASSWORD")
	}
	_, here, _, _ := runtime.Caller(0)
	folder := filepath.Dir(here)
	built := strings.Fields(run(t, filepath.Join(folder, "build.sh")))
	t.Setenv("STANDIN_IMAGE", built[len(built)-1]) // the tag latest may be another checkout's by now
	httpPort := FreePort(t)
	b := &Bench{Name: fmt.Sprintf("nexus-standin-%d-%s", os.Getpid(), httpPort), Addr: "127.0.0.1:" + httpPort, RootPassword: root}
	cache, queue := startRedis(t), startRedis(t)
	t.Setenv("STANDIN_PACE", fmt.Sprint(pace.Seconds()))
	t.Setenv("STANDIN_SERVICE", b.Name)
	run(t, filepath.Join(folder, "start.sh"), b.Name, httpPort, host, port, cache, queue)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", "--tail", "40", b.Name).CombinedOutput()
			t.Logf("the stand-in said:\n%s", out)
		}
		_ = exec.Command("docker", "rm", "-fv", b.Name).Run()
	})
	Await(t, "the stand-in answers", func() bool {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.Addr+"/api/method/ping", nil)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			return true
		}
		if out, _ := exec.Command("docker", "inspect", "--format", "{{.State.Status}}", b.Name).Output(); strings.TrimSpace(string(out)) == "exited" {
			t.Fatal("the stand-in has ended")
		}
		return false
	})
	http.DefaultClient.CloseIdleConnections()
	return b
}

func run(t testing.TB, name string, args ...string) (said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
	return string(out)
}

// FreePort returns an unused port of 127.0.0.1. It is below the ports that the kernel gives
// to outgoing connections, since one of those could take it while its server is not running.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(22000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port between 10000 and 32000")
	return ""
}

// RedisPassword is the password of the bench's two Redis servers.
const RedisPassword = "OfTheBenchOnly"

func startRedis(t testing.TB) (url string) {
	t.Helper()
	port := FreePort(t)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", RedisPassword)
	if err := cmd.Start(); err != nil {
		t.Fatal(errors.Join(errors.New("redis-server is needed (Debian package redis-server)"), err))
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	Await(t, "redis answers", func() bool {
		out, err := exec.Command("redis-cli", "--no-auth-warning", "-a", RedisPassword, "-p", port, "ping").Output()
		return err == nil && strings.HasPrefix(string(out), "PONG")
	})
	return "redis://default:" + RedisPassword + "@127.0.0.1:" + port
}
