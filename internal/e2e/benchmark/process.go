package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a program that this run started. Its output goes to a file, as that of a
// service does, so that this program need not copy it.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended bool          // ended on purpose
	done  chan struct{} // closed when the process has ended
}

// start runs a program in a folder, with the given environment and little else.
func start(dir, name string, env []string, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the program has its own descriptor
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the log has the reason
		close(p.done)
	}()
	return p, nil
}

// end asks the process to stop and kills it after the time. A second call does nothing.
func (p *process) end(patience time.Duration) error {
	p.ended = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
	}
	return p.kill()
}

func (p *process) kill() error {
	p.ended = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s (process %d) cannot be ended: %w", p.name, p.cmd.Process.Pid, err)
	}
	<-p.done
	return nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// lines returns the JSON lines with this message that are in the log so far.
func (p *process) lines(msg string) []map[string]any {
	text, _ := os.ReadFile(p.log)
	var out []map[string]any
	for line := range bytes.Lines(text) {
		var said map[string]any
		if json.Unmarshal(line, &said) == nil && said["msg"] == msg {
			out = append(out, said)
		}
	}
	return out
}

// says waits for a line with this message and returns one of its fields.
func (p *process) says(ctx context.Context, msg, field string) (text string, err error) {
	err = eventually(ctx, 20*time.Second, p.name+" says "+msg, func() bool {
		for _, line := range p.lines(msg) {
			text, _ = line[field].(string)
		}
		return text != "" || p.gone()
	})
	if err == nil && text == "" {
		err = fmt.Errorf("%s ended early", p.name)
	}
	return text, err
}

// said returns the time of the first line with this message.
func (p *process) said(msg string) (at time.Time, ok bool) {
	for _, line := range p.lines(msg) {
		text, _ := line["time"].(string)
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at, true
		}
	}
	return at, false
}

// eventually waits until ok returns true; it is an error if it does not within the time.
func eventually(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
	return nil
}

// pause waits for a time, or until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// freePort returns a port of loopback on which nobody listens.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, l.Close()
}
