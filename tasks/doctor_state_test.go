package tasks_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// stateCase is one row of the table: what --fix does ("": nothing differs, "ask", "open",
// "grace"), and what is done about a purge date that has passed.
type stateCase struct {
	registry nexus.TenantState
	bench    string
	newer    string // bench, registry, or "": not known
	act      string
	purge    tasks.Purge // of a suspended tenant
}

// stateTable has every pair of states, with each side as the newer one.
func stateTable() []stateCase {
	const (
		active, suspended = nexus.TenantActive, nexus.TenantSuspended
		now, later, hold  = tasks.PurgeNow, tasks.PurgeLater, tasks.PurgeHold
	)
	return []stateCase{
		{active, "active", "", "", ""},
		{active, "active", "bench", "", ""},
		{active, "active", "registry", "", ""},
		{active, "suspended", "", "ask", ""},
		{active, "suspended", "bench", "ask", ""},
		{active, "suspended", "registry", "open", ""},
		{active, "deleting", "", "ask", ""},
		{active, "deleting", "bench", "ask", ""},
		{active, "deleting", "registry", "ask", ""},
		{active, "making", "", "ask", ""},
		{active, "making", "bench", "ask", ""},
		{active, "making", "registry", "open", ""},
		{active, "", "", "ask", ""},
		{active, "", "bench", "ask", ""},
		{active, "", "registry", "ask", ""},
		{suspended, "active", "", "ask", hold},
		{suspended, "active", "bench", "ask", hold},
		{suspended, "active", "registry", "ask", hold},
		{suspended, "suspended", "", "", now},
		{suspended, "suspended", "bench", "grace", later},
		{suspended, "suspended", "registry", "", now},
		{suspended, "deleting", "", "grace", now},
		{suspended, "deleting", "bench", "grace", later},
		{suspended, "deleting", "registry", "grace", now},
		{suspended, "making", "", "ask", hold},
		{suspended, "making", "bench", "ask", hold},
		{suspended, "making", "registry", "ask", hold},
		{suspended, "", "", "ask", now}, // without a marker of this install: a teardown does not touch it
		{suspended, "", "bench", "ask", now},
		{suspended, "", "registry", "ask", now},
	}
}

// TestStates checks each row of the table without a purge date, with a future one and
// with one that has passed.
func TestStates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, purgeAt := range []time.Time{{}, now.Add(time.Hour), now.Add(-time.Hour)} {
		for _, tc := range stateTable() {
			name := fmt.Sprintf("%s and %q, newer %q, purged at %s", tc.registry, tc.bench, tc.newer, purgeAt.Format(time.RFC3339))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := well()
				row, site := &s.Tenants[0], &s.Inventory.Sites[0]
				row.State, row.PurgeAt, site.State = tc.registry, purgeAt, tc.bench
				switch tc.newer {
				case "bench":
					row.StateGen, site.StateGen = 5, 6
				case "registry":
					row.StateGen, site.StateGen = 6, 5
				}
				checkFinding(t, tc, tasks.Diagnose(s))
				if tc.registry != nexus.TenantSuspended {
					return
				}
				if got := tasks.PurgeOf(*row, site); got != tc.purge {
					t.Errorf("purge %s", got)
				}
			})
		}
	}
	row, site := well().Tenants[0], well().Inventory.Sites[0]
	row.State, site.State, site.Job = nexus.TenantSuspended, "suspended", other
	if tasks.PurgeOf(row, nil) != tasks.PurgeNow || tasks.PurgeOf(row, &site) != tasks.PurgeHold {
		t.Error("no site keeps a purge up, or another job's does not")
	}
}

func checkFinding(t *testing.T, tc stateCase, found []tasks.Finding) {
	t.Helper()
	if tc.act == "" {
		if len(found) > 0 {
			t.Errorf("found %+v", found)
		}
		return
	}
	if len(found) != 1 || found[0].Kind != tasks.OtherState {
		t.Fatalf("found %+v", found)
	}
	f := found[0]
	want := map[string]nexus.TenantState{"open": nexus.TenantActive, "grace": nexus.TenantSuspended}[tc.act]
	if f.Safe != (tc.act != "ask") || f.Want != want {
		t.Errorf("safe %t, becomes %q", f.Safe, f.Want)
	}
	both := strings.Contains(f.Mend, "nexus doctor --open acme.example.com") && strings.Contains(f.Mend, "nexus doctor --close acme.example.com")
	if tc.act == "ask" && !both {
		t.Errorf("it does not offer both ways: %s", f.Mend)
	}
	if f.Safe && f.Want != nexus.TenantActive && tc.bench == "active" {
		t.Error("an open site is closed unasked")
	}
}
