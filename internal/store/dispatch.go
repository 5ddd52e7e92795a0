package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TaskType is the only asynq task type; the job's record says what to do.
const TaskType = "job"

// The queues. New signups have one of their own, so that jobs that have begun, and those of
// operators, do not wait behind all of them. Machine jobs, which nobody waits for, are served
// apart, so that they take no place of another job in a worker.
const (
	QueueResume    = "resume"
	QueueProvision = "provision"
	QueueMachine   = "machine"
)

// taskVersion is the version of a task's payload.
const taskVersion = 1

// Task is the payload in asynq: ids only, never a secret.
type Task struct {
	V        int         `json:"v"`
	Job      nexus.JobID `json:"job"`
	Dispatch int64       `json:"dispatch"`
}

// ParseTask decodes a task's payload; ok is false if it is invalid or of another version.
func ParseTask(payload []byte) (t Task, ok bool) {
	err := json.Unmarshal(payload, &t)
	return t, err == nil && t.V == taskVersion && t.Job.Valid()
}

// queue is the part of asynq's client that the store uses.
type queue struct {
	tasks *asynq.Client
	look  *asynq.Inspector
}

func newQueue(rdb redis.UniversalClient) queue {
	return queue{tasks: asynq.NewClientFromRedisClient(rdb), look: asynq.NewInspectorFromRedisClient(rdb)}
}

func (s *Store) enqueue(ctx context.Context, id nexus.JobID, dispatch int64, kind nexus.Kind) error {
	task := asynq.NewTask(TaskType, []byte(encode(Task{V: taskVersion, Job: id, Dispatch: dispatch})))
	// asynq must never retry, time out or recover a task by itself: the due index is the
	// only timer (MaxRetry 0 archives a task that asynq gives up).
	_, err := s.queue.tasks.EnqueueContext(ctx, task, asynq.TaskID(taskID(id, dispatch)), asynq.Queue(queueOf(dispatch, kind)),
		asynq.MaxRetry(0), asynq.Timeout(25*time.Hour), asynq.Retention(72*time.Hour))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return classify("enqueue", err)
	}
	return err
}

func taskID(id nexus.JobID, dispatch int64) string { return fmt.Sprintf("%s.%d", id, dispatch) }

func queueOf(dispatch int64, kind nexus.Kind) string {
	switch {
	case kind.Machine():
		return QueueMachine
	case dispatch > 1 || kind != nexus.KindProvision:
		return QueueResume
	}
	return QueueProvision
}

// Found is the result of one look at the due index.
type Found struct {
	Rescued []nexus.JobID // their leases had expired
	Purges  []Purge       // suspended tenants whose purge date has come
	Late    error         // the errors of failed deliveries, which become due again; nil: none
}

// Purge is a tenant whose purge date has come.
type Purge struct {
	Site nexus.SiteName
	At   string // the purge date as stored (ms); it identifies this purge
}

// The look itself has a short deadline, since a slow Redis is an outage; the deliveries
// that follow have a longer one.
const (
	lookAtMost    = 200 * time.Millisecond
	deliverAtMost = 3 * time.Second
	deliveries    = 8 // at once
)

// Tick reads what is due and enqueues it; rescue tells whether expired leases may be taken
// over. Every worker calls it several times a second. Cost: one script, and one enqueue
// for each due job.
func (s *Store) Tick(ctx context.Context, rescue bool) (out Found, err error) {
	look, stop := context.WithTimeout(ctx, lookAtMost)
	found, err := dueScript().Run(look, s.rdb, []string{dueKey}, 50, flag(rescue)).Slice()
	stop()
	if err != nil {
		return out, classify("tick", err)
	}
	ctx, stop = context.WithTimeout(ctx, deliverAtMost)
	defer stop()
	var all errgroup.Group
	all.SetLimit(deliveries)
	var mu sync.Mutex
	for _, entry := range found {
		r, _ := entry.([]any)
		fields := reply{rest: r}
		id, kind := nexus.JobID(fields.text(0)), nexus.Kind(fields.text(2))
		if fields.text(3) == "purge" {
			out.Purges = append(out.Purges, Purge{Site: nexus.SiteName(fields.text(0)), At: fields.text(1)})
			continue
		}
		dispatch, parseErr := strconv.ParseInt(fields.text(1), 10, 64)
		if parseErr != nil {
			return out, classify("tick", parseErr)
		}
		if fields.text(3) == "rescue" {
			out.Rescued = append(out.Rescued, id)
		}
		all.Go(func() error {
			err := s.deliver(ctx, id, dispatch, kind, fields.text(3) == "again")
			mu.Lock()
			defer mu.Unlock()
			out.Late = errors.Join(out.Late, err)
			return nil
		})
	}
	_ = all.Wait() // never an error: they are in Late
	return out, nil
}

// deliver enqueues a dispatch that was not taken; again tells that it was enqueued before.
// asynq may still have the task. If it is pending, nothing needs to be done. In any other
// state its worker died between dequeue and take, and the job needs a new dispatch.
func (s *Store) deliver(ctx context.Context, id nexus.JobID, dispatch int64, kind nexus.Kind, again bool) error {
	err := s.enqueue(ctx, id, dispatch, kind)
	if !errors.Is(err, asynq.ErrTaskIDConflict) {
		if err == nil && again {
			_, err = s.run(ctx, "redispatch", redispatchScript(), jobKey(id), string(id), dispatch, flag(false))
		}
		return err
	}
	info, err := s.queue.look.GetTaskInfo(queueOf(dispatch, kind), taskID(id, dispatch))
	if err == nil && info.State == asynq.TaskStatePending {
		return nil
	}
	if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
		return classify("deliver", err)
	}
	r, err := s.run(ctx, "redispatch", redispatchScript(), jobKey(id), string(id), dispatch, flag(true))
	if err != nil || r.word != "ok" {
		return err
	}
	return s.enqueue(ctx, id, dispatch+1, kind)
}
