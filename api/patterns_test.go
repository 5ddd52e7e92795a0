package api_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestPatternsAreCommon: each pattern of the contract has the same meaning in ECMA 262 (with
// and without the flag u), in Python and in Go. So no pattern has a named class, an escape
// that one of the languages does not know, a group other than a plain one, or a character
// above U+FFFF, which counts as two without the flag.
func TestPatternsAreCommon(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(document(t))
	if err != nil {
		t.Fatal(err)
	}
	odd := regexp.MustCompile(`\\[^x.\[\]\\-]|\\x[^0-9A-F]|\[\[|[^\x00-\x{FFFF}]`)
	oddGroup, class := regexp.MustCompile(`\(\?|[*+?}][*+?]`), regexp.MustCompile(`\[(\\.|[^\]\\])*\]`)
	found := regexp.MustCompile(`"pattern":("(?:[^"\\]|\\.)*")`).FindAllSubmatch(text, -1)
	for _, match := range found {
		var pattern string
		if err := json.Unmarshal(match[1], &pattern); err != nil {
			t.Fatal(err)
		}
		if at := odd.FindString(pattern) + oddGroup.FindString(class.ReplaceAllString(pattern, "_")); at != "" {
			t.Errorf("%q in the pattern %s", at, pattern)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d patterns were found", len(found))
	}
}

// borders returns the characters on both sides of each border of a character class that a rule
// of a signup uses.
func borders() (out []rune) {
	class := func(r rune) (set [7]bool) {
		for i, in := range []func(rune) bool{unicode.IsControl, unicode.IsLetter, unicode.IsDigit, unicode.IsUpper, unicode.IsLower, unicode.IsSpace} {
			set[i] = in(r)
		}
		set[6] = unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
		return set
	}
	for r := rune(1); r <= unicode.MaxRune; r++ {
		surrogate := r >= 0xd800 && r <= 0xe000
		if !surrogate && (r < 0x100 || class(r) != class(r-1) || class(r) != class(min(r+1, unicode.MaxRune))) {
			out = append(out, r)
		}
	}
	return append(out, 0xfffc, 0xfffd, 0xfffe)
}

// TestPatterns compares the contract's patterns for texts of people with the rules of the
// server: a text that the server accepts matches, and a text that it refuses for its form does
// not, as far as a pattern can express the rule.
func TestPatterns(t *testing.T) {
	t.Parallel()
	around := func(before, behind string) func(rune) string {
		return func(r rune) string { return before + string(r) + behind }
	}
	request, points := document(t).Components.Schemas["SignupRequest"].Value.Properties, borders()
	for _, row := range []struct {
		name, field string
		text        func(rune) string
		exact       rune // up to this character the pattern refuses what the server refuses
		known       rune // up to this character it accepts what the server accepts
	}{
		{"in a name", "fullName", around("a", "b"), 0xffff, unicode.MaxRune},
		{"a whole name", "fullName", around("", ""), 0xff, unicode.MaxRune},
		{"in an organization", "organizationName", around("-", "1"), 0xffff, unicode.MaxRune},
		{"in a country", "country", around("a", "b"), 0xffff, unicode.MaxRune},
		{"in a password", "password", around("Passw0rd", "x"), 0xffff, unicode.MaxRune},
		{"the small letter of a password", "password", around("PASS", "W0RD"), 0xff, 0xffff},
		{"the capital letter of a password", "password", around("pass", "w0rd"), 0xff, 0xffff},
		{"the digit of a password", "password", around("Pass", "word"), 0xffff, 0xffff},
		{"in an address", "email", around("a", "b@c.de"), unicode.MaxRune, unicode.MaxRune},
		{"the end of an address' first part", "email", around("a", "@c.de"), unicode.MaxRune, unicode.MaxRune},
		{"in an address' domain", "email", around("a@b", "c.de"), unicode.MaxRune, unicode.MaxRune},
		{"the end of an address", "email", around("a@b.c", ""), unicode.MaxRune, unicode.MaxRune},
		{"in a subdomain", "subdomain", around("ab", "cd"), unicode.MaxRune, unicode.MaxRune},
		{"behind a hyphen", "subdomain", around("ab-", "cd"), unicode.MaxRune, unicode.MaxRune},
		{"the end of a subdomain", "subdomain", around("ab", ""), unicode.MaxRune, unicode.MaxRune},
		{"in a language", "language", around("p", "-BR"), unicode.MaxRune, unicode.MaxRune},
		{"in an abbreviation", "abbreviation", around("A", "1"), 0xff, unicode.MaxRune},
		{"a whole abbreviation", "abbreviation", around("", ""), 0xff, unicode.MaxRune},
		{"in a currency", "currency", around("E", "R"), unicode.MaxRune, unicode.MaxRune},
	} {
		for _, r := range points {
			text := row.text(r)
			switch {
			case unicode.IsSpace(r) && strings.TrimSpace(text) != text:
				continue // the server trims it before it checks the text
			case row.exact == unicode.MaxRune && r > 0x17f && unicode.ToLower(r) > 0x7f:
				continue // only ASCII is allowed here, so other characters need no check
			}
			switch refusal, fits := refusal(row.field, text), request[row.field].Value.VisitJSON(text) == nil; {
			case refusal == "" && !fits && r <= row.known:
				t.Errorf("%s: the server takes %q (%U), and the contract does not", row.name, text, r)
			case refusal != "" && fits && r <= row.exact:
				t.Errorf("%s: the contract takes %q (%U), and the server says: %s", row.name, text, r, refusal)
			}
		}
	}
}

// TestPatternLengths compares lengths and forms in the same way.
func TestPatternLengths(t *testing.T) {
	t.Parallel()
	request := document(t).Components.Schemas["SignupRequest"].Value.Properties
	for field, texts := range map[string][]string{
		"email": {"a@b.c", "a@b", "@b.c", "a@.c", "a@b.c.", "a..b@c.de", ".a@b.cd", "a@b..c", "a@-b.cd", "a@b-.cd", "a@b.c-",
			"a@" + strings.Repeat("b", 63) + ".cd", "a@" + strings.Repeat("b", 64) + ".cd", "a@" + strings.Repeat("bcdef.", 22) + "bcdefg",
			"a@" + strings.Repeat("bcdef.", 22) + "bcdefgh", "a@B.CD", `"a"@b.cd`, "Jane <a@b.cd>"},
		"password":         {"Passw0r", "Passw0rd", "Passw0rd" + strings.Repeat("ü", 120), "Passw0rd" + strings.Repeat("ü", 121), "password1", "PASSWORD1", "Password"},
		"fullName":         {"a", "", strings.Repeat("ü", 140), strings.Repeat("ü", 141), "-", "<b>"},
		"subdomain":        {"ab", "abc", "a-b", "a-", "-ab", "ab-", "a--b", strings.Repeat("a", 40), strings.Repeat("a", 41), strings.Repeat("a-", 19) + "bc", "ABC"},
		"plan":             {"free", "starter", "business", "enterprise", "none", "Free"},
		"language":         {"de", "pt-BR", "a", "deu", "deut", "DE", "de-de", "de-"},
		"currency":         {"EUR", "eur", "EU", "EURO", "E1R"},
		"abbreviation":     {"A", "", "ACME", "acme2", "ÄÖÜ日本", strings.Repeat("ü", 10), strings.Repeat("ü", 11), "A B", "A-B", "A&B", "<b>"},
		"organizationName": {"Müller & Söhne", "日本", "\u200cا", "a\u200b"},
	} {
		for _, text := range texts {
			refusal, fits := refusal(field, text), request[field].Value.VisitJSON(text) == nil
			if (refusal == "") != fits {
				t.Errorf("%s %q: fits the contract: %v, the server: %q", field, text, fits, refusal)
			}
		}
	}
}

// refusal returns the sentence with which the rules of a signup refuse a field; empty: accepted.
func refusal(field, text string) string {
	sub := nexus.Signup{Email: "jane@example.com", Password: "Passw0rdXyz", FullName: "Jane", Organization: "Acme"}
	switch field {
	case "email":
		sub.Email = text
	case "password":
		sub.Password = nexus.Secret(text)
	case "fullName":
		sub.FullName = text
	case "organizationName":
		sub.Organization = text
	case "subdomain":
		sub.Subdomain = text
	case "plan":
		sub.Plan = nexus.PlanName(text)
	case "country":
		sub.Country = text
	case "language":
		sub.Language = text
	case "currency":
		sub.Currency = text
	case "abbreviation":
		sub.Abbreviation = text
	}
	sub.Normalize()
	refusals := sub.Refusals(false)
	if at := slices.IndexFunc(refusals, func(f nexus.FieldError) bool { return f.Field == field }); at >= 0 {
		return refusals[at].Message
	}
	return ""
}

// TestParameterPatterns compares the parameters that handlers check themselves with the
// contract: a value that does not match is refused, and a wait that matches is accepted.
func TestParameterPatterns(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(""))
	path := "/jobs/" + job["jobId"].(string)
	wait := document(t).Components.Schemas["Duration"].Value
	for _, text := range []string{"", "0", "1ms", "0.001", "0.000000001s", "0h0m1ms", "0s0s0s0s", "00000", "000000", "00001ms", "000001ms", "-1ms", "+1ms",
		".001", "0.", "1us", "1µs", "1e-3", " 1ms", "1ms ", strings.Repeat("0s", 3), strings.Repeat("0.000000000s", 3), "0." + strings.Repeat("0", 39), "now"} {
		fits := wait.VisitJSON(text) == nil
		if status, _, body := s.ask("GET", path+"?wait="+url.QueryEscape(text), ""); (status == 200) != fits {
			t.Errorf("wait=%s fits: %v, and is answered %d %v", text, fits, status, body)
		}
	}
	for _, call := range []string{"/jobs?state=", "/jobs?kind=", "/jobs?limit=", "/tenants?state=", "/tenants?limit=", "/jobs?state=Queued"} {
		if status, _, body := s.ask("GET", call, "", bearer(operator)...); status != 400 {
			t.Errorf("%s: %d %v", call, status, body)
		}
	}
	if status, _, body := s.ask("GET", "/jobs?cursor=", "", bearer(operator)...); status != 200 {
		t.Errorf("an empty cursor, which is the first page: %d %v", status, body)
	}
}
