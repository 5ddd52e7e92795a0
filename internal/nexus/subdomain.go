package nexus

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed reserved.txt
var reservedText string

var reserved = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(reservedText) {
		if name := strings.TrimSpace(line); name != "" && !strings.HasPrefix(name, "#") {
			names[name] = true
		}
	}
	return names
})

// The length of a subdomain. Many shorter ones are brands; a longer one may leave too
// little of the 253 characters of a host name for the domain.
const (
	MinSubdomain = 3
	MaxSubdomain = 40
)

// RefuseSubdomain checks the form of a subdomain and the list of reserved ones, and
// returns a sentence; empty: it is accepted. Whether it is free is for the store to say.
func RefuseSubdomain(name string) string {
	switch {
	case name == "":
		return "Enter the address you want."
	case len(name) < MinSubdomain || len(name) > MaxSubdomain:
		return fmt.Sprintf("The address must have %d to %d characters.", MinSubdomain, MaxSubdomain)
	case strings.ContainsFunc(name, func(r rune) bool { return !slugRune(r) }):
		return "Use only small letters a–z, digits and hyphens in the address."
	case strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-"):
		return "The address must not begin or end with a hyphen."
	case strings.HasPrefix(name, "xn--"):
		return "The address must not begin with xn--."
	case strings.Contains(name, "--"):
		return "The address must not have two hyphens in a row."
	case reserved()[name]:
		return "This address is reserved; please choose another."
	}
	return ""
}

// DeriveSubdomain makes a subdomain from an organization's name, which must be
// transliterated to ASCII. Empty: the name has no letter or digit.
func DeriveSubdomain(ascii string) string {
	var b strings.Builder
	hyphen := false
	for _, r := range strings.ToLower(ascii) {
		switch {
		case r == '\'' || r == '.': // o'neill → oneill, s.a. → sa
		case slugRune(r) && r != '-':
			if hyphen && b.Len() > 0 {
				b.WriteByte('-')
			}
			hyphen = false
			b.WriteRune(r)
		default:
			hyphen = true
		}
	}
	return clip(b.String(), MaxSubdomain)
}

// Subdomains yields a name and then variants of it, all of them accepted by
// RefuseSubdomain: 3m → 3m-co, acme → acme-2 … acme-50. The caller takes the first free
// one. An empty name yields none.
func Subdomains(wish string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if wish == "" {
			return
		}
		if RefuseSubdomain(wish) == "" && !yield(wish) {
			return
		}
		try := func(suffix string) (on bool) {
			name := clip(wish, MaxSubdomain-len(suffix)-1) + "-" + suffix
			return name == wish || RefuseSubdomain(name) != "" || yield(name)
		}
		if (len(wish) < MinSubdomain || reserved()[wish]) && !try("co") { // it cannot stand alone
			return
		}
		for n := 2; n <= 50; n++ {
			if !try(fmt.Sprint(n)) {
				return
			}
		}
	}
}

// Lower writes A–Z small, as names of hosts are compared (RFC 4343). strings.ToLower
// would make other names too: a k of the Kelvin sign, an i of the Turkish İ.
func Lower(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, name)
}

func slugRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-'
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Trim(s, "-")
}
