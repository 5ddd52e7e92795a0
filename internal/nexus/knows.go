package nexus

// Knows is what sites of a bench can be set to, as Frappe itself lists it. A value
// that is in no list would be dropped or break the site's forms.
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

// FieldLimits are the sizes of the fields that a signup fills, in characters;
// zero: unknown.
type FieldLimits struct {
	Email        int `json:"email,omitempty"`
	FullName     int `json:"full_name,omitempty"`
	Organization int `json:"organization,omitempty"`
	Password     int `json:"password,omitempty"`
}

// Country finds a country by its ISO 3166 code or by Frappe's name for it.
func (k Knows) Country(codeOrName string) (Country, bool) {
	for _, c := range k.Countries {
		if c.Name == codeOrName || c.Code == codeOrName {
			return c, true
		}
	}
	return Country{}, false
}
