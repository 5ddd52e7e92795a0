package nexus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func TestRefuseSubdomain(t *testing.T) {
	t.Parallel()
	const (
		length   = "The address must have 3 to 40 characters."
		signs    = "Use only small letters a–z, digits and hyphens in the address."
		ends     = "The address must not begin or end with a hyphen."
		reserved = "This address is reserved; please choose another."
	)
	for _, tc := range []struct{ name, subdomain, want string }{
		{"3 characters", "abc", ""},
		{"40 characters", strings.Repeat("a", 40), ""},
		{"digits", "123", ""},
		{"hyphens", "a-b-c", ""},
		{"holds a reserved name", "www-2", ""},
		{"none", "", "Enter the address you want."},
		{"2 characters", "ab", length},
		{"41 characters", strings.Repeat("a", 41), length},
		{"capitals", "Acme", signs},
		{"underscore", "ac_me", signs},
		{"dot", "ac.me", signs},
		{"slash", "../etc", signs},
		{"umlaut", "äcme", signs},
		{"space", "ac me", signs},
		{"null", "ac\x00me", signs},
		{"begins with a hyphen", "-acme", ends},
		{"ends with a hyphen", "acme-", ends},
		{"two hyphens in a row", "ac--me", "The address must not have two hyphens in a row."},
		{"punycode", "xn--acme", "The address must not begin with xn--."},
		{"a host of the platform", "www", reserved},
		{"a folder beside the sites", "assets", reserved},
		{"a path that a bench serves", "desk", reserved},
		{"mail by RFC 2142", "postmaster", reserved},
		{"would mislead", "erpnext", reserved},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := nexus.RefuseSubdomain(tc.subdomain); got != tc.want {
				t.Errorf("%q: %q, want %q", tc.subdomain, got, tc.want)
			}
		})
	}
}

func TestDeriveSubdomain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, organization, want string }{
		{"a word", "Acme", "acme"},
		{"several words", "Acme  Works, Inc.", "acme-works-inc"},
		{"apostrophe and dots", "O'Neill S.A.", "oneill-sa"},
		{"signs around", "--- Acme! ---", "acme"},
		{"hyphens of its own", "Acme -- Works", "acme-works"},
		{"punycode look", "xn--acme", "xn-acme"},
		{"short", "3M", "3m"},
		{"long", strings.Repeat("ab ", 30), "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-a"},
		{"clipped at a hyphen", strings.Repeat("a", 39) + " b", strings.Repeat("a", 39)},
		{"nothing left", " &./' ", ""},
		{"empty", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := nexus.DeriveSubdomain(tc.organization); got != tc.want {
				t.Errorf("%q: %q, want %q", tc.organization, got, tc.want)
			}
		})
	}
}

func TestSubdomains(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, wish string
		first      []string
	}{
		{"can stand alone", "acme", []string{"acme", "acme-2", "acme-3"}},
		{"too short", "3m", []string{"3m-co", "3m-2", "3m-3"}},
		{"reserved", "www", []string{"www-co", "www-2", "www-3"}},
		{"at the limit", strings.Repeat("a", 40), []string{strings.Repeat("a", 40), strings.Repeat("a", 38) + "-2", strings.Repeat("a", 38) + "-3"}},
		{"a hyphen where it is clipped", strings.Repeat("a", 37) + "-bb", []string{strings.Repeat("a", 37) + "-bb", strings.Repeat("a", 37) + "-2", strings.Repeat("a", 37) + "-3"}},
		{"a variant of itself", strings.Repeat("a", 37) + "-2", []string{strings.Repeat("a", 37) + "-2", strings.Repeat("a", 37) + "-3"}},
		{"empty", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			all := slices.Collect(nexus.Subdomains(tc.wish))
			if diff := cmp.Diff(tc.first, all[:len(tc.first)]); diff != "" {
				t.Errorf("%q:\n%s", tc.wish, diff)
			}
			if tc.first == nil && len(all) > 0 {
				t.Errorf("%q: %v", tc.wish, all)
			}
			for stop := range all { // a caller that stops is not called again
				n := 0
				for range nexus.Subdomains(tc.wish) {
					if n++; n > stop {
						break
					}
				}
			}
		})
	}
}

// checkSubdomains checks what must be true of the names for any requested name.
func checkSubdomains(t interface{ Fatalf(string, ...any) }, wish string) {
	seen := map[string]bool{}
	for name := range nexus.Subdomains(wish) {
		if refusal := nexus.RefuseSubdomain(name); refusal != "" {
			t.Fatalf("%q yields %q: %s", wish, name, refusal)
		}
		if len(seen) == 0 && name != wish && nexus.RefuseSubdomain(wish) == "" {
			t.Fatalf("%q comes before the wish %q", name, wish)
		}
		if seen[name] {
			t.Fatalf("%q yields %q twice", wish, name)
		}
		seen[name] = true
	}
	if len(seen) > 100 {
		t.Fatalf("%q yields %d names", wish, len(seen))
	}
}

var derivedPattern = regexp.MustCompile(`^([a-z0-9]+(-[a-z0-9]+)*)?$`)

// checkDerived checks that a derived name has the right form, that deriving from it returns
// the same name, and that there is always a variant that can be used.
func checkDerived(t interface{ Fatalf(string, ...any) }, organization string) {
	wish := nexus.DeriveSubdomain(organization)
	if !derivedPattern.MatchString(wish) || len(wish) > nexus.MaxSubdomain {
		t.Fatalf("%q gives %q", organization, wish)
	}
	if again := nexus.DeriveSubdomain(wish); again != wish {
		t.Fatalf("%q gives %q, and that %q", organization, wish, again)
	}
	if names := slices.Collect(nexus.Subdomains(wish)); (len(names) == 0) != (wish == "") {
		t.Fatalf("%q gives %q, and that %d names", organization, wish, len(names))
	}
	checkSubdomains(t, wish)
}

func TestSubdomainsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		checkSubdomains(t, rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9-]{0,45}`),
			rapid.StringMatching(`(xn--)?[a-z-]{0,4}`), rapid.SampledFrom([]string{"www", "api", "ns1"})).Draw(t, "wish"))
		checkDerived(t, rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9 .'&-]{0,60}`)).Draw(t, "organization"))
	})
}

// FuzzSubdomain checks the same for any text.
func FuzzSubdomain(f *testing.F) {
	for _, seed := range []string{"", "acme", "3m", "www", "xn--acme", "-", "a--b", "O'Neill & Co. KG", "ÄÖÜ", "\xff\x00", strings.Repeat("a-", 40), strings.Repeat("a", 37) + "-10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkSubdomains(t, text)
		checkDerived(t, text)
	})
}
