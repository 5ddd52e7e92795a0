//go:build service

package e2e_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestQueuesTellTheEnd: asynq's view shows every finished task as a success, so the result
// of a task names the end of a job that did not succeed.
func TestQueuesTellTheEnd(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	look := asynq.NewInspectorFromRedisClient(s.rdb)
	for _, tc := range []struct{ name, email, want string }{
		{"well", "jane@example.com", ""},
		{"fails", "fail-apps@example.com", `{"state":"failed","code":"not_found","step":"apps"}`},
	} {
		id := s.signup(tc.name, tc.email).JobId
		s.end(id, time.Minute)
		eventually(t, 20*time.Second, "its task is over", func() bool {
			info, err := look.GetTaskInfo("provision", id+".1") // <job>.<dispatch>
			return err == nil && info.State == asynq.TaskStateCompleted
		})
		if info, err := look.GetTaskInfo("provision", id+".1"); err != nil || string(info.Result) != tc.want {
			t.Errorf("%s: the result is %q, want %q (%v)", tc.name, info.Result, tc.want, err)
		}
	}
}
