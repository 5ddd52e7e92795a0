package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // time zones are checked on hosts that have no list of them
)

// Main is the whole of a process that takes no arguments: it reads the
// environment, runs its parts until a signal comes, and answers with the exit
// code: 0 after a drain, 1 after a failure, 2 for a configuration that will not do.
func Main(name string, parts Parts) int {
	ctx := Signals(context.Background()) //nolint:forbidigo // the root of the process
	return Process(ctx, name, parts, os.Environ(), os.Stderr, nil)
}

// Signals ends a context at the first SIGINT or SIGTERM. A second one kills, but
// not at once: npm and timeout send the same one twice, and what a process has to
// say or to give back at its end must get its time.
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

// unfit is a set-up that no waiting mends.
type unfit struct{ error }

// Process runs the parts of a named process with a given environment.
func Process(ctx context.Context, name string, parts Parts, environ []string, stderr io.Writer, ready func(Config, Addresses)) int {
	c, warnings, err := Load(environ)
	if err != nil {
		fmt.Fprintf(stderr, "%s: the configuration will not do:\n  %s\n", name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return 2
	}
	log := NewLog(stderr, c.LogLevel)
	for _, warning := range warnings {
		log.WarnContext(ctx, warning)
	}
	err = Run(ctx, c, parts, log, func(at Addresses) {
		log.InfoContext(ctx, name+" started", "api", at.API, "sandbox", at.Sandbox)
		if ready != nil {
			ready(c, at)
		}
	})
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		if _, ok := errors.AsType[unfit](err); ok {
			return 2
		}
		return 1
	}
	log.InfoContext(ctx, name+" stopped")
	return 0
}
