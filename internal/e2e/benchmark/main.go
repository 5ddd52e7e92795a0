// Command benchmark measures the budgets that need no real bench. It prints each figure
// with that of a peer from the same run: asynq alone, or a bare Echo handler. Each figure is
// measured several times, alternately with the peer's, and shown as a median with minimum
// and maximum; all of it is also written as JSON. The program starts its own redis-server
// (each write synced, as the product requires), the product's programs and the peers, on
// loopback only, and ends each of them by its process id. Compare the ratios of a run, not
// figures of different machines or times; docs/PERFORMANCE.md explains how.
//
// May import: internal/nexus, internal/app, api/client, api/gen.
// Imported by: nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	// With SIGPIPE, so that the processes also end when the reader of the output ends.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	args, work := os.Args[1:], benchmark
	if len(args) > 0 && args[0] == peerCommand {
		args, work = args[1:], peer
	}
	switch err := work(ctx, args); {
	case errors.Is(err, flag.ErrHelp):
		return 2
	case err != nil:
		fmt.Fprintf(os.Stderr, "benchmark: %v\n", err)
		return 1
	}
	return 0
}

// measure is one part of the benchmark; do returns its rows of the table.
type measure struct {
	name, doing string
	do          func(context.Context, *stack) ([]row, error)
}

// measures returns all parts in their order: idle processes are measured first, while they
// are new, and workers are killed last.
func measures() []measure {
	return []measure{
		{"idle", "idling", idle},
		{"latency", "timing first steps", firstSteps},
		{"rate", "counting whole jobs", wholeJobs},
		{"reads", "reading jobs", jobReads},
		{"watch", "watching jobs", watched},
		{"lists", "listing jobs", lists},
		{"crowd", "letting jobs wait", crowded},
		{"dev", "signing up at nexus dev", dev},
		{"kill", "killing workers", killed},
	}
}

// options are the decoded arguments.
type options struct {
	runs     int    // how often each figure is measured
	watchers int    // how many clients watch jobs
	json     string // path of the JSON file
	parts    []measure
}

// readOptions decodes the arguments: flags, then the parts to run; none: all parts.
func readOptions(args []string, usage io.Writer) (o options, err error) {
	all := measures()
	var names []string
	for _, part := range all {
		names = append(names, part.name)
	}
	flags := flag.NewFlagSet("benchmark", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.Usage = func() {
		fmt.Fprintf(usage, "usage: benchmark [flags] [part…]\nparts: %s (default: all)\n", strings.Join(names, ", "))
		flags.PrintDefaults()
	}
	flags.IntVar(&o.runs, "runs", 5, "how often each figure is measured; take an odd number")
	flags.IntVar(&o.watchers, "watchers", 1000, "how many clients watch jobs in the part watch")
	flags.StringVar(&o.json, "json", "bench.json", "file for the results as JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.runs < 1 || o.watchers < 1 {
		return o, errors.New("-runs and -watchers must be 1 or more")
	}
	for _, name := range flags.Args() {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("there is no part %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	o.parts = slices.DeleteFunc(all, func(m measure) bool { return flags.NArg() > 0 && !slices.Contains(flags.Args(), m.name) })
	return o, nil
}

func benchmark(ctx context.Context, args []string) (err error) {
	o, err := readOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	// A part that hangs must end.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.runs)*3*time.Minute+5*time.Minute)
	defer cancel()
	r := newReport(ctx, o.runs)
	s, err := newStack(ctx, o)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "redis-server is at %s, the logs are in %s\n", s.redisAddr, s.dir)
	var failed error // of a part; what the parts before it measured is printed all the same
	for _, part := range o.parts {
		started := time.Now()
		fmt.Fprintf(os.Stderr, "%s … ", part.doing)
		rows, err := part.do(ctx, s)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			failed = fmt.Errorf("%s: %w%s", part.doing, err, s.lastWords())
			break
		}
		r.Rows = append(r.Rows, rows...)
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(started).Seconds())
	}
	r.end(ctx, s.rdb)
	if err := r.write(o.json); err != nil {
		return errors.Join(failed, err)
	}
	r.print(os.Stdout)
	fmt.Fprintf(os.Stderr, "The figures are in %s.\n", o.json)
	return failed
}
