package bench_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// daemon is a Docker daemon that stops answering at some point, like one whose disk
// hangs: it accepts calls and never answers them.
type daemon struct {
	hangs   string        // the end of the path it never answers
	program []byte        // that is sent instead of the runner's; nil: the runner's
	asked   chan string   // the paths that hang
	release chan struct{} // closed by let
	let     func()        // lets all that hangs go on; the end of the test does
	streams sync.WaitGroup
}

// ServeHTTP serves the part of Docker's API that starting a runner needs.
func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, d.hangs) {
		d.asked <- r.URL.Path
		<-d.release
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
		w.Header().Set("Api-Version", "1.45")
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		_, _ = io.WriteString(w, `[{"Id":"abc","State":"running"}]`)
	case strings.HasSuffix(r.URL.Path, "/abc/json"):
		_, _ = io.WriteString(w, `{"Id":"abc","Name":"/backend","State":{"Running":true},"Config":{"User":"frappe","WorkingDir":"/home/frappe/bench/sites"}}`)
	case strings.HasSuffix(r.URL.Path, "/abc/exec"):
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"e1"}`)
	case strings.HasSuffix(r.URL.Path, "/e1/start"):
		d.attach(w)
	default:
		http.NotFound(w, r)
	}
}

// attach returns the stream of a runner that never says hello nor reads its program.
func (d *daemon) attach(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close() //nolint:errcheck // it is over
	_, _ = io.WriteString(c, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	d.asked <- "hello"
	<-d.release
}

// start starts the daemon on a socket, and makes a driver that uses it.
func (d *daemon) start(t *testing.T) *bench.Docker {
	t.Helper()
	d.asked, d.release = make(chan string, 100), make(chan struct{})
	d.let = sync.OnceFunc(func() { close(d.release) })
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.streams.Add(1)
		defer d.streams.Done()
		d.ServeHTTP(w, r)
	})}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		d.let()
		d.streams.Wait()
		_ = server.Close()
		serving.Wait()
	})
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	driver, err := bench.NewDocker(bench.DockerOptions{Service: "backend", Install: "9f3c", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if d.program != nil {
		driver.SetProgram(d.program)
	}
	return driver
}

// reached returns once an attempt has reached the point where the daemon hangs.
func (d *daemon) reached(t *testing.T) {
	t.Helper()
	select {
	case <-d.asked:
	case <-time.After(time.Minute):
		t.Fatalf("no attempt comes to %s", d.hangs)
	}
}

// asking starts an operation and returns its outcome.
func asking(ctx context.Context, driver *bench.Docker) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := driver.Run(ctx, nexus.Op{Site: "a.localhost", Args: nexus.Inspect{}})
		out <- err
	}()
	return out
}

// wantOutage checks that an operation ends as an outage of the bench, before it began.
func wantOutage(t *testing.T, who string, out <-chan error) {
	t.Helper()
	select {
	case err := <-out:
		e, ok := errors.AsType[*nexus.Error](err)
		if !ok || e.Code != nexus.Unavailable || !e.Unbegun || e.Wait != nexus.WaitBench || e.Msg == "" {
			t.Errorf("%s: %+v, want an outage that charges nobody", who, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end with its context", who)
	}
}

// TestDaemonThatHangs: wherever a Docker daemon stops answering, each operation ends at
// its own deadline, as an outage that counts no attempt; so do those that wait for
// another's connection. The driver can be closed meanwhile. The test sets the environment,
// so its parts run one after another.
func TestDaemonThatHangs(t *testing.T) {
	for _, tc := range []struct {
		name, hangs string
		program     []byte
	}{
		{name: "at once", hangs: "/_ping"},
		{name: "at the list", hangs: "/containers/json"},
		{name: "at the container", hangs: "/abc/json"},
		{name: "at the exec", hangs: "/abc/exec"},
		{name: "at the stream", hangs: "/e1/start"},
		{name: "at the program, which no buffer holds", hangs: "/nothing", program: make([]byte, 64<<20)},
		{name: "at the runner's hello", hangs: "/nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &daemon{hangs: tc.hangs, program: tc.program}
			driver := d.start(t)
			long, stop := context.WithCancel(t.Context())
			defer stop()
			first := asking(long, driver) // holds the attempt until it is stopped
			d.reached(t)
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			for _, out := range []<-chan error{asking(short, driver), asking(short, driver)} {
				wantOutage(t, "one that waits behind it", out)
			}
			stop()
			wantOutage(t, "the one that was first", first)
			due, cancelDue := context.WithCancelCause(t.Context())
			defer cancelDue(nil)
			next := asking(due, driver)
			d.reached(t)
			cancelDue(context.DeadlineExceeded)
			wantOutage(t, "the next, with an attempt of its own", next)
			late, cancelLate := context.WithCancel(t.Context())
			defer cancelLate()
			last := asking(late, driver)
			d.reached(t)
			closed := make(chan error, 1)
			go func() { closed <- driver.Close() }()
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the driver cannot be closed")
			}
			cancelLate()
			wantOutage(t, "one that was under way at the close", last)
			wantOutage(t, "one after the close", asking(t.Context(), driver))
		})
	}
}

// waiter is a context that tells when somebody first waits for its end.
type waiter struct {
	context.Context
	waits func()
}

func (w waiter) Done() <-chan struct{} { w.waits(); return w.Context.Done() }

// TestDialFails: an operation that waits while another's connection is made takes its
// failure, and makes no attempt of its own; a later operation does. The test sets the
// environment.
func TestDialFails(t *testing.T) {
	d := &daemon{hangs: "/abc/exec"}
	driver := d.start(t)
	first := asking(t.Context(), driver)
	d.reached(t)
	waits := make(chan struct{})
	second := asking(waiter{t.Context(), sync.OnceFunc(func() { close(waits) })}, driver)
	<-waits
	d.let() // the daemon's answer is empty
	wantOutage(t, "the first", first)
	wantOutage(t, "the one that waits", second)
	if n := len(d.asked); n != 0 {
		t.Errorf("the daemon was asked %d times more", n)
	}
	wantOutage(t, "the next", asking(t.Context(), driver))
	d.reached(t)
}
