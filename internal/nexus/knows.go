package nexus

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Knows lists the values that sites of a bench accept, as Frappe has them. Frappe would
// drop any other value, or could no longer show the site's forms.
type Knows struct {
	Countries  []Country   `json:"countries,omitempty"`  // by name
	Currencies []string    `json:"currencies,omitempty"` // ISO 4217, sorted
	Languages  []Language  `json:"languages,omitempty"`  // by code
	TimeZones  []string    `json:"time_zones,omitempty"` // IANA names, sorted
	Limits     FieldLimits `json:"limits,omitzero"`
}

// Country is one country of Frappe's list.
type Country struct {
	Code      string   `json:"code"`                 // ISO 3166-1 alpha-2
	Name      string   `json:"name"`                 // as Frappe spells it: "Korea, Republic of"
	Currency  string   `json:"currency,omitempty"`   // ISO 4217
	TimeZones []string `json:"time_zones,omitempty"` // that Frappe offers for it
}

// Language is one language of Frappe's list.
type Language struct {
	Code string `json:"code"` // such as pt-BR
	Name string `json:"name"` // in the language itself
}

// FieldLimits are the lengths of the fields that a signup fills, in characters; zero: not
// known.
type FieldLimits struct {
	Email        int `json:"email,omitempty"`
	FullName     int `json:"full_name,omitempty"`
	Organization int `json:"organization,omitempty"`
	Password     int `json:"password,omitempty"`
}

// Region holds the regional settings of a signup.
type Region struct {
	Country, Language, TimeZone, Currency string
}

// Country finds a country by its ISO 3166 code, by Frappe's name for it, or by a
// usual name in English.
func (k Knows) Country(codeOrName string) (Country, bool) {
	i := slices.IndexFunc(k.Countries, func(c Country) bool {
		return strings.EqualFold(c.Name, codeOrName) || strings.EqualFold(c.Code, codeOrName)
	})
	if code := usualCountry(codeOrName); i < 0 && code != "" {
		i = slices.IndexFunc(k.Countries, func(c Country) bool { return c.Code == code })
	}
	if i < 0 {
		return Country{}, false
	}
	return k.Countries[i], true
}

// Fit returns a region in the spelling of the bench, and the names of the fields whose
// values the bench does not know; these values stay as they are. An empty list accepts
// every value.
func (k Knows) Fit(r Region) (fit Region, unknown []string) {
	fit = r
	if country, ok := k.Country(r.Country); ok {
		fit.Country = country.Name
	} else if len(k.Countries) == 0 {
		fit.Country = cmp.Or(usualCountry(r.Country), r.Country) // the bench finds it by its code
	} else if r.Country != "" {
		unknown = append(unknown, "country")
	}
	codes := make([]string, len(k.Languages))
	for i, language := range k.Languages {
		codes[i] = language.Code
	}
	for _, f := range []struct {
		name  string
		value *string
		list  []string
	}{{"language", &fit.Language, codes}, {"timezone", &fit.TimeZone, k.TimeZones}, {"currency", &fit.Currency, k.Currencies}} {
		if *f.value == "" || len(f.list) == 0 {
			continue
		}
		i := slices.IndexFunc(f.list, func(known string) bool { return strings.EqualFold(known, *f.value) })
		if i < 0 {
			unknown = append(unknown, f.name)
			continue
		}
		*f.value = f.list[i]
	}
	return fit, unknown
}

// Template is the spec, without a chart, of the templates that fit a region in the bench's
// spelling; empty: only TemplatePlain does, since the country is not known or the currency
// is not the country's, which a company could not change.
func (k Knows) Template(r Region) TemplateSpec {
	country, known := k.Country(r.Country)
	if !known || r.Currency != "" && r.Currency != country.Currency {
		return ""
	}
	return TemplateSpec(country.Code)
}

// MergeKnows returns what at least one of the benches knows. If two spell a country
// differently, the spelling of the first bench by name is taken.
func MergeKnows(benches map[string]Knows) (all Knows) {
	for i, name := range slices.Sorted(maps.Keys(benches)) {
		k := benches[name]
		if i == 0 {
			all = k
			continue
		}
		all.Countries = union(all.Countries, k.Countries, func(c Country) string { return c.Code }, func(c Country) string { return c.Name })
		all.Languages = union(all.Languages, k.Languages, func(l Language) string { return l.Code }, func(l Language) string { return l.Code })
		self := func(text string) string { return text }
		all.TimeZones = union(all.TimeZones, k.TimeZones, self, self)
		all.Currencies = union(all.Currencies, k.Currencies, self, self)
		all.Limits = FieldLimits{Email: stricter(all.Limits.Email, k.Limits.Email), FullName: stricter(all.Limits.FullName, k.Limits.FullName),
			Organization: stricter(all.Limits.Organization, k.Limits.Organization), Password: stricter(all.Limits.Password, k.Limits.Password)}
	}
	return all
}

// union merges two lists by key and sorts them; of two equal keys it keeps the element
// of a.
func union[T any](a, b []T, key, order func(T) string) []T {
	have := map[string]bool{}
	var out []T
	for _, each := range slices.Concat(a, b) {
		if !have[key(each)] {
			have[key(each)] = true
			out = append(out, each)
		}
	}
	slices.SortStableFunc(out, func(x, y T) int { return cmp.Compare(order(x), order(y)) })
	return out
}

// stricter is the smaller of two limits; zero means no limit.
func stricter(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
