package nexus_test

import (
	"strings"
	"testing"
	_ "time/tzdata" // as in the programs
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func good() nexus.Signup {
	return nexus.Signup{Email: "jane@example.com", Password: "Secret-Horse-7", FullName: "Jane Doe", Organization: "Acme"}
}

// refusals normalizes a signup and returns the refusals by field.
func refusals(t testing.TB, sub nexus.Signup, operator bool) map[string]string {
	t.Helper()
	sub.Normalize()
	out := map[string]string{}
	for _, r := range sub.Refusals(operator) {
		if out[r.Field] != "" {
			t.Errorf("%s is refused twice: %q and %q", r.Field, out[r.Field], r.Message)
		}
		out[r.Field] = r.Message
	}
	return out
}

// only returns the expected refusals: one field with this message, or none if it is empty.
func only(field, message string) map[string]string {
	if message == "" {
		return map[string]string{}
	}
	return map[string]string{field: message}
}

func TestSignupEmail(t *testing.T) {
	t.Parallel()
	const (
		form    = "Enter one e-mail address such as jane@example.com."
		strange = "The e-mail address has invisible or control characters in it; type it anew."
		tooLong = "This e-mail address is too long: 140 characters at most."
		local   = "The part before the @ is too long: 64 characters at most."
	)
	l64, d63 := strings.Repeat("l", 64), strings.Repeat("d", 63)
	for _, tc := range []struct{ name, email, want string }{
		{"plain", "jane@example.com", ""},
		{"white space around it", " \tjane@example.com \n", ""},
		{"capitals", "Jane.DOE@Example.COM", ""},
		{"signs", "o'neill+erp_{x}=y/z@mail-1.example.co.uk", ""},
		{"local part of 64", l64 + "@example.com", ""},
		{"140 characters", l64 + "@" + d63 + "." + d63[:11], ""},
		{"none", " ", "Enter your e-mail address."},
		{"local part of 65", l64 + "l@example.com", local},
		{"141 characters", l64 + "@" + d63 + "." + d63[:12], tooLong},
		{"254 octets, which RFC 5321 allows", l64 + "@" + d63 + "." + d63 + "." + d63[:61], tooLong},
		{"domain label of 64", "jane@" + d63 + "d.com", form},
		{"no at", "jane.example.com", form},
		{"no local part", "@example.com", form},
		{"no domain", "jane@", form},
		{"domain without a dot", "jane@example", form},
		{"two ats", "jane@doe@example.com", form},
		{"two addresses", "jane@example.com, joe@example.com", form},
		{"two addresses, semicolon", "jane@example.com;joe@example.com", form},
		{"display name", "Jane <jane@example.com>", form},
		{"angle brackets", "<jane@example.com>", form},
		{"comment", "jane@example.com (Jane)", form},
		{"group", "all: jane@example.com;", form},
		{"quoted local part", `"jane doe"@example.com`, form},
		{"space inside", "jane doe@example.com", form},
		{"leading dot", ".jane@example.com", form},
		{"trailing dot", "jane.@example.com", form},
		{"two dots", "jane..doe@example.com", form},
		{"domain ends with a dot", "jane@example.com.", form},
		{"domain with two dots", "jane@example..com", form},
		{"domain label begins with a hyphen", "jane@-example.com", form},
		{"address literal", "jane@[192.0.2.1]", form},
		{"underscore in the domain", "jane@my_host.example.com", form},
		{"letters outside ASCII before the at", "jäne@example.com", form}, // RFC 5322 does not allow them, and Frappe refuses them
		{"letters outside ASCII after the at", "jane@exämple.com", form},
		{"header injection", "jane@example.com\r\nBcc: all@example.com", strange},
		{"null", "jane\x00@example.com", strange},
		{"turned text", "jane\u202e@example.com", strange},
		{"zero width space", "jane\u200b@example.com", strange},
		{"broken UTF-8", "jane\xff@example.com", strange},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := good()
			sub.Email = tc.email
			if diff := cmp.Diff(only("email", tc.want), refusals(t, sub, false)); diff != "" {
				t.Errorf("%q:\n%s", tc.email, diff)
			}
		})
	}
}

func TestSignupPassword(t *testing.T) {
	t.Parallel()
	const (
		length  = "The password must have 8 to 128 characters."
		kinds   = "The password needs at least one small letter, one capital letter and one digit."
		lost    = "A character of the password was lost on its way; type it anew."
		control = "The password must not contain control characters such as tabs or line breaks."
		known   = "The password must not be your e-mail address or your organization's name."
	)
	for _, tc := range []struct {
		name, email, organization string
		password                  nexus.Secret
		want                      string
	}{
		{name: "8 characters", password: "Aa1aaaaa"},
		{name: "128 characters", password: nexus.Secret("A1" + strings.Repeat("a", 126))},
		{name: "128 characters of two bytes", password: nexus.Secret("A1" + strings.Repeat("ä", 126))},
		{name: "another script", password: "Пароль-12"},
		{name: "spaces around it count", password: " Aa1aaa "},
		{name: "more than the organization", organization: "Acme Works 24", password: "ACME works 24!"},
		{name: "none", password: "", want: "Choose a password."},
		{name: "7 characters", password: "Aa1aaaa", want: length},
		{name: "7 characters of two bytes", password: "Äö1üßéñ", want: length},
		{name: "129 characters", password: nexus.Secret("A1" + strings.Repeat("a", 127)), want: length},
		{name: "no small letter", password: "AAAA1111", want: kinds},
		{name: "no capital letter", password: "aaaa1111", want: kinds},
		{name: "no digit", password: "aaaaAAAA", want: kinds},
		{name: "tab", password: "Aa1aaaa\t", want: control},
		{name: "line break", password: "Aa1\naaaa", want: control},
		{name: "null", password: "Aa1a\x00aaa", want: control},
		{name: "delete", password: "Aa1aaaa\x7f", want: control},
		{name: "C1 control", password: "Aa1aaaa\u0085", want: control},
		{name: "broken UTF-8", password: "Aa1aaaaa\xff", want: lost},
		{name: "a replacement character", password: "Aa1aaaaa\ufffd", want: lost},
		{name: "the e-mail", email: "Jane1@example.com", password: "jane1@EXAMPLE.com", want: known},
		{name: "the local part", email: "JaneDoe1@example.com", password: "janeDOE1", want: known},
		{name: "the organization", organization: " Acme Works 24 ", password: "ACME works 24", want: known},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := good()
			sub.Password = tc.password
			if tc.email != "" {
				sub.Email = tc.email
			}
			if tc.organization != "" {
				sub.Organization = tc.organization
			}
			if diff := cmp.Diff(only("password", tc.want), refusals(t, sub, false)); diff != "" {
				t.Errorf("%q:\n%s", tc.password.Reveal(), diff)
			}
			before := sub.Password
			if sub.Normalize(); sub.Password != before {
				t.Error("the password was touched")
			}
		})
	}
}

func TestSignupNames(t *testing.T) {
	t.Parallel()
	const (
		empty   = "Enter %."
		long    = "Shorten % to 140 characters; & counts as five."
		markup  = "Leave < and > out of %."
		hidden  = "There are invisible or control characters in %; type it anew."
		letters = "There is no letter or digit in %."
	)
	for _, tc := range []struct{ name, text, want string }{
		{"plain", "Jane Doe", ""},
		{"punctuation", `O'Neill & Söhne, Inc. (No. 1) "A/B" – C+D #7 @home`, ""},
		{"Latin beyond ASCII", "Łukasz Żółć-Ñandú", ""},
		{"Chinese", "山田太郎", ""},
		{"Arabic", "محمد علي", ""},
		{"a joiner that a script needs", "क्\u200dष", ""},
		{"an emoji sequence", "Acme 👩\u200d💻", ""},
		{"one digit", "7", ""},
		{"140 characters", strings.Repeat("ж", 140), ""},
		{"trimmed", "  " + strings.Repeat("a", 136) + "\u00a0\n", ""},
		{"140 characters, and space around them", "  " + strings.Repeat("a", 140) + "\u00a0\n", long}, // as the API's contract describes
		{"none", "", empty},
		{"nothing but space", " \t\u3000", empty},
		{"141 characters", strings.Repeat("ж", 141), long},
		{"140 as Frappe keeps it", "Tom &" + strings.Repeat("x", 131), ""},
		{"141 as Frappe keeps it", "Tom &" + strings.Repeat("x", 132), long},
		{"141 with a no-break space", "Tom\u00a0" + strings.Repeat("x", 132), long},
		{"a tag", "<b>Acme</b>", markup},
		{"a lone sign", "a > b", markup},
		{"null", "Jane\x00Doe", hidden},
		{"line break", "Jane\nDoe", hidden},
		{"escape", "Jane\x1b[31mDoe", hidden},
		{"C1 control", "Jane\u0090Doe", hidden},
		{"turned text", "Jane\u202eeoD", hidden},
		{"isolate", "\u2066Jane\u2069", hidden},
		{"direction mark", "Jane\u200f", hidden},
		{"zero width space", "Jane\u200b", hidden},
		{"byte order mark", "\ufeffJane", hidden},
		{"tag characters", "Jane\U000e0041", hidden},
		{"line separator", "Jane\u2028Doe", hidden},
		{"broken UTF-8", "Jane\xff", hidden},
		{"no letter", "&'.,-", letters},
	} {
		for _, field := range []struct {
			name, what string
			set        func(*nexus.Signup)
		}{
			{"fullName", "your full name", func(s *nexus.Signup) { s.FullName = tc.text }},
			{"organizationName", "your organization's name", func(s *nexus.Signup) { s.Organization = tc.text }},
		} {
			t.Run(field.name+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				sub := good()
				field.set(&sub)
				want := only(field.name, strings.Replace(tc.want, "%", field.what, 1))
				if diff := cmp.Diff(want, refusals(t, sub, false)); diff != "" {
					t.Errorf("%q:\n%s", tc.text, diff)
				}
			})
		}
	}
}

func TestSignupChoices(t *testing.T) {
	t.Parallel()
	const (
		plans    = "Choose one of these plans: free, starter, business."
		all      = "Choose one of these plans: free, starter, business, enterprise."
		language = "Use a language code such as en, de or pt-BR."
		zone     = "Use a time zone name such as Europe/Berlin."
		currency = "Use a three-letter currency code such as EUR."
		short    = "Use one to ten letters and digits, such as ACME."
	)
	for _, tc := range []struct {
		name     string
		operator bool
		set      nexus.Signup
		field    string
		want     string
	}{
		{name: "nothing chosen"},
		{name: "all chosen", set: nexus.Signup{Subdomain: " Acme-Works ", Plan: "business", Country: "Germany", Language: "pt-BR",
			TimeZone: "Europe/Berlin", Currency: "eur", Abbreviation: "AW"}},
		{name: "an operator's plan for a person", set: nexus.Signup{Plan: "enterprise"}, field: "plan", want: plans},
		{name: "an operator's plan for an operator", operator: true, set: nexus.Signup{Plan: "enterprise", Subdomain: "acme"}},
		{name: "no such plan", operator: true, set: nexus.Signup{Plan: "gold", Subdomain: "acme"}, field: "plan", want: all},
		{name: "an operator gives no subdomain", operator: true, field: "subdomain", want: "Enter the address you want."},
		{name: "a reserved subdomain", set: nexus.Signup{Subdomain: "www"}, field: "subdomain", want: "This address is reserved; please choose another."},
		{name: "a country with markup", set: nexus.Signup{Country: "<x>"}, field: "country", want: "Leave < and > out of the country."},
		{name: "a language in words", set: nexus.Signup{Language: "German"}, field: "language", want: language},
		{name: "a locale", set: nexus.Signup{Language: "de_DE"}, field: "language", want: language},
		{name: "no such time zone", set: nexus.Signup{TimeZone: "Mars/Base"}, field: "timezone", want: zone},
		{name: "this machine's time zone", set: nexus.Signup{TimeZone: "Local"}, field: "timezone", want: zone},
		{name: "a path as time zone", set: nexus.Signup{TimeZone: "../../etc/passwd"}, field: "timezone", want: zone},
		{name: "a currency in words", set: nexus.Signup{Currency: "Euro"}, field: "currency", want: currency},
		{name: "an abbreviation with spaces around it", set: nexus.Signup{Abbreviation: " AW "}},
		{name: "ten letters of any script", set: nexus.Signup{Abbreviation: "Ünü日本語ñß٣9"}},
		{name: "eleven letters", set: nexus.Signup{Abbreviation: "ABCDEFGHIJK"}, field: "abbreviation", want: short},
		{name: "an abbreviation of two words", set: nexus.Signup{Abbreviation: "A W"}, field: "abbreviation", want: short},
		{name: "an abbreviation with a hyphen", set: nexus.Signup{Abbreviation: "A-W"}, field: "abbreviation", want: short},
		{name: "an abbreviation with a line break", set: nexus.Signup{Abbreviation: "A\nW"}, field: "abbreviation", want: short},
		{name: "an abbreviation that is not UTF-8", set: nexus.Signup{Abbreviation: "A\xff"}, field: "abbreviation", want: short},
		{name: "an abbreviation with a pattern", set: nexus.Signup{Abbreviation: "A%"}, field: "abbreviation", want: short},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := good()
			sub.Subdomain, sub.Plan, sub.Country = tc.set.Subdomain, tc.set.Plan, tc.set.Country
			sub.Language, sub.TimeZone, sub.Currency = tc.set.Language, tc.set.TimeZone, tc.set.Currency
			sub.Abbreviation = tc.set.Abbreviation
			if diff := cmp.Diff(only(tc.field, tc.want), refusals(t, sub, tc.operator)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSignupAllAtOnce(t *testing.T) {
	t.Parallel()
	sub := nexus.Signup{Email: "x", Password: "x", FullName: "<", Organization: "<", Subdomain: "x", Plan: "x", Country: "<",
		Language: "x", TimeZone: "x", Currency: "x", Abbreviation: "<"}
	sub.Normalize()
	var fields []string
	for _, r := range sub.Refusals(false) {
		fields = append(fields, r.Field)
	}
	want := []string{"email", "password", "fullName", "organizationName", "subdomain", "plan", "country", "language", "timezone", "currency", "abbreviation"}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
	perfect := good()
	perfect.Normalize()
	if got := perfect.Refusals(false); got != nil {
		t.Errorf("a good signup is refused: %v", got)
	}
}

func TestSignupNormalize(t *testing.T) {
	t.Parallel()
	got := nexus.Signup{Email: " Jane.Doe@EXAMPLE.Com ", Password: " Aa1 ", FullName: "\tJane ", Organization: "\u00a0Acme\n",
		Subdomain: " ACME ", Country: " Germany ", Language: " de ", TimeZone: " UTC ", Currency: " eur ", Abbreviation: " aW\t"}
	got.Normalize()
	want := nexus.Signup{Email: "Jane.Doe@example.com", Password: " Aa1 ", FullName: "Jane", Organization: "Acme", Subdomain: "acme",
		Plan: nexus.DefaultPlan, Country: "Germany", Language: "de", TimeZone: "UTC", Currency: "EUR", Abbreviation: "aW"}
	if got != want {
		t.Errorf("got %+v", got)
	}
}

func TestAdoptRefusals(t *testing.T) {
	t.Parallel()
	const site = "Give the site's full name, such as acme.example.com."
	for _, tc := range []struct {
		name, email string
		plan        nexus.PlanName
		site        string
		want        []nexus.FieldError
	}{
		{"well", "jane@example.com", "enterprise", "acme.example.com", nil},
		{"a name that none may take anew", "jane@example.com", "", "www.example.com", nil},
		{"no dot", "jane@example.com", "", "acme", []nexus.FieldError{{Field: "site", Message: site}}},
		{"a path", "jane@example.com", "", "../acme.example.com", []nexus.FieldError{{Field: "site", Message: site}}},
		{"too long", "jane@example.com", "", strings.Repeat("a.", 124) + "com", []nexus.FieldError{{Field: "site", Message: site}}},
		{"all at once", "jane", "gold", "", []nexus.FieldError{{Field: "email", Message: "Enter one e-mail address such as jane@example.com."},
			{Field: "plan", Message: "Choose one of these plans: free, starter, business, enterprise."}, {Field: "site", Message: site}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sub := nexus.Signup{Email: tc.email, Plan: tc.plan}
			sub.Normalize()
			if diff := cmp.Diff(tc.want, sub.AdoptRefusals(tc.site)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSignupCanonical: two signups that differ in any field have different fingerprints, also
// if they differ only in where one field ends and the next begins.
func TestSignupCanonical(t *testing.T) {
	t.Parallel()
	base := good()
	seen := map[string]string{string(base.Canonical()): "the base"}
	for _, tc := range []struct {
		name string
		set  func(*nexus.Signup)
	}{
		{"email", func(s *nexus.Signup) { s.Email = "joe@example.com" }},
		{"password", func(s *nexus.Signup) { s.Password = "Secret-Horse-8" }},
		{"full name", func(s *nexus.Signup) { s.FullName = "Joe" }},
		{"organization", func(s *nexus.Signup) { s.Organization = "Other" }},
		{"subdomain", func(s *nexus.Signup) { s.Subdomain = "acme" }},
		{"plan", func(s *nexus.Signup) { s.Plan = "acme" }},
		{"country", func(s *nexus.Signup) { s.Country = "acme" }},
		{"language", func(s *nexus.Signup) { s.Language = "acme" }},
		{"time zone", func(s *nexus.Signup) { s.TimeZone = "acme" }},
		{"currency", func(s *nexus.Signup) { s.Currency = "acme" }},
		{"abbreviation", func(s *nexus.Signup) { s.Abbreviation = "acme" }},
		{"currency and abbreviation", func(s *nexus.Signup) { s.Currency, s.Abbreviation = "acme", "acme" }},
		{"a border moved", func(s *nexus.Signup) { s.FullName, s.Organization = "Jane", "Doe Acme" }},
		{"a quoted border", func(s *nexus.Signup) { s.FullName, s.Organization = `Jane Doe" "Acme`, "" }},
	} {
		sub := good()
		tc.set(&sub)
		if other, ok := seen[string(sub.Canonical())]; ok {
			t.Errorf("%s reads like %s", tc.name, other)
		}
		seen[string(sub.Canonical())] = tc.name
	}
	same := good()
	if _, ok := seen[string(same.Canonical())]; !ok {
		t.Error("an equal signup reads otherwise")
	}
	same.Template = "DE" // follows from the rest
	const former = `"jane@example.com" "Secret-Horse-7" "Jane Doe" "Acme" "" "" "" "" "" ""`
	if got := string(same.Canonical()); got != former {
		t.Errorf("without an abbreviation it reads %s, not as in former versions", got)
	}
}

func TestPlans(t *testing.T) {
	t.Parallel()
	for _, plan := range nexus.Plans() {
		if found, ok := nexus.FindPlan(plan.Name); !ok || found != plan {
			t.Errorf("%s: found %+v, %t", plan.Name, found, ok)
		}
		if plan.SelfServe && (plan.Users < 1 || plan.StorageBytes < 1) {
			t.Errorf("%s is for anybody and unlimited: %+v", plan.Name, plan)
		}
	}
	if plan, ok := nexus.FindPlan(nexus.DefaultPlan); !ok || !plan.SelfServe {
		t.Errorf("the default plan cannot be signed up for: %+v", plan)
	}
	if plan, ok := nexus.FindPlan("gold"); ok {
		t.Errorf("found %+v", plan)
	}
}

// FuzzSignup checks for any text what other packages rely on.
func FuzzSignup(f *testing.F) {
	f.Add("jane@example.com", "Secret-Horse-7", "Jane Doe", "Acme & Söhne, Inc.", "acme")
	f.Add("Jane <jane@example.com>", "short", "<b>", "\u202eemca", "-acme")
	f.Add("jäne@exämple.com", "Пароль-12", "山田", "3M", "xn--acme")
	f.Add("a@b@c.de\r\n", "\x00", "\xff", " ", "")
	f.Fuzz(func(t *testing.T, email, password, fullName, organization, subdomain string) {
		sub := nexus.Signup{Email: email, Password: nexus.Secret(password), FullName: fullName, Organization: organization, Subdomain: subdomain}
		sub.Normalize()
		again := sub
		if again.Normalize(); again != sub {
			t.Errorf("normalized twice: %+v, then %+v", sub, again)
		}
		refused := refusals(t, sub, false)
		for field, message := range refused {
			if !strings.HasSuffix(message, ".") || !utf8.ValidString(message) {
				t.Errorf("%s: not a sentence: %q", field, message)
			}
		}
		if refused["email"] == "" {
			local, domain, _ := strings.Cut(sub.Email, "@")
			if len(sub.Email) > 140 || len(local) > 64 || strings.ToLower(domain) != domain ||
				strings.ContainsFunc(sub.Email, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>()[],;:\"`, r) }) {
				t.Errorf("taken as an address: %q", sub.Email)
			}
		}
		if n := utf8.RuneCountInString(password); refused["password"] == "" && (n < 8 || n > 128 || strings.ContainsAny(password, "\x00\n\r\t")) {
			t.Errorf("taken as a password: %q", password)
		}
		for field, text := range map[string]string{"fullName": sub.FullName, "organizationName": sub.Organization} {
			if refused[field] == "" && (text != strings.TrimSpace(text) || strings.ContainsAny(text, "<>\x00\n\u202e\u2066") || !utf8.ValidString(text)) {
				t.Errorf("taken as %s: %q", field, text)
			}
		}
	})
}
