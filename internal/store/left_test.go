package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestLeftJobSaysWhy: a job that no worker can do shows the reason to its watchers and in
// readiness, until a worker takes it.
func TestLeftJobSaysWhy(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, submission("acme.localhost"))
		const why = "No worker that runs may do it: unknown key k9."
		for range 2 {
			if err := f.NoteLeft(t.Context(), job.ID, job.Dispatch, why); err != nil {
				t.Fatal(err)
			}
		}
		now, err := f.Job(t.Context(), job.ID)
		if err != nil || now.WaitingFor != nexus.WaitOperator || now.WaitNote != why || now.Rev != job.Rev+1 {
			t.Errorf("it says %q (%s), rev %d after %d, %v", now.WaitNote, now.WaitingFor, now.Rev, job.Rev, err)
		}
		told := func() bool {
			warnings := f.Ready(t.Context()).Warnings
			text := strings.Join(warnings, "\n")
			return strings.Contains(text, why) && strings.Contains(text, string(job.ID))
		}
		if !told() {
			t.Error("readiness does not say it")
		}
		f.take(t, job.ID)
		if now, err := f.Job(t.Context(), job.ID); err != nil || now.WaitNote != "" || told() {
			t.Errorf("taken, it still says %q, %v", now.WaitNote, err)
		}
		if err := f.NoteLeft(t.Context(), job.ID, job.Dispatch, why); err != nil || told() {
			t.Errorf("noted though it was taken: %v", err)
		}
		for i := range 25 {
			j := f.submit(t, submission(nexus.SiteName(fmt.Sprintf("a%d.localhost", i))))
			if err := f.NoteLeft(t.Context(), j.ID, j.Dispatch, why); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.rdb.HLen(t.Context(), "{nexus}:left").Val(); n != 20 {
			t.Errorf("%d are noted", n)
		}
	})
}

// TestLeave: a process that stops is no longer counted.
func TestLeave(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{"one", "two"} {
			if err := f.Announce(t.Context(), store.Presence{Role: "worker", Name: name, Keys: []string{"k1"}, Skew: f.skew(t)}); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int{2, 1} {
			if stats, err := f.Stats(t.Context()); err != nil || stats.Workers != want {
				t.Errorf("%d workers, want %d, %v", stats.Workers, want, err)
			}
			if err := f.Leave(t.Context(), "worker", []string{"one", "two"}[i]); err != nil {
				t.Fatal(err)
			}
		}
		if problems := f.Ready(t.Context()).Problems; !strings.Contains(strings.Join(problems, "\n"), "No worker is running") {
			t.Errorf("%v", problems)
		}
	})
}

func (f *fixture) skew(t *testing.T) time.Duration {
	t.Helper()
	skew, err := f.Skew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return skew
}
