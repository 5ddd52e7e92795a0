package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // for hosts without a database of time zones

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Main runs a process that takes no arguments until a signal arrives, and returns its exit
// code: 0 after a signal, 1 after a failure, 2 for an error in the configuration.
func Main(name string, parts Parts) int {
	if len(os.Args) > 1 {
		return Arguments(name, os.Args[1:], os.Stdout, os.Stderr)
	}
	ctx := Signals(context.Background()) //nolint:forbidigo // the root of the process
	return Process(ctx, name, parts, os.Environ(), os.Stderr, nil)
}

// Arguments prints help or the version, or refuses other arguments: a process that ignored
// an argument would hide that a setting has no effect.
func Arguments(name string, args []string, stdout, stderr io.Writer) int {
	switch strings.TrimLeft(args[0], "-") {
	case "help", "h":
		fmt.Fprintf(stdout, usageText, name)
		return 0
	case "version", "v":
		fmt.Fprintf(stdout, "%s %s\n", name, Built())
		return 0
	}
	fmt.Fprintf(stderr, "%s: unexpected argument %q: its settings are in the environment. See: %[1]s --help\n", name, args[0])
	return 2
}

const usageText = `Usage: %[1]s [--help | --version]

%[1]s runs in the foreground until SIGTERM. It takes no arguments: its settings are
in the environment. "nexus init" writes a file with all of them; the manual's
docs/QUICKREF.md lists them. It logs to standard error.

Exit codes: 0 stopped by a signal; 1 failed; 2 an error in the configuration.
`

// Signals cancels a context at the first SIGINT or SIGTERM. A second one kills the process,
// but not within a second of the first: npm and timeout send the same signal twice.
func Signals(parent context.Context) context.Context {
	ctx, end := context.WithCancel(parent)
	got := make(chan os.Signal, 1)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	go func() { // as long as the process lives
		<-got
		end()
		<-time.After(time.Second)
		signal.Stop(got)
	}()
	return ctx
}

// Process runs the parts of a process with the given environment, and returns its exit
// code. Ready is called once all parts listen.
func Process(ctx context.Context, name string, parts Parts, environ []string, stderr io.Writer, ready func(Config, Addresses)) int {
	c, warnings, err := Load(environ)
	if err = errors.Join(err, c.needs(parts)); err != nil {
		return unusable(ctx, stderr, name, parts, err)
	}
	log := NewLog(stderr, c.LogLevel)
	logRedis(log)
	for _, warning := range warnings {
		log.WarnContext(ctx, warning)
	}
	err = Run(ctx, c, parts, log, func(at Addresses) {
		log.InfoContext(ctx, name+" started", c.startedAttrs(parts, at)...)
		if ready != nil {
			ready(c, at)
		}
	})
	if _, ok := errors.AsType[Misconfigured](err); ok {
		return unusable(ctx, stderr, name, parts, err)
	}
	if err != nil && parts.interactive() {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	if err != nil {
		log.ErrorContext(ctx, name+" failed", nexus.LogErr, err)
		return 1
	}
	log.InfoContext(ctx, name+" stopped")
	return 0
}

func unusable(ctx context.Context, stderr io.Writer, name string, parts Parts, err error) int {
	const msg = "the configuration has errors"
	if parts.interactive() {
		fmt.Fprintf(stderr, "%s: %s:\n  %s\n", name, msg, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	} else {
		NewLog(stderr, slog.LevelInfo).ErrorContext(ctx, msg, "process", name, "problems", strings.Split(err.Error(), "\n"))
	}
	return 2
}

// startedAttrs are the attributes of the log line of the start: the addresses, and for a
// worker its bench, the container, and the address at which it checks sites.
func (c *Config) startedAttrs(parts Parts, at Addresses) []any {
	attrs := []any{"version", Built().String()}
	for _, each := range []struct {
		key, value string
		shown      bool
	}{
		{"api", at.API, parts.API}, {"sandbox", at.Sandbox, parts.Sandbox}, {"bench", c.benchName(), parts.Worker},
		{"container", c.Service, parts.Worker && c.Bench == "docker"}, {"sites_at", c.VerifyAddr, parts.Worker && !parts.Sandbox && !c.single()},
		{"metrics", c.MetricsAddr, parts.Worker && c.MetricsAddr != ""},
	} {
		if each.shown {
			attrs = append(attrs, each.key, each.value)
		}
	}
	return attrs
}
