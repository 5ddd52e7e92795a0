package api_test

import (
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestCancelOfWhatHasBegun: the rotation of a key, or a removal, can be canceled until a
// worker has it. Then a cancel is a conflict.
func TestCancelOfWhatHasBegun(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, method, deed string }{
		{"rotate_key", "POST", "/keys"}, {"teardown", "DELETE", "?purge=now"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"lives"}`))
			s.finish(job["jobId"].(string), nexus.Succeeded)
			begin := func() nexus.JobID {
				t.Helper()
				status, _, job := s.ask(tc.method, "/tenants/lives.example.com"+tc.deed, "", bearer(operator)...)
				id, _ := job["jobId"].(string)
				if id == "" {
					id, _ = job["id"].(string)
				}
				if status != 202 || id == "" {
					t.Fatalf("%d %v", status, job)
				}
				return nexus.JobID(id)
			}
			cancel := func(id nexus.JobID, want int) {
				t.Helper()
				if status, _, body := s.ask("POST", "/jobs/"+string(id)+"/cancel", "", bearer(operator)...); status != want {
					t.Errorf("%d %v, want %d", status, body, want)
				}
			}
			cancel(begin(), 202)
			id := begin()
			if _, _, taken, err := s.store.Take(t.Context(), id, 1, nil); err != nil || taken != store.TakeOK {
				t.Fatalf("%s, %v", taken, err)
			}
			cancel(id, 409)
			if job, err := s.store.Job(t.Context(), id); err != nil || job.CancelAsked || job.State != nexus.Running {
				t.Errorf("%+v, %v", job, err)
			}
		})
	}
}

// TestCancelIsShown: a job shows that its cancel was asked for.
func TestCancelIsShown(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, accepted := s.ask("POST", "/signup", signupBody(""))
	id := accepted["jobId"].(string)
	if _, _, taken, err := s.store.Take(t.Context(), nexus.JobID(id), 1, nil); err != nil || taken != store.TakeOK {
		t.Fatalf("%s, %v", taken, err)
	}
	if _, _, job := s.ask("GET", "/jobs/"+id, ""); job["cancelAsked"] != nil {
		t.Errorf("before it was asked: %v", job)
	}
	s.ask("POST", "/jobs/"+id+"/cancel", "", bearer(operator)...)
	if _, _, job := s.ask("GET", "/jobs/"+id, ""); job["cancelAsked"] != true || job["state"] != "running" {
		t.Errorf("afterwards: %v", job)
	}
}
