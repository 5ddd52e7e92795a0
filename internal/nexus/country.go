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

// usualCountry returns the ISO 3166 code for a common English name that Frappe does not
// use; empty if the name is not in the list.
func usualCountry(name string) string { return countryCodes()[strings.ToLower(name)] }
