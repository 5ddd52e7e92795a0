package bench

import (
	"context"
	"io"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Conn lets tests see one connection from outside.
type Conn struct{ c *conn }

// Attach makes a driver whose runner is at the other end of a stream; it has said hello
// unless it still imports.
func Attach(ctx context.Context, o DockerOptions, rw io.ReadWriteCloser, imports bool) (*Docker, Conn, error) {
	d, err := NewDocker(o)
	if err != nil {
		return nil, Conn{}, err
	}
	d.conn = newConn(ctx, rw, o.Log)
	d.conn.mu.Lock()
	defer d.conn.mu.Unlock()
	d.conn.greeted = !imports
	return d, Conn{d.conn}, nil
}

// SetProgram sets what is sent as the runner's program.
func (d *Docker) SetProgram(source []byte) { d.source = source }

// Hello returns the runner's hello.
func (c Conn) Hello() <-chan nexus.HelloResult { return c.c.hello }

// Done is closed when the connection is over.
func (c Conn) Done() <-chan struct{} { return c.c.done }

// Wait returns once the connection's goroutines are gone.
func (c Conn) Wait() { c.c.wait() }

// SetAdmin makes a user of a sandbox's site without an operation, with this key, which may
// be empty.
func (s *Sandbox) SetAdmin(site nexus.SiteName, email string, key nexus.IssueKey) error {
	state, err := s.folder.site(site)
	if err != nil {
		return err
	}
	state.User = newUser(nexus.EnsureUser{Email: email})
	if key.Key != "" {
		state.User.pair = pair{digest(key.Key.Reveal()), digest(key.Secret.Reveal())}
	}
	return s.folder.saveSite(state)
}

// Choose names the container of a service.
func Choose(service string, list []container.Summary) (string, error) { return choose(service, list) }

// DaemonHost is the address of the daemon that an environment means.
func DaemonHost(getenv func(string) string) (string, error) {
	options, err := daemonOptions(getenv)
	if err != nil {
		return "", err
	}
	docker, err := client.NewClientWithOpts(options...)
	if err != nil {
		return "", err
	}
	return docker.DaemonHost(), docker.Close()
}
