package nexus_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func knows() nexus.Knows {
	return nexus.Knows{
		Countries: []nexus.Country{{Code: "DE", Name: "Germany"}, {Code: "CI", Name: "Ivory Coast"}, {Code: "KR", Name: "Korea, Republic of"},
			{Code: "TR", Name: "Türkiye"}},
		Currencies: []string{"EUR", "KRW"}, Languages: []nexus.Language{{Code: "de", Name: "Deutsch"}, {Code: "pt-BR", Name: "português (Brasil)"}},
		TimeZones: []string{"Asia/Seoul", "Europe/Berlin", "UTC"},
		Limits:    nexus.FieldLimits{Email: 20, FullName: 10, Organization: 140, Password: 64},
	}
}

func TestCountry(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		"KR": "KR", "kr": "KR", "Korea, Republic of": "KR", "korea, republic OF": "KR", "South Korea": "KR", "south korea": "KR",
		"Turkey": "TR", "türkiye": "TR", "Côte d’Ivoire": "CI", "Cote d'Ivoire": "CI", "Germany": "DE",
		"": "", "Korea, Republic": "", "Atlantis": "", "France": "", "North Korea": "", "KOR": "",
	} {
		got, ok := knows().Country(asked)
		if got.Code != want || ok != (want != "") {
			t.Errorf("%q is %q (%t), want %q", asked, got.Code, ok, want)
		}
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	asked := nexus.Region{Country: "South Korea", Language: "PT-br", TimeZone: "asia/seoul", Currency: "KRW"}
	fit, unknown := knows().Fit(asked)
	if want := (nexus.Region{Country: "Korea, Republic of", Language: "pt-BR", TimeZone: "Asia/Seoul", Currency: "KRW"}); fit != want || unknown != nil {
		t.Errorf("%+v, unknown %v", fit, unknown)
	}
	strange := nexus.Region{Country: "Atlantis", Language: "xx", TimeZone: "America/Coyhaique", Currency: "XXX"}
	if fit, unknown = knows().Fit(strange); fit != strange || !slices.Equal(unknown, []string{"country", "language", "timezone", "currency"}) {
		t.Errorf("%+v, unknown %v", fit, unknown)
	}
	if fit, unknown = knows().Fit(nexus.Region{}); fit != (nexus.Region{}) || unknown != nil {
		t.Errorf("of nothing %+v, unknown %v", fit, unknown)
	}
	asked.Country = "south korea" // without lists of a bench: the code, which every bench finds
	if fit, unknown = (nexus.Knows{}).Fit(asked); fit.Country != "KR" || fit.TimeZone != asked.TimeZone || unknown != nil {
		t.Errorf("without lists %+v, unknown %v", fit, unknown)
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	other := nexus.Knows{Countries: []nexus.Country{{Code: "TR", Name: "Turkey"}, {Code: "FR", Name: "France"}}, Currencies: []string{"AED", "EUR"},
		Languages: []nexus.Language{{Code: "fr", Name: "Français"}}, TimeZones: []string{"UTC"}, Limits: nexus.FieldLimits{Email: 140, FullName: 5}}
	want := knows()
	want.Countries = slices.Insert(want.Countries, 1, nexus.Country{Code: "FR", Name: "France"}) // by name
	slices.SortFunc(want.Countries, func(a, b nexus.Country) int { return strings.Compare(a.Name, b.Name) })
	want.Currencies = []string{"AED", "EUR", "KRW"}
	want.Languages = slices.Insert(want.Languages, 1, nexus.Language{Code: "fr", Name: "Français"})
	want.Limits.FullName = 5
	if diff := cmp.Diff(want, nexus.MergeKnows(map[string]nexus.Knows{"b": other, "a": knows()})); diff != "" {
		t.Error(diff)
	}
	if got := nexus.MergeKnows(nil); !cmp.Equal(got, nexus.Knows{}) {
		t.Errorf("of none %+v", got)
	}
}

func TestSignupFits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*nexus.Signup)
		fields string // the refused fields, in order
	}{
		{"all known", func(*nexus.Signup) {}, ""},
		{"a zone that only the bench knows", func(s *nexus.Signup) { s.TimeZone = "EUROPE/berlin" }, ""},
		{"none known", func(s *nexus.Signup) {
			s.Country, s.Language, s.TimeZone, s.Currency = "Atlantis", "xx", "America/Coyhaique", "XXX"
		}, "country language timezone currency"},
		{"refused already", func(s *nexus.Signup) { s.Language, s.TimeZone = "German", "Mars/Base" }, "language timezone"},
		{"too long for this bench", func(s *nexus.Signup) { s.Email, s.FullName = "jane.elizabeth@example.com", "Jane & Joe" }, "email fullName"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := nexus.Signup{Email: "jane@example.com", Password: "Passw0rdXyz", FullName: "Jane Doe", Organization: "Acme", Country: "Turkey",
				Language: "de", TimeZone: "Europe/Berlin", Currency: "EUR"}
			tc.change(&sub)
			sub.Normalize()
			var fields []string
			for _, f := range sub.Fit(knows(), sub.Refusals(false)) {
				fields = append(fields, f.Field)
			}
			if got := strings.Join(fields, " "); got != tc.fields {
				t.Errorf("refused %q, want %q", got, tc.fields)
			}
			if tc.fields == "" && (sub.Country != "Türkiye" || sub.TimeZone != "Europe/Berlin") {
				t.Errorf("spelled %+v", sub)
			}
		})
	}
}

// TestSignupTemplate: templates of a country fit a signup from there, unless it has another
// currency than the country. What is refused or not known fits none.
func TestSignupTemplate(t *testing.T) {
	t.Parallel()
	lists := knows()
	for i := range lists.Countries {
		lists.Countries[i].Currency = map[string]string{"DE": "EUR", "KR": "KRW"}[lists.Countries[i].Code]
	}
	for _, tc := range []struct {
		name, country, currency string
		lists                   nexus.Knows
		want                    nexus.TemplateSpec
	}{
		{"by its code", "de", "", lists, "DE"},
		{"by its name", "Germany", "", lists, "DE"},
		{"by a usual name", "South Korea", "", lists, "KR"},
		{"with its currency", "South Korea", "krw", lists, "KR"},
		{"with another currency", "DE", "KRW", lists, ""},
		{"with a currency that is not known", "DE", "XXX", lists, ""},
		{"whose currency is not known", "TR", "EUR", lists, ""},
		{"whose currency is not asked for", "TR", "", lists, "TR"},
		{"none", "", "", lists, ""},
		{"none, with a currency", "", "EUR", lists, ""},
		{"one that is not known", "FR", "", lists, ""},
		{"before the lists are", "DE", "EUR", nexus.Knows{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := nexus.Signup{Country: tc.country, Currency: tc.currency, Template: "XX"}
			sub.Normalize()
			if sub.Fit(tc.lists, nil); sub.Template != tc.want {
				t.Errorf("from %q with %q: %q", tc.country, tc.currency, sub.Template)
			}
		})
	}
}
