package bench_test

import (
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// testRegion checks that regional settings that the bench knows are set, by code or by
// name, and that unknown ones are told and never replaced by Frappe's default.
func testRegion(t *testing.T, n *tenant) {
	plan := func(r nexus.Region) nexus.ApplyPlan {
		return nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "http://" + string(n.site),
			Country: r.Country, Language: r.Language, TimeZone: r.TimeZone, Currency: r.Currency}
	}
	for _, tc := range []struct {
		name    string
		asked   nexus.Region
		changed bool
		said    []string // in the note
	}{
		{"known", nexus.Region{Country: "Germany", Language: "de", TimeZone: "Europe/Paris", Currency: "EUR"}, true, nil},
		{"the same by its code", nexus.Region{Country: "DE", Language: "de", TimeZone: "Europe/Paris", Currency: "EUR"}, false, nil},
		{"a country that people call otherwise", nexus.Region{Country: "KR", Language: "de", TimeZone: "Europe/Paris", Currency: "KRW"}, true, nil},
		{"unknown", nexus.Region{Country: "Atlantis", Language: "xx", TimeZone: "America/Nowhere", Currency: "XXX"}, true,
			[]string{"Atlantis", "xx", "America/Nowhere", "XXX", "UTC"}},
		{"on UTC since", nexus.Region{TimeZone: "UTC"}, false, nil},
		{"as the others want it", nexus.Region{Language: "en", TimeZone: "Europe/Berlin"}, true, nil},
	} {
		result := n.run(t, plan(tc.asked))
		if result.Changed != tc.changed {
			t.Errorf("%s: changed is %t", tc.name, result.Changed)
		}
		if (result.Note == "") != (tc.said == nil) {
			t.Errorf("%s: noted %q", tc.name, result.Note)
		}
		for _, said := range tc.said {
			if !strings.Contains(result.Note, said) {
				t.Errorf("%s: %q does not name %s", tc.name, result.Note, said)
			}
		}
		if again := n.run(t, plan(tc.asked)); again.Changed || again.Note != result.Note {
			t.Errorf("%s: a second time changed is %t, noted %q", tc.name, again.Changed, again.Note)
		}
	}
}
