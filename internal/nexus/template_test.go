package nexus_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func TestParseTemplateSpec(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		spec           nexus.TemplateSpec
		country, chart string
	}{
		"plain":                         {spec: "plain"},
		"Plain":                         {spec: "plain"},
		"US":                            {"US", "US", ""},
		"us":                            {"US", "US", ""},
		"dE:SKR04":                      {"DE:SKR04", "DE", "SKR04"},
		"DE:skr04":                      {"DE:SKR04", "DE", "SKR04"},
		"FR:1":                          {"FR:1", "FR", "1"},
		"DE:" + strings.Repeat("x", 20): {"DE:" + nexus.TemplateSpec(strings.Repeat("X", 20)), "DE", strings.Repeat("X", 20)},
		"":                              {},
		" ":                             {},
		"gold":                          {},
		"USA":                           {},
		"U":                             {},
		"U1":                            {},
		"ÄÖ":                            {},
		"ſs":                            {}, // capitals of it are SS
		" US":                           {},
		"US\n":                          {},
		"US,DE":                         {},
		"DE:":                           {},
		":SKR04":                        {},
		"DE:SKR 04":                     {},
		"DE:SKR04:":                     {},
		"DE:SKR-04":                     {},
		"DE:Kontenrähmen":               {},
		"DE:../../plain":                {},
		"DE:" + strings.Repeat("x", 21): {},
		"plain:SKR04":                   {},
	} {
		spec, err := nexus.ParseTemplateSpec(text)
		if spec != want.spec || (err == nil) != (want.spec != "") {
			t.Errorf("%q is %q, %v", text, spec, err)
		}
		if err != nil && (nexus.CodeOf(err) != nexus.Invalid || !strings.Contains(nexus.MessageOf(err), "Write plain, or the ISO code")) {
			t.Errorf("%q: %v", text, err)
		}
		if spec.Country() != want.country || spec.Chart() != want.chart {
			t.Errorf("%q is of the country %q with the chart %q", text, spec.Country(), spec.Chart())
		}
	}
	for _, spec := range nexus.TemplateSpecs() {
		if got, err := nexus.ParseTemplateSpec(string(spec)); got != spec || err != nil {
			t.Errorf("%q is listed, and read as %q, %v", spec, got, err)
		}
	}
}

// anySpec draws a spec in any spelling.
func anySpec() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"plain", "PLAIN"}), rapid.StringMatching(`[A-Za-z]{2}(:[A-Za-z0-9]{1,20})?`))
}

// TestSpecsProperty: a text is read as one spec, which is read as itself; its parts are those of
// the text; and its name is one that a folder and no tenant may have.
func TestSpecsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(anySpec(), rapid.String()).Draw(t, "text")
		spec, err := nexus.ParseTemplateSpec(text)
		if err != nil {
			if spec != "" {
				t.Fatalf("refused, and read as %q", spec)
			}
			return
		}
		if again, err := nexus.ParseTemplateSpec(string(spec)); again != spec || err != nil {
			t.Fatalf("%q is read as %q, %v", spec, again, err)
		}
		whole := spec.Country()
		if spec.Chart() != "" {
			whole += ":" + spec.Chart()
		}
		plain := spec == nexus.TemplatePlain && whole == "" && strings.EqualFold(text, "plain")
		if !plain && !strings.EqualFold(whole, text) || spec.Chart() != strings.ToUpper(spec.Chart()) {
			t.Fatalf("%q has the country %q and the chart %q", spec, spec.Country(), spec.Chart())
		}
		job := nexus.NewJobID()
		name := string(nexus.TemplateName(spec, job))
		if name != strings.ToLower(name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Contains(name, ".") ||
			!strings.HasSuffix(name, "-"+string(job[:8])) || len(name) > 63 {
			t.Fatalf("the template %q has the name %q", spec, name)
		}
	})
}

func TestTemplateName(t *testing.T) {
	t.Parallel()
	const job = nexus.JobID("7c1f0a5e2b9d4c38a6e1f0d2b3c4a596")
	for spec, want := range map[nexus.TemplateSpec]nexus.SiteName{"plain": "plain-7c1f0a5e", "US": "us-7c1f0a5e", "DE:SKR04": "de-skr04-7c1f0a5e"} {
		if got := nexus.TemplateName(spec, job); got != want {
			t.Errorf("%q has the name %q", spec, got)
		}
	}
}

func TestFittingSpecs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		country string
		wanted  []nexus.TemplateSpec
		want    []nexus.TemplateSpec
	}{
		{"no country", "", nil, []nexus.TemplateSpec{"plain"}},
		{"no country, and templates of some", "", []nexus.TemplateSpec{"US", "plain", "DE:SKR04"}, []nexus.TemplateSpec{"plain"}},
		{"one", "US", []nexus.TemplateSpec{"plain", "US"}, []nexus.TemplateSpec{"US", "plain"}},
		{"nothing is wanted", "US", nil, []nexus.TemplateSpec{"US", "plain"}},
		{"nothing of it is known", "CH", []nexus.TemplateSpec{"plain", "US"}, []nexus.TemplateSpec{"CH", "plain"}},
		{"charts in their order", "DE", []nexus.TemplateSpec{"US", "DE:SKR04", "plain", "DE:SKR03"}, []nexus.TemplateSpec{"DE:SKR04", "DE:SKR03", "DE", "plain"}},
		{"any chart first", "DE", []nexus.TemplateSpec{"DE", "DE:SKR04"}, []nexus.TemplateSpec{"DE", "DE:SKR04", "plain"}},
		{"a chart that is not listed", "US", []nexus.TemplateSpec{"US:GAAP"}, []nexus.TemplateSpec{"US:GAAP", "US", "plain"}},
		{"twice", "DE", []nexus.TemplateSpec{"DE:SKR04", "DE:SKR04"}, []nexus.TemplateSpec{"DE:SKR04", "DE", "plain"}},
	} {
		if diff := cmp.Diff(tc.want, nexus.FittingSpecs(tc.country, tc.wanted)); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

// TestFittingSpecsProperty: a site gets no company of another country; plain comes last, so it is
// always there; and the operator's order decides.
func TestFittingSpecsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		countries := rapid.SampledFrom([]string{"", "DE", "US", "CH"})
		spec := rapid.Custom(func(t *rapid.T) nexus.TemplateSpec {
			country := countries.Draw(t, "country")
			if country == "" {
				return nexus.TemplatePlain
			}
			return nexus.TemplateSpec(country + rapid.SampledFrom([]string{"", ":SKR03", ":SKR04", ":GAAP"}).Draw(t, "chart"))
		})
		country, wanted := countries.Draw(t, "of"), rapid.SliceOfN(spec, 0, 8).Draw(t, "wanted")
		got := nexus.FittingSpecs(country, wanted)
		last := len(got) - 1
		if last < 0 || got[last] != nexus.TemplatePlain {
			t.Fatalf("plain is not the last: %v", got)
		}
		var first []nexus.TemplateSpec // of the wanted ones, those that fit
		for _, each := range wanted {
			if country != "" && each.Country() == country && !slices.Contains(first, each) {
				first = append(first, each)
			}
		}
		if len(first) > last || !slices.Equal(got[:len(first)], first) {
			t.Fatalf("wanted %v, got %v", first, got)
		}
		for i, each := range got[:last] {
			if each.Country() != country || slices.Contains(got[i+1:], each) {
				t.Fatalf("%q is of another country, or there twice: %v", each, got)
			}
		}
		if country != "" && !slices.Contains(got, nexus.TemplateSpec(country)) {
			t.Fatalf("the country's own is not among %v", got)
		}
	})
}
