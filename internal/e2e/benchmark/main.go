// Command benchmark prints the budgets that need no real bench, each figure
// beside its peer's from the same run: asynq by itself, or a bare Echo handler.
// It starts its own redis-server (every write synced, as the product demands),
// the product's binaries and the peers, on loopback only; it ends what it
// started, by process id, and takes about two minutes. Figures of different
// runs or machines are not to be compared; the ratios are.
//
// May import: internal/nexus, internal/app, api/client, api/gen.
// Imported by: nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// longest is when a run is given up.
const longest = 5 * time.Minute

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	work := benchmark
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		work = func(ctx context.Context) error { return peer(ctx, os.Args[2:]) }
	}
	if err := work(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "benchmark: %v\n", err)
		return 1
	}
	return 0
}

// measure is one part of the run; it answers with its rows of the table.
type measure struct {
	name, doing string
	do          func(context.Context, *stack) ([]row, error)
}

// measures are all parts, in their order: the idle processes are fresh ones,
// and the last part ends the worker.
func measures() []measure {
	return []measure{
		{"idle", "idling", idle},
		{"latency", "timing first steps", firstSteps},
		{"rate", "counting whole jobs", wholeJobs},
		{"reads", "asking for a job", jobReads},
		{"kill", "killing a worker", killed},
	}
}

// chosen are the parts that the arguments name; all of them without any.
func chosen(names []string) ([]measure, error) {
	all := measures()
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(m measure) bool { return m.name == name }) {
			return nil, fmt.Errorf("there is no part %q; there are idle, latency, rate, reads and kill", name)
		}
	}
	return slices.DeleteFunc(all, func(m measure) bool { return !slices.Contains(names, m.name) }), nil
}

func benchmark(ctx context.Context) (err error) {
	parts, err := chosen(os.Args[1:])
	if err != nil {
		return err
	}
	before := machine()
	s, err := newStack(ctx)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	var rows []row
	for _, part := range parts {
		started := time.Now()
		fmt.Fprintf(os.Stderr, "%s … ", part.doing)
		more, err := part.do(ctx, s)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			return fmt.Errorf("%s: %w%s", part.doing, err, s.lastWords())
		}
		rows = append(rows, more...)
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(started).Seconds())
	}
	print(os.Stdout, rows)
	fmt.Println(before + ".")
	return nil
}
