package app_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/app"
)

// TestIdle: a wait is over once no worker has been seen for ten seconds. If a worker runs,
// or the count fails, the ten seconds begin again.
func TestIdle(t *testing.T) {
	t.Parallel()
	var idle app.Idle
	begin := time.Unix(1_790_000_000, 0)
	for _, look := range []struct {
		at          int // seconds
		workers     int
		known       bool
		first, over bool
	}{
		{0, 1, true, false, false}, {5, 0, true, true, false}, {10, 0, true, false, false}, {14, 2, true, false, false},
		{20, 0, true, true, false}, {29, 0, false, false, false}, {31, 0, true, true, false}, {40, 0, true, false, false},
		{41, 0, true, false, true},
	} {
		first, over := idle.See(look.workers, look.known, begin.Add(time.Duration(look.at)*time.Second))
		if first != look.first || over != look.over {
			t.Errorf("after %d s: first %t, over %t", look.at, first, over)
		}
	}
}
