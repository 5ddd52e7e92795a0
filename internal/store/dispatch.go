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

// TaskType is the one asynq task type; what to do is in the record.
const TaskType = "job"

// The queues, by urgency: what has begun goes before what has not.
const (
	QueueResume      = "resume"
	QueueProvision   = "provision"
	QueueMaintenance = "maintenance"
)

// taskVersion names the shape of a task's payload.
const taskVersion = 1

// Task is what travels through asynq: names only, never a secret.
type Task struct {
	V        int         `json:"v"`
	Job      nexus.JobID `json:"job"`
	Dispatch int64       `json:"dispatch"`
}

// ParseTask reads a task's payload; ok is false for one of another version.
func ParseTask(payload []byte) (t Task, ok bool) {
	err := json.Unmarshal(payload, &t)
	return t, err == nil && t.V == taskVersion && t.Job.Valid()
}

// queue is asynq, as far as the store knows it.
type queue struct {
	tasks *asynq.Client
	look  *asynq.Inspector
}

func newQueue(rdb redis.UniversalClient) queue {
	return queue{tasks: asynq.NewClientFromRedisClient(rdb), look: asynq.NewInspectorFromRedisClient(rdb)}
}

func (s *Store) enqueue(ctx context.Context, id nexus.JobID, dispatch int64, kind nexus.Kind) error {
	task := asynq.NewTask(TaskType, []byte(encode(Task{V: taskVersion, Job: id, Dispatch: dispatch})))
	// asynq's own retries, timeouts and recovery must never come into play: the
	// due index is the only timer (MaxRetry 0 archives what asynq gives up on).
	_, err := s.queue.tasks.EnqueueContext(ctx, task, asynq.TaskID(taskID(id, dispatch)), asynq.Queue(queueOf(dispatch, kind)),
		asynq.MaxRetry(0), asynq.Timeout(25*time.Hour), asynq.Retention(72*time.Hour))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return classify("enqueue", err)
	}
	return err
}

func taskID(id nexus.JobID, dispatch int64) string { return fmt.Sprintf("%s.%d", id, dispatch) }

func queueOf(dispatch int64, kind nexus.Kind) string {
	if dispatch > 1 || kind != nexus.KindProvision {
		return QueueResume
	}
	return QueueProvision
}

// Found is what a look at the due index brought up.
type Found struct {
	Rescued []nexus.JobID // their leases had run out
	Purges  []Purge       // suspended tenants whose time is over
	Late    error         // deliveries that failed: they are found due again
}

// Purge is a tenant to be removed for good.
type Purge struct {
	Site nexus.SiteName
	At   string // its purge date as stored: names this purge, and no other
}

// The look itself must be quick, or it is an outage; what it found may take
// longer to deliver.
const (
	lookAtMost    = 200 * time.Millisecond
	deliverAtMost = 3 * time.Second
	deliveries    = 8 // at once
)

// Tick hands out what is due and enqueues it; rescue says whether leases that
// ran out may be taken over. To be called several times a second by every
// worker; cost: one script, and one enqueue for each job that is due.
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
	_ = all.Wait() // each said what it had to in Late
	return out, nil
}

// deliver enqueues a dispatch that nobody has taken; again: it is not the first
// time. asynq may know the task already: pending is fine, anything else means that
// its worker died between dequeue and take, and a new dispatch must be named.
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
