package nexus

import (
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Signup is a request for a site, by its future admin or by an operator for him.
type Signup struct {
	Email        string
	Password     Secret
	FullName     string
	Organization string
	Subdomain    string // empty: derived from the organization
	Plan         PlanName
	Country      string // an ISO 3166 code or an English name; after Fit in Frappe's spelling
	Language     string // "de", "pt-BR"
	TimeZone     string // IANA name
	Currency     string // ISO 4217
	Abbreviation string // of the company, letters and digits; empty: derived from the organization
	Road         Road   // that an operator asks for; empty: the fastest

	Template TemplateSpec // set by Fit; see Spec.Template
}

// Normalize trims spaces, sets the case of the e-mail's domain, of subdomain and
// currency, and fills in the default plan. It does not change the password.
func (s *Signup) Normalize() {
	for _, field := range []*string{&s.Email, &s.FullName, &s.Organization, &s.Subdomain,
		&s.Country, &s.Language, &s.TimeZone, &s.Currency, &s.Abbreviation} {
		if utf8.RuneCountInString(*field) <= MaxData { // a longer one is refused, spaces included
			*field = strings.TrimSpace(*field)
		}
	}
	if local, domain, ok := cutLast(s.Email, "@"); ok {
		s.Email = local + "@" + Lower(domain)
	}
	s.Subdomain = Lower(s.Subdomain)
	if len(s.Currency) == len("EUR") { // three letters of ASCII, else it is refused
		s.Currency = strings.ToUpper(s.Currency)
	}
	if s.Plan == "" {
		s.Plan = DefaultPlan
	}
}

// Refusals checks a normalized signup against all rules and returns one sentence for each
// refused field; nil: none is refused. An operator may give any plan.
func (s *Signup) Refusals(operator bool) []FieldError {
	var out []FieldError
	check := func(field, refusal string) {
		if refusal != "" {
			out = append(out, FieldError{Field: field, Message: refusal})
		}
	}
	check("email", refuseEmail(s.Email))
	check("password", s.refusePassword())
	check("fullName", refuseText(s.FullName, "your full name"))
	check("organizationName", refuseText(s.Organization, "your organization's name"))
	if s.Subdomain != "" || operator {
		check("subdomain", RefuseSubdomain(s.Subdomain))
	}
	check("plan", s.refusePlan(operator))
	if s.Country != "" {
		check("country", refuseText(s.Country, "the country"))
	}
	if s.Language != "" && !languagePattern.MatchString(s.Language) {
		check("language", "Use a language code such as en, de or pt-BR.")
	}
	if s.TimeZone != "" {
		if _, err := time.LoadLocation(s.TimeZone); err != nil || s.TimeZone == "Local" {
			check("timezone", "Use a time zone name such as Europe/Berlin.")
		}
	}
	if s.Currency != "" && !currencyPattern.MatchString(s.Currency) {
		check("currency", "Use a three-letter currency code such as EUR.")
	}
	if s.Abbreviation != "" && !abbreviationPattern.MatchString(s.Abbreviation) {
		check("abbreviation", "Use one to ten letters and digits, such as ACME.")
	}
	if s.Road != "" && !slices.Contains(Roads(), s.Road) {
		check("road", fmt.Sprintf("Choose one of these roads: %s.", strings.Trim(fmt.Sprint(Roads()), "[]")))
	}
	return out
}

// Fit sets the region in the spelling of the benches, and adds refusals for what the
// benches do not accept. It removes the refusal of a time zone that the benches list.
func (s *Signup) Fit(k Knows, refusals []FieldError) []FieldError {
	fit, unknown := k.Fit(Region{Country: s.Country, Language: s.Language, TimeZone: s.TimeZone, Currency: s.Currency})
	if len(k.TimeZones) > 0 && !slices.Contains(unknown, "timezone") {
		refusals = slices.DeleteFunc(refusals, func(f FieldError) bool { return f.Field == "timezone" })
	}
	check := func(field, refusal string) {
		if refusal != "" && !slices.ContainsFunc(refusals, func(f FieldError) bool { return f.Field == field }) {
			refusals = append(refusals, FieldError{Field: field, Message: refusal})
		}
	}
	for _, f := range []struct {
		field, text, what string
		most              int
	}{{"email", s.Email, "this e-mail address", k.Limits.Email}, {"fullName", s.FullName, "your full name", k.Limits.FullName},
		{"organizationName", s.Organization, "your organization's name", k.Limits.Organization}, {"password", s.Password.Reveal(), "the password", k.Limits.Password}} {
		length := DataLength(f.text)
		if f.field == "password" {
			length = utf8.RuneCountInString(f.text)
		}
		if f.most > 0 && length > f.most {
			check(f.field, fmt.Sprintf("Shorten %s: sites here have room for %d characters.", f.what, f.most))
		}
	}
	for _, field := range unknown {
		check(field, map[string]string{
			"country":  "Sites here do not know this country. Use its ISO 3166 code, such as DE, or a name from the list at /choices.",
			"language": "Sites here do not have this language. Use a code from the list at /choices, such as en.",
			"timezone": "Sites here do not know this time zone. Use one from the list at /choices, such as Europe/Berlin.",
			"currency": "Sites here do not know this currency. Use a code from the list at /choices, such as EUR.",
		}[field])
	}
	s.Template = k.Template(fit)
	s.Country, s.Language, s.TimeZone, s.Currency = fit.Country, fit.Language, fit.TimeZone, fit.Currency
	return refusals
}

// AdoptRefusals checks the request to adopt a site, as Refusals does for a signup. The
// site's name need not follow the rules for new names.
func (s *Signup) AdoptRefusals(site string) []FieldError {
	var out []FieldError
	for _, f := range []FieldError{{"email", refuseEmail(s.Email)}, {"plan", s.refusePlan(true)}} {
		if f.Message != "" {
			out = append(out, f)
		}
	}
	if len(site) > 250 || !domainPattern.MatchString(site) {
		out = append(out, FieldError{"site", "Give the site's full name, such as acme.example.com."})
	}
	return out
}

var (
	languagePattern     = regexp.MustCompile(`^[a-z]{2,3}(-[A-Z]{2})?$`)
	abbreviationPattern = regexp.MustCompile(`^[\p{L}\p{Nd}]{1,10}$`) // ten as in Frappe's set-up wizard
	currencyPattern     = regexp.MustCompile(`^[A-Z]{3}$`)
)

// MaxData is the length of a Data field of Frappe, in characters (type_map in
// frappe/database/mariadb/database.py, _validate_length in model/base_document.py).
const MaxData = 140

// DataLength is the length that a text has in a Data field. Frappe stores a user's names
// as HTML (clean_name in core/doctype/user/user.py), with &amp; for an ampersand and,
// since Frappe 16, &nbsp; for a no-break space.
func DataLength(text string) int {
	return utf8.RuneCountInString(text) + len("amp;")*strings.Count(text, "&") + len("nbsp;")*strings.Count(text, "\u00a0")
}

// refuseEmail checks an address against RFC 5322 (one addr-spec without a display name),
// the length of the local part in RFC 5321 §4.5.3.1, and Frappe's fields.
func refuseEmail(email string) string {
	const form = "Enter one e-mail address such as jane@example.com."
	if email == "" {
		return "Enter your e-mail address."
	}
	if len(email) > MaxData { // RFC 5321 would allow 254
		return fmt.Sprintf("This e-mail address is too long: %d characters at most.", MaxData)
	}
	if strings.ContainsFunc(email, unwanted) || !utf8.ValidString(email) {
		return "The e-mail address has invisible or control characters in it; type it anew."
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Name != "" || parsed.Address != email {
		return form
	}
	local, domain, _ := cutLast(email, "@")
	if len(local) > 64 {
		return "The part before the @ is too long: 64 characters at most."
	}
	// Frappe accepts ASCII only, and a domain with a dot, of letters, digits and hyphens
	// (frappe/utils/__init__.py, validate_email_address).
	if !domainPattern.MatchString(domain) || strings.ContainsAny(local, "\"<>()[],;:\\ ") ||
		strings.ContainsFunc(local, func(r rune) bool { return r > unicode.MaxASCII }) {
		return form
	}
	return ""
}

var domainPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (s *Signup) refusePassword() string {
	password := s.Password.Reveal()
	length := utf8.RuneCountInString(password)
	local, _, _ := cutLast(s.Email, "@")
	switch {
	case password == "":
		return "Choose a password."
	case length < 8 || length > 128:
		return "The password must have 8 to 128 characters."
	case !utf8.ValidString(password) || strings.ContainsRune(password, utf8.RuneError):
		return "A character of the password was lost on its way; type it anew."
	case strings.ContainsFunc(password, unicode.IsControl):
		return "The password must not contain control characters such as tabs or line breaks."
	case !strings.ContainsFunc(password, unicode.IsLower),
		!strings.ContainsFunc(password, unicode.IsUpper),
		!strings.ContainsFunc(password, unicode.IsDigit):
		return "The password needs at least one small letter, one capital letter and one digit."
	}
	for _, known := range []string{s.Email, local, s.Organization} {
		if known != "" && strings.EqualFold(password, known) {
			return "The password must not be your e-mail address or your organization's name."
		}
	}
	return ""
}

// refuseText checks a name of a person, a company or a country: any letters and
// punctuation, but no markup, and no invisible characters.
func refuseText(text, what string) string {
	switch {
	case text == "":
		return fmt.Sprintf("Enter %s.", what)
	case DataLength(text) > MaxData:
		return fmt.Sprintf("Shorten %s to %d characters; & counts as five.", what, MaxData)
	case strings.ContainsAny(text, "<>"):
		return fmt.Sprintf("Leave < and > out of %s.", what)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unwanted):
		return fmt.Sprintf("There are invisible or control characters in %s; type it anew.", what)
	case !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }):
		return fmt.Sprintf("There is no letter or digit in %s.", what)
	}
	return ""
}

// unwanted reports whether r is a control character, a bidi control (Unicode UAX #9) or
// another format character, except the two joiners that some scripts need; or U+FFFD,
// which replaces a character that could not be decoded.
func unwanted(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

func (s *Signup) refusePlan(operator bool) string {
	var names []string
	for _, p := range Plans() {
		if p.SelfServe || operator {
			if p.Name == s.Plan {
				return ""
			}
			names = append(names, string(p.Name))
		}
	}
	return fmt.Sprintf("Choose one of these plans: %s.", strings.Join(names, ", "))
}

// Canonical returns a text that is equal for equal signups, for the fingerprint of an
// idempotency key. It contains the password and must not be stored.
func (s *Signup) Canonical() []byte {
	out := fmt.Appendf(nil, "%q %q %q %q %q %q %q %q %q %q", s.Email, s.Password.Reveal(), s.FullName, s.Organization,
		s.Subdomain, s.Plan, s.Country, s.Language, s.TimeZone, s.Currency)
	if s.Abbreviation != "" { // else it is the text of the versions that had none
		out = fmt.Appendf(out, " %q", s.Abbreviation)
	}
	if s.Road != "" {
		out = fmt.Appendf(out, " road %q", s.Road)
	}
	return out
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
