package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestPairIsStoredBeforeItIsUsed: the credentials of a step are in the store when its Do
// begins. Every attempt and every later step gets those of the first attempt, in the same run
// and in another worker's.
func TestPairIsStoredBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		lost error // of the first attempt
		die  bool  // its worker dies
	}{
		{name: "one attempt"},
		{name: "another attempt", lost: errors.New("the answer was lost")},
		{name: "another worker", die: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			made, calls := 0, 0
			var used, stored []string
			fresh := func(*tasks.Kit) (string, error) { made++; return fmt.Sprintf("pair %d", made), nil }
			do := func(_ context.Context, k *tasks.Kit) error {
				text, _ := h.redis.Get("{nexus}:credentials:" + string(k.Job.ID)) // an error: there is none
				used, stored = append(used, k.Sealed), append(stored, text)
				if calls++; calls == 1 && tc.die {
					runtime.Goexit()
				}
				if calls == 1 {
					return tc.lost
				}
				return nil
			}
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{
				{Name: "one", Timeout: time.Minute, Attempts: 3, Seal: fresh, Do: do},
				{Name: "two", Timeout: time.Minute, Attempts: 3, Seal: fresh, Do: do},
				{Name: "three", Timeout: time.Minute, Attempts: 3, Do: func(context.Context, *tasks.Kit) error { return nil }},
			}}
			if end := h.live(t, p, h.submit(t, p).ID, func(int) {}); end.State != nexus.Succeeded {
				t.Fatalf("the job is %s: %+v", end.State, end.Error)
			}
			if want := slices.Repeat([]string{"pair 1"}, len(used)); len(used) < 2 || !slices.Equal(used, want) || !slices.Equal(stored, want) {
				t.Errorf("used %q while %q were stored", used, stored)
			}
		})
	}
}

// TestPairThatCannotBeMade: the job is rolled back, and the step's Do does not run.
func TestPairThatCannotBeMade(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
		Seal: func(*tasks.Kit) (string, error) { return "", errors.New("no randomness") },
		Do:   func(context.Context, *tasks.Kit) error { t.Error("it ran without a pair"); return nil }}}}
	if end := h.live(t, p, h.submit(t, p).ID, func(int) {}); end.State != nexus.Failed || end.Error.Code != nexus.Internal {
		t.Errorf("the job is %s: %+v", end.State, end.Error)
	}
}
