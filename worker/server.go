package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// Serve takes tasks from asynq and reconciles until the context ends, then drains for at
// most the given time: it takes no new task, and each run leaves its job at the next
// boundary. Operations that still run then are repeated by another worker. Connection
// makes a Redis client of the server's own.
func Serve(ctx context.Context, connection asynq.RedisConnOpt, e *Engine, concurrency int, drain time.Duration) error {
	e.checkClock(ctx)
	ctx, stop := context.WithCancel(ctx)
	var looking errgroup.Group
	looking.Go(func() error { return e.Reconcile(ctx) })
	common := asynq.Config{ShutdownTimeout: drain, Logger: asynqLog{e.Log, ctx, &e.repeats}, LogLevel: asynq.ErrorLevel} // its warnings are our RevokeTask
	err := e.serve(ctx, drain, func() (servers, error) {
		// asynq asks one queue after the other, in a random order. A queue that is asked first
		// and is empty costs every task of the other a round trip, so no queue is preferred,
		// and machine jobs, which also must not take the place of others, have a server.
		people, machine := common, common
		people.Queues = map[string]int{store.QueueResume: 1, store.QueueProvision: 1}
		people.Concurrency, people.TaskCheckInterval = concurrency, 20*time.Millisecond
		machine.Queues, machine.Concurrency = map[string]int{store.QueueMachine: 1}, machineConcurrency
		all := servers{asynq.NewServer(connection, people), asynq.NewServer(connection, machine)}
		return all, all.start(asynq.HandlerFunc(e.handle))
	})
	stop()
	return errors.Join(err, looking.Wait())
}

// machineConcurrency is the number of machine jobs that a worker does at once: as many as a
// bench has slots for at most.
const machineConcurrency = 2

// servers are asynq servers that start and stop together.
type servers []*asynq.Server

func (all servers) start(h asynq.Handler) error {
	for i, server := range all {
		if err := server.Start(h); err != nil {
			all[:i].stop()
			return err
		}
	}
	return nil
}

// stop waits for the tasks that run, for at most the servers' ShutdownTimeout.
func (all servers) stop() {
	var stopping errgroup.Group
	for _, server := range all {
		stopping.Go(func() error { server.Shutdown(); return nil })
	}
	_ = stopping.Wait() // never an error
}

// serve runs asynq servers only while this machine's clock is right. With a wrong clock they
// would take tasks from workers that may do them, and asynq would recover tasks that others
// work on.
func (e *Engine) serve(ctx context.Context, drain time.Duration, begin func() (servers, error)) (err error) {
	var running servers
	for ctx.Err() == nil {
		switch right := e.clock.Load() == clockRight; {
		case right && running == nil:
			if running, err = begin(); err != nil {
				return fmt.Errorf("worker: %w", err)
			}
		case !right && running != nil:
			running.stop()
			running = nil
		}
		select {
		case <-ctx.Done():
		case <-e.turned:
		}
	}
	e.Log.InfoContext(ctx, "draining", "at_most", drain.String())
	limit, stop := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer stop()
	e.Drain()
	running.stop()
	e.quiet(limit)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.LeaseTime)
	defer cancel()
	e.abandon(last)
	return nil
}

// handle does a task of asynq's. It returns no error of a job, since asynq would retry the
// task.
func (e *Engine) handle(ctx context.Context, t *asynq.Task) error {
	task, ok := store.ParseTask(t.Payload())
	if t.Type() != store.TaskType || !ok {
		e.Log.WarnContext(ctx, "task of an unknown shape left alone", "type", t.Type())
		return asynq.RevokeTask
	}
	var job nexus.Job
	if !e.work(ctx, task, &job) {
		return asynq.RevokeTask
	}
	if err := result(t, job); err != nil { // asynq's view lacks it; the record has it
		e.Log.DebugContext(ctx, "result of a task not written", nexus.LogErr, err)
	}
	return nil
}

// ended is the state of a job at the end of its task. It is the task's result in asynq's
// view, which shows every finished task as a success. The task of a job that succeeded has
// no result: that view is right then, and the write is saved.
type ended struct {
	State nexus.State    `json:"state"`
	Code  nexus.Code     `json:"code,omitempty"`
	Step  nexus.StepName `json:"step,omitempty"`
}

func result(t *asynq.Task, job nexus.Job) error {
	if job.State == nexus.Succeeded {
		return nil
	}
	is := ended{State: job.State}
	if job.Error != nil {
		is.Code, is.Step = job.Error.Code, job.Error.Step
	}
	text, err := json.Marshal(is)
	if err != nil || t.ResultWriter() == nil { // a task that no server handed out has none
		return err
	}
	_, err = t.ResultWriter().Write(text)
	return err
}

// asynqLog writes asynq's log lines to slog.
type asynqLog struct {
	log *slog.Logger
	ctx context.Context //nolint:containedctx // asynq's logger has none to give

	repeats *nexus.Repeats
}

func (l asynqLog) Debug(args ...any) { l.log.DebugContext(l.ctx, "asynq", "line", fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.InfoContext(l.ctx, "asynq", "line", fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.log.WarnContext(l.ctx, "asynq", "line", fmt.Sprint(args...)) }
func (l asynqLog) Error(args ...any) {
	line := fmt.Sprint(args...)
	kind, _, _ := strings.Cut(line, ":")
	l.repeats.Log(l.ctx, l.log, slog.LevelError, "asynq "+kind, "asynq", "line", line)
}
func (l asynqLog) Fatal(args ...any) {
	l.log.ErrorContext(l.ctx, "asynq", "line", fmt.Sprint(args...), nexus.LogCode, string(nexus.Internal))
}
