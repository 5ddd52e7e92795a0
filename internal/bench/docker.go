package bench

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

//go:embed runner/*.py
var runnerFiles embed.FS

// bootstrap reads "<length>\n<source>" and not a byte more: a buffered reader would
// swallow the operations that follow, and `python -` would wait for the end of input.
const bootstrap = `import os
def take(n):
    b = b""
    while len(b) < n:
        part = os.read(0, n - len(b))
        if not part: raise SystemExit(1)
        b += part
    return b
size = b""
while not size.endswith(b"\n"): size += take(1)
exec(compile(take(int(size)), "runner.py", "exec"))`

// reachTime is how long the Docker daemon may take to start the runner, so that a hung
// daemon or a half-open connection does not block a step for longer.
const reachTime = 15 * time.Second

// helloTime is how long a runner may take to say hello: it imports Frappe first.
const helloTime = 60 * time.Second

// DockerOptions describe a bench in a container. Service and Log are needed.
type DockerOptions struct {
	Service     string // Compose service ("backend" or "project/backend"), or the container's name
	Install     nexus.InstallID
	DBAccount   string // may call the definer procedures, and nothing else
	DBPassword  nexus.Secret
	VerifyAddr  string // host:port where the bench's sites answer
	OutputLimit int64  // bytes one operation may print; 0: 10 MiB
	Log         *slog.Logger
	Up          func(bool) // called when the runner has started and when it is gone; may be nil
}

// Docker drives a bench through one long-lived runner in its container. Safe
// for concurrent use; it connects at the first operation, and again whenever
// the connection was lost.
type Docker struct {
	o      DockerOptions
	docker *client.Client
	source []byte
	verify *verifier

	dialing chan struct{} // holds a value while a connection is made

	mu       sync.Mutex
	conn     *conn
	closed   bool
	failures int   // of dials, but for those whose caller gave up
	failure  error // of the last of them
}

var _ nexus.Bench = (*Docker)(nil)

// NewDocker opens the driver; the Docker daemon is found as the docker command
// finds it: DOCKER_HOST, else the context of DOCKER_CONTEXT or of its config file.
func NewDocker(o DockerOptions) (*Docker, error) {
	daemon, err := daemonOptions(os.Getenv)
	if err != nil {
		return nil, err
	}
	docker, err := client.NewClientWithOpts(append(daemon, client.WithAPIVersionNegotiation())...)
	if err != nil { // its text repeats DOCKER_HOST, which may hold a user and a password
		return nil, errors.New("docker: the client cannot be set up; DOCKER_HOST must be an address such as unix:///var/run/docker.sock, and DOCKER_CERT_PATH a folder with certificates")
	}
	source, err := runnerSource()
	if err != nil {
		return nil, err
	}
	return &Docker{o: o, docker: docker, source: source, verify: newVerifier(o.VerifyAddr), dialing: make(chan struct{}, 1)}, nil
}

// runnerSource joins the runner's files in name order.
func runnerSource() ([]byte, error) {
	names, err := fs.Glob(runnerFiles, "runner/*.py")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []byte
	for _, name := range names {
		text, err := runnerFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(append(all, text...), '\n')
	}
	return all, nil
}

// Close ends the runner, and with it all operations on the bench.
func (d *Docker) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn != nil {
		d.conn.close(errors.New("the driver was closed"))
		d.conn.wait()
	}
	d.verify.close()
	return d.docker.Close()
}

// Run does one operation; see nexus.Bench.
func (d *Docker) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if args, ok := op.Args.(nexus.Verify); ok {
		return d.verify.run(ctx, op.Site, args)
	}
	c, err := d.connection(ctx)
	if err != nil {
		return nexus.Result{}, err
	}
	timeout := 10 * time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	r := request{Op: string(op.Args.Op()), Install: d.o.Install, Site: op.Site, Room: op.Room, DB: op.DB, Owner: op.Owner,
		Gen: strconv.FormatInt(int64(op.Gen), 10), Submitted: strconv.FormatInt(int64(op.Submitted), 10), TimeoutS: timeout.Seconds(), OutputLimit: d.o.OutputLimit, Args: op.Args,
		Secrets: map[string]string{"db_account": d.o.DBAccount, "db_password": d.o.DBPassword.Reveal()}}
	for name, secret := range op.Args.Secrets() {
		r.Secrets[name] = secret.Reveal()
	}
	return c.run(ctx, op, r)
}

// connection returns the open connection, or makes one. Only one caller at a time
// makes it, since a second runner would only compete with the first; the others wait,
// each until its own context ends, and take its result: one after the other they would
// each wait for a daemon that hangs.
func (d *Docker) connection(ctx context.Context) (*conn, error) {
	if c, err := d.live(); c != nil || err != nil {
		return c, err
	}
	before, _ := d.failed()
	select {
	case d.dialing <- struct{}{}:
		defer func() { <-d.dialing }()
	case <-ctx.Done():
		return nil, gone("The bench's container does not answer.", context.Cause(ctx))
	}
	if c, err := d.live(); c != nil || err != nil { // made while this caller waited
		return c, err
	}
	if now, err := d.failed(); now > before {
		return nil, err
	}
	c, err := d.dial(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			d.failures, d.failure = d.failures+1, err
		}
		return nil, err
	}
	if d.closed {
		c.close(errors.New("the driver was closed"))
		return nil, gone("The bench's driver is closed.", nil)
	}
	d.conn = c
	if d.o.Up != nil {
		d.o.Up(true)
		c.loops.Go(func() { <-c.done; d.o.Up(false) })
	}
	return c, nil
}

// failed returns how many dials failed, and the error of the last.
func (d *Docker) failed() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failures, d.failure
}

// live returns the open connection, or nil if there is none.
func (d *Docker) live() (*conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, gone("The bench's driver is closed.", nil)
	}
	if d.conn != nil {
		select {
		case <-d.conn.done:
		default:
			return d.conn, nil
		}
	}
	return nil, nil //nolint:nilnil // none is an answer
}

// dial starts a runner and waits until it says hello.
func (d *Docker) dial(ctx context.Context) (*conn, error) {
	reach, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	stream, err := d.exec(reach)
	if err != nil {
		return nil, err
	}
	c := newConn(context.WithoutCancel(ctx), stream, d.o.Log)
	up := time.NewTimer(helloTime)
	defer up.Stop()
	select {
	case hello := <-c.hello:
		if hello.Protocol != 1 {
			c.close(errors.New("unknown protocol"))
			return nil, gone("The runner speaks another protocol than this worker.", fmt.Errorf("protocol %d", hello.Protocol))
		}
		d.o.Log.InfoContext(ctx, "runner started", nexus.LogHost, hello.Host, "frappe", hello.Frappe)
		return c, nil
	case <-c.done:
		return nil, gone("The runner does not start in the bench's container.", stream.failure(c.why))
	case <-ctx.Done():
	case <-up.C:
	}
	why := errors.Join(fmt.Errorf("no hello within %s", helloTime), context.Cause(ctx))
	c.close(why)
	return nil, gone("The runner does not start in the bench's container.", stream.failure(why))
}

// exec starts the runner and feeds it its own program.
func (d *Docker) exec(ctx context.Context) (*execStream, error) {
	_ = d.docker.Close() // closes idle connections: they may be as dead as the runner's was
	box, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	dir := strings.TrimSuffix(strings.TrimSuffix(box.Config.WorkingDir, "/"), "/sites")
	home := "/home/" + box.Config.User
	if box.Config.User == "" || box.Config.User == "root" {
		home = "/root"
	}
	created, err := d.docker.ContainerExecCreate(ctx, box.ID, container.ExecOptions{
		User: box.Config.User, WorkingDir: dir, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		// An empty environment: the container's must not change what Frappe does, and
		// ours must not show in `docker inspect`.
		Cmd: []string{"env", "-i", "PATH=" + dir + "/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=" + home, "LANG=C.UTF-8", dir + "/env/bin/python", "-u", "-c", bootstrap},
	})
	if err != nil {
		return nil, gone("The runner cannot be started in the bench's container.", err)
	}
	attached, err := d.attach(ctx, created.ID)
	if err != nil {
		return nil, gone("The runner cannot be started in the bench's container.", err)
	}
	reader, writer := io.Pipe()
	stream := &execStream{PipeReader: reader, attached: attached}
	go func() { // ends with the connection
		_, err := stdcopy.StdCopy(writer, &stream.stderr, attached.Reader)
		if err == nil {
			err = io.EOF
		}
		_ = writer.CloseWithError(err)
	}()
	inTime := context.AfterFunc(ctx, func() { _ = stream.Close() }) // a daemon that does not read blocks the write
	_, err = fmt.Fprintf(attached.Conn, "%d\n%s", len(d.source), d.source)
	if !inTime() || err != nil {
		_ = stream.Close()
		return nil, gone("The runner cannot be started in the bench's container.", cmp.Or(err, context.Cause(ctx)))
	}
	return stream, nil
}

// attach connects to an exec. The call blocks on a hung daemon whatever the context
// says, so it runs in a goroutine; if it succeeds too late its stream is closed.
func (d *Docker) attach(ctx context.Context, id string) (types.HijackedResponse, error) {
	type answer struct {
		stream types.HijackedResponse
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		stream, err := d.docker.ContainerExecAttach(context.WithoutCancel(ctx), id, container.ExecAttachOptions{})
		done <- answer{stream, err}
	}()
	select {
	case a := <-done:
		return a.stream, a.err
	case <-ctx.Done():
		go func() {
			if a := <-done; a.err == nil {
				a.stream.Close()
			}
		}()
		return types.HijackedResponse{}, context.Cause(ctx)
	}
}

// execStream is an exec's standard input and output as one stream; what it
// writes to standard error is kept for the operator.
type execStream struct {
	*io.PipeReader
	attached types.HijackedResponse
	stderr   tail
}

// Write sends to the runner's standard input.
func (s *execStream) Write(p []byte) (int, error) { return s.attached.Conn.Write(p) }

// Close ends the runner: it sees the end of its input.
func (s *execStream) Close() error {
	s.attached.Close()
	return s.PipeReader.Close()
}

// failure wraps why a runner did not start, with the end of its standard error.
func (s *execStream) failure(why error) error {
	return fmt.Errorf("%w: %s", why, s.stderr.text())
}

// tail keeps the last few kilobytes written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// Write keeps the end of what came.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - 4096; over > 0 {
		t.kept = t.kept[over:]
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// gone is an outage of the bench as a whole.
func gone(msg string, err error) error {
	return &nexus.Error{Code: nexus.Unavailable, Op: "bench.docker", Wait: nexus.WaitBench, Unbegun: true,
		RetryAfter: outagePause, Msg: msg, Err: err}
}
