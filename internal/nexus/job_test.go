package nexus_test

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// transitions is the transition table of the manual.
var transitions = map[nexus.State][]nexus.State{
	nexus.Queued:         {nexus.Running, nexus.Waiting, nexus.RollingBack, nexus.Canceled},
	nexus.Running:        {nexus.Waiting, nexus.Succeeded, nexus.RollingBack},
	nexus.Waiting:        {nexus.Running, nexus.RollingBack, nexus.Canceled},
	nexus.RollingBack:    {nexus.Failed, nexus.Canceled, nexus.RollbackFailed},
	nexus.RollbackFailed: {nexus.RollingBack, nexus.Running, nexus.Canceled},
	nexus.Succeeded:      nil,
	nexus.Failed:         nil,
	nexus.Canceled:       nil,
}

func TestStates(t *testing.T) {
	t.Parallel()
	got := map[nexus.State][]nexus.State{}
	for _, s := range nexus.States() {
		got[s] = s.Next()
		if s.Terminal() != (s.Next() == nil) {
			t.Errorf("%s: terminal %t, and leads to %v", s, s.Terminal(), s.Next())
		}
	}
	if diff := cmp.Diff(transitions, got); diff != "" {
		t.Error(diff)
	}
	reached := []nexus.State{nexus.Queued}
	for i := 0; i < len(reached); i++ {
		for _, next := range reached[i].Next() {
			if !slices.Contains(reached, next) {
				reached = append(reached, next)
			}
		}
	}
	if len(reached) != len(nexus.States()) {
		t.Errorf("only %v can be reached", reached)
	}
	if s := nexus.State("lost"); s.Next() != nil || s.Terminal() {
		t.Errorf("a state nobody knows leads to %v, terminal %t", s.Next(), s.Terminal())
	}
}

func TestJobTo(t *testing.T) {
	t.Parallel()
	states := append(nexus.States(), "", "lost")
	for _, from := range states {
		for _, to := range states {
			t.Run(string(from+" to "+to), func(t *testing.T) {
				t.Parallel()
				before := nexus.Job{ID: "j", State: from, WaitNote: "n", Rev: 7, Steps: []nexus.Step{{Name: "site"}}}
				job := before
				err := job.To(to)
				if slices.Contains(transitions[from], to) {
					before.State = to
					if err != nil {
						t.Error(err)
					}
				} else if nexus.CodeOf(err) != nexus.Internal {
					t.Errorf("answered %v", err)
				}
				if diff := cmp.Diff(before, job); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestJobSteps(t *testing.T) {
	t.Parallel()
	const pending, done, undone = nexus.StepPending, nexus.StepDone, nexus.StepUndone
	for _, tc := range []struct {
		name   string
		states []nexus.StepState
		want   nexus.StepName
	}{
		{"no steps", nil, ""},
		{"nothing started", []nexus.StepState{pending, pending}, "a"},
		{"the second runs", []nexus.StepState{done, nexus.StepStarted, pending}, "b"},
		{"between two steps", []nexus.StepState{done, pending}, "a"},
		{"one was added before", []nexus.StepState{pending, done, pending}, "b"},
		{"all undone", []nexus.StepState{undone, undone}, "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var job nexus.Job
			for i, state := range tc.states {
				job.Steps = append(job.Steps, nexus.Step{Name: nexus.StepName("abc"[i : i+1]), State: state})
			}
			if got := job.Current(); got != tc.want {
				t.Errorf("at %q, want %q", got, tc.want)
			}
			if job.Step("x") != nil {
				t.Error("found a step that is not there")
			}
			if tc.want == "" {
				return
			}
			if job.Step(tc.want).Note = "changed"; job.Steps[strings.Index("abc", string(tc.want))].Note != "changed" {
				t.Error("Step gives a copy")
			}
		})
	}
}

// TestGenPlausible: a token up to a week ahead is plausible, since clocks may be wrong by that
// much; a later one is not.
func TestGenPlausible(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	for _, tc := range []struct {
		gen  nexus.Gen
		want bool
	}{
		{0, true}, {1, true}, {nexus.Gen(now.UnixMicro()), true}, {nexus.Gen(now.Add(nexus.GenAhead).UnixMicro()), true},
		{nexus.Gen(now.Add(nexus.GenAhead).UnixMicro()) + 1, false}, {1 << 53, false}, {math.MaxInt64, false}, {-1, false}, {math.MinInt64, false},
	} {
		if got := tc.gen.Plausible(now); got != tc.want {
			t.Errorf("%d: %t, want %t", tc.gen, got, tc.want)
		}
	}
}

func TestJobID(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		id   nexus.JobID
		want bool
	}{
		{"fresh", nexus.NewJobID(), true},
		{"digits", "01234567890123456789012345678901", true},
		{"empty", "", false},
		{"short", "0123456789abcdef0123456789abcde", false},
		{"long", "0123456789abcdef0123456789abcdef0", false},
		{"capitals", "0123456789ABCDEF0123456789abcdef", false},
		{"beyond f", "0123456789abcdeg0123456789abcdef", false},
		{"a key of Redis", "0123456789abcdef:*{x}\n0123456789a", false},
		{"32 bytes of 16 letters", "éééééééééééééééé", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.id.Valid() != tc.want {
				t.Errorf("%q: valid %t", tc.id, !tc.want)
			}
		})
	}
}

// TestDatabase: a cleanup finds a database by its name, even after years, so the way in which
// the name is derived must never change.
func TestDatabase(t *testing.T) {
	t.Parallel()
	const want = "nx9f3c3eb1bd439947eb762998"
	if got := nexus.JobID("0123456789abcdef0123456789abcdef").Database("9f3c"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	pattern := regexp.MustCompile(`^nx[0-9a-f]{4}[0-9a-f]{20}$`) // the definer procedures accept ^nx[0-9a-z]+$
	rapid.Check(t, func(t *rapid.T) {
		id := nexus.JobID(rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "job"))
		other := nexus.JobID(rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "other job"))
		install := nexus.NewInstallID()
		if name := id.Database(install); !pattern.MatchString(name) || name != id.Database(install) {
			t.Fatalf("%s on %s: %s", id, install, name)
		}
		if id != other && id.Database(install) == other.Database(install) {
			t.Fatalf("%s and %s share a database", id, other)
		}
	})
}

func TestNamed(t *testing.T) {
	t.Parallel()
	good := nexus.JobID("0123456789abcdef0123456789abcdef").Database("9f3c")
	for name, want := range map[string]bool{good: true, "": false, "_erp": false, good[:len(good)-1]: false, good + "0": false, good[:len(good)-1] + "G": false,
		"nx9f3d" + good[6:]: false, "xx9f3c" + good[6:]: false} {
		if got := nexus.InstallID("9f3c").Named(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
