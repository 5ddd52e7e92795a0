//go:build service

package e2e_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// tasks counts asynq's tasks in all states; kept ones are completed.
func (s *stack) tasks() (live, kept int) {
	s.t.Helper()
	look := asynq.NewInspectorFromRedisClient(s.rdb)
	for _, name := range []string{"resume", "provision", "machine"} {
		if info, err := look.GetQueueInfo(name); err == nil { // asynq does not know a queue that was never used
			live += info.Pending + info.Active + info.Scheduled + info.Retry
			kept += info.Completed + info.Archived
		}
	}
	return live, kept
}

// TestFaultKeyUnknown runs a worker without the API's new sealing key. Alone it leaves
// the jobs of that key and does those of the key it has. A second worker with both keys
// does all.
func TestFaultKeyUnknown(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=50ms", "NEXUS_APPS=erpnext")
	former := key("former")
	both := "NEXUS_SECRET_KEYS=" + key("latter") + "," + former
	older := s.signup("older", "older@example.com") // sealed with the stack's own
	s.env = append(s.env, both)
	s.startAPI()
	jobs := make([]gen.Accepted, 6)
	for i := range jobs {
		jobs[i] = s.signup(fmt.Sprintf("newer-%d", i), fmt.Sprintf("newer%d@example.com", i))
	}
	ignorant := s.worker("NEXUS_SECRET_KEYS=" + former)
	s.leftAlone(ignorant, append(jobs, older), "unknown key", 2)
	s.worker()
	knows := time.Now()
	for _, a := range jobs {
		if job := s.end(a.JobId, 60*time.Second); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
		if r := s.record(a.JobId); r.Rescues != 0 || slices.ContainsFunc(r.Steps, func(step nexus.Step) bool { return step.Starts != 1 }) {
			t.Errorf("%s was harmed: %+v", a.Site, r)
		}
	}
	t.Logf("the last was done %s after a worker came that knows the key", time.Since(knows))
	s.leftAlone(ignorant, []gen.Accepted{older}, "unknown key", 0)
	s.keysOpenTheirOwn(jobs[:2])
	// A key that is lost for good: an operator cancels the job, which needs no key.
	if _, err := s.client.Cancel(t.Context(), older.JobId, operator); err != nil {
		t.Fatal(err)
	}
	if job := s.end(older.JobId, time.Minute); job.State != gen.StateCanceled {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	s.freed(older.Site)
	s.sound()
}

func key(id string) string {
	var b [32]byte
	rand.Read(b[:])
	return id + ":" + base64.StdEncoding.EncodeToString(b[:])
}

// leftAlone checks that a worker was handed the jobs several times, and has changed
// neither them nor asynq's queues.
func (s *stack) leftAlone(w *process, jobs []gen.Accepted, why string, more int) {
	s.t.Helper()
	before := map[string]record{}
	for _, a := range jobs {
		before[a.JobId] = s.record(a.JobId)
	}
	eventually(s.t, 60*time.Second, "every job was handed to the worker that does not know it", func() bool {
		return !slices.ContainsFunc(jobs, func(a gen.Accepted) bool {
			return w.log.count(`"job left to another worker"`, why, a.JobId) < more
		})
	})
	for _, a := range jobs {
		was, now := before[a.JobId], s.record(a.JobId)
		if now.State != was.State || now.Fields["steps"] != was.Fields["steps"] || now.Fields["gen"] != was.Fields["gen"] ||
			now.Fields["error"] != was.Fields["error"] || now.Rescues > was.Rescues+1 {
			s.t.Errorf("%s was not left alone:\n%+v\n%+v", a.Site, was.Fields, now.Fields)
		}
	}
	alive := int(fromRedis(s.t, s.rdb.ZCard(s.t.Context(), "{nexus}:due")))
	if live, kept := s.tasks(); live > 2*alive { // one that a worker holds for a while, and the next
		s.t.Errorf("%d live jobs have %d tasks, and %d are kept", alive, live, kept)
	}
}

// TestFaultStepUnknown has jobs of a newer version, with a kind or a step that the
// worker does not know, one of them half done and one half undone. They wait until a
// worker knows them, and succeed. Here the test changes them into jobs that this version
// knows.
func TestFaultStepUnknown(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=400ms", "NEXUS_APPS=erpnext")
	worker := s.worker()
	running, undone := s.provisions("begun", "user")[0], s.failing("begun", "fail-plan")
	edit := func(id, kind string, change func([]nexus.Step) []nexus.Step) {
		t.Helper()
		text, err := json.Marshal(change(s.record(id).Steps))
		if err == nil {
			err = s.rdb.HSet(t.Context(), "{nexus}:job:"+id, "kind", kind, "steps", string(text)).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	same := func(steps []nexus.Step) []nexus.Step { return steps }
	with := func(steps []nexus.Step) []nexus.Step {
		return append(steps, nexus.Step{Name: "of_tomorrow", State: nexus.StepPending})
	}
	without := func(steps []nexus.Step) []nexus.Step { return steps[:len(steps)-1] }

	s.hold([]*staged{running, undone})
	worker.end(syscall.SIGKILL)
	s.letGo([]*staged{running, undone})
	kind, step := s.signup("kind", "kind@example.com"), s.signup("step", "step@example.com")
	edit(kind.JobId, "clone", same)
	edit(step.JobId, "provision", with)
	edit(running.JobId, "provision", with)
	edit(undone.JobId, "provision", with)
	worker = s.worker()
	s.leftAlone(worker, []gen.Accepted{kind}, "unknown kind", 2)
	s.leftAlone(worker, []gen.Accepted{step, running.Accepted, undone.Accepted}, "unknown step", 2)

	edit(kind.JobId, "provision", same)
	for _, a := range []gen.Accepted{step, running.Accepted, undone.Accepted} {
		edit(a.JobId, "provision", without)
	}
	for _, a := range []gen.Accepted{kind, step} {
		if job := s.end(a.JobId, 90*time.Second); job.State != gen.StateSucceeded {
			t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
		}
	}
	s.onceOnly(running)
	s.keysOpenTheirOwn([]gen.Accepted{kind, step, running.Accepted})
	if job := s.end(undone.JobId, 90*time.Second); job.State != gen.StateFailed || value(job.Error.Step) != "plan" {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	s.freed(undone.Site)
	s.sound()
}

// TestFaultTaskUnknown puts tasks into asynq that no worker of this version has made: of
// another payload version, another type, without a job, and garbage. They are dropped
// and do no harm.
func TestFaultTaskUnknown(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0, "NEXUS_SANDBOX_DELAY=50ms", "NEXUS_APPS=erpnext")
	a := s.signup("newer", "newer@example.com")
	look, client := asynq.NewInspectorFromRedisClient(s.rdb), asynq.NewClientFromRedisClient(s.rdb)
	if err := look.DeleteTask("provision", a.JobId+".1"); err != nil {
		t.Fatal(err)
	}
	for i, task := range []*asynq.Task{
		asynq.NewTask("job", fmt.Appendf(nil, `{"v":2,"job":%q,"dispatch":1,"more":true}`, a.JobId)),
		asynq.NewTask("job", fmt.Appendf(nil, `{"v":1,"job":%q,"dispatch":1}`, nexus.NewJobID())),
		asynq.NewTask("job", fmt.Appendf(nil, `{"v":1,"job":%q,"dispatch":7}`, a.JobId)),
		asynq.NewTask("job", fmt.Appendf(nil, `{"v":1,"job":%q,"dispatch":-1}`, a.JobId)),
		asynq.NewTask("job", []byte("{")),
		asynq.NewTask("backup", []byte(`{"v":1}`)),
	} {
		id := fmt.Sprintf("strange.%d", i)
		if i == 0 {
			id = a.JobId + ".1"
		}
		if _, err := client.Enqueue(task, asynq.TaskID(id), asynq.Queue("provision"), asynq.MaxRetry(0)); err != nil {
			t.Fatal(err)
		}
	}
	worker := s.worker()
	if job := s.end(a.JobId, time.Minute); job.State != gen.StateSucceeded {
		t.Errorf("%s is %s: %+v", job.Site, job.State, job.Error)
	}
	eventually(t, 10*time.Second, "the three tasks of unknown shape are named in the log", func() bool {
		return worker.log.count("task of an unknown shape left alone") >= 3
	})
	eventually(t, 10*time.Second, "no task is left", func() bool { live, _ := s.tasks(); return live == 0 })
	s.keysOpenTheirOwn([]gen.Accepted{a})
	s.sound()
}
