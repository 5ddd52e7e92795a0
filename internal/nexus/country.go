package nexus

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed countries.txt
var countriesText string

var countryCodes = sync.OnceValue(func() map[string]string {
	codes := map[string]string{}
	for line := range strings.Lines(countriesText) {
		if code, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && code != "#" {
			codes[name] = code
		}
	}
	return codes
})

// usualCountry is the ISO 3166 code of a country that people call otherwise than
// Frappe does; empty: not one of these.
func usualCountry(name string) string { return countryCodes()[strings.ToLower(name)] }
