package bench_test

import (
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestMasterNames: a note tells of a name that the site stores differently.
func TestMasterNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"Jane Doe": "", "Tom & Jerry": "The site keeps the name as: Tom &amp; Jerry"} {
		_, m := newFrappe(t)
		user := jane
		user.FullName = name
		for gen := range nexus.Gen(2) { // a retry says it too
			if result, err := m.Run(t.Context(), masterOp(user, 100+gen)); err != nil || result.Note != want {
				t.Errorf("%s: %q, %v", name, result.Note, err)
			}
		}
	}
}
