//go:build service

package e2e_test

import (
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestSubmitDiesAnywhere kills the API at every point around the record of a signup. The
// same idempotency key finds the same job, which succeeds. Without a key there is no
// half-recorded job and no blocked name: it is free, or its job makes the site.
func TestSubmitDiesAnywhere(t *testing.T) {
	s := newStack(t, 1)
	for i, point := range []string{"signup: read", "submit: before the record", "submit: after the record",
		"submit: after the task", "signup: before the answer"} {
		t.Run(point, func(t *testing.T) {
			name := regexp.MustCompile("[^a-z]+").ReplaceAllString(point, "-")
			s.diesAt(t, point, name, "key-"+name)
			accepted, err := s.client.Signup(t.Context(), person(name, "jane@example.com"), "key-"+name)
			if err != nil {
				t.Fatalf("the same call again: %v", err)
			}
			if job := s.end(accepted.JobId, 30*time.Second); job.State != gen.StateSucceeded {
				t.Fatalf("%s: %+v", job.State, job.Error)
			}
			again, err := s.client.Signup(t.Context(), person(name, "jane@example.com"), "key-"+name)
			if err != nil || again.JobId != accepted.JobId || again.ClaimToken != accepted.ClaimToken {
				t.Errorf("a third time: %+v, %v", again, err)
			}
		})
		t.Run(point+", without a key", func(t *testing.T) {
			name := "keyless" + regexp.MustCompile("[^a-z]+").ReplaceAllString(point, "-")
			s.diesAt(t, point, name, "")
			_, err := s.client.Signup(t.Context(), person(name, "jane@example.com"), "")
			if recorded := i >= 2; recorded != (nexus.CodeOf(err) == nexus.Conflict) || !recorded && err != nil {
				t.Errorf("the same call again, recorded before: %t: %v", recorded, err)
			}
		})
	}
	// Every recorded job has ended, and the due index is empty.
	eventually(t, 30*time.Second, "nothing is left due", func() bool {
		n, err := s.rdb.ZCard(t.Context(), "{nexus}:due").Result()
		return err == nil && n == 0
	})
	list, err := s.client.Jobs(t.Context(), "", "", "", 0)
	if err != nil || len(list.Jobs) != 10 {
		t.Errorf("%d jobs, %v; want one for each point and kind", len(list.Jobs), err)
	}
	for _, job := range list.Jobs {
		if job.State != gen.StateSucceeded {
			t.Errorf("%s is %s", job.Site, job.State)
		}
	}
	s.sound()
}

// diesAt calls an API that dies at a point.
func (s *stack) diesAt(t *testing.T, point, name, key string) {
	t.Helper()
	log := &logs{also: s.log}
	p := start(t, log, append(s.env, "NEXUS_TEST_FAULT="+point), filepath.Join(binaries, "api-faults"))
	dying := client.New(listening(t, log, "api started", "api"), operator)
	defer dying.Close()
	if _, err := dying.Signup(t.Context(), person(name, "jane@example.com"), key); nexus.CodeOf(err) != nexus.Unavailable {
		t.Fatalf("the api outlived its fault point: %v", err)
	}
	<-p.done
}
