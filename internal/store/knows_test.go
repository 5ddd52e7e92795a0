package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func TestKnows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		want := map[string]nexus.Knows{}
		hold := func() {
			t.Helper()
			if got, err := f.Knows(t.Context()); err != nil || !cmp.Equal(want, got) {
				t.Fatalf("%v\n%s", err, cmp.Diff(want, got))
			}
		}
		hold()
		f.bench(t)
		hold() // a worker of a former version announced it
		former := nexus.Knows{TimeZones: []string{"Etc/UTC"}, Countries: []nexus.Country{{Code: "TR", Name: "Turkey"}}}
		latter := nexus.Knows{Countries: []nexus.Country{{Code: "TR", Name: "Türkiye"}}, Limits: nexus.FieldLimits{Email: 140}}
		for _, k := range []nexus.Knows{former, former, latter} {
			if err := f.SetKnows(t.Context(), "main", k); err != nil {
				t.Fatal(err)
			}
			want["main"] = k
			hold()
		}
	})
}
