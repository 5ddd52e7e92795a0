package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// company is what the set-up wizard makes of a site.
type company struct {
	Done     bool // false: an attempt was interrupted
	Named    bool // false: Name and Abbr are placeholders
	Name     string
	Abbr     string
	Country  string // in the spelling of the sandbox's list
	Currency string
	Chart    string
	Year     int // the last fiscal year, which is a calendar year
}

// charts are the charts of accounts of countries that have more than one, the usual one first.
// Any other country has standardChart.
var charts = map[string][]string{"DE": {"SKR03", "SKR04"}}

const standardChart = "Standard"

// longestAbbr is the length of the abbreviation of a company in Frappe's set-up wizard.
const longestAbbr = 10

// setUp does the set-up wizard on a site that is to become a template. The site keeps that it
// has begun: like ERPNext's, a wizard that was interrupted is not repeated.
func (s *Sandbox) setUp(ctx context.Context, op nexus.Op, args nexus.SetUp) (result nexus.Result, err error) {
	room, delay := s.folder.room(op.Room), s.delay(op, nil)
	atOnce := delay <= 0
	err = s.fenced(op, func(site *siteState) error {
		if err := own(op, site); err != nil {
			return err
		}
		switch {
		case site.SetUp != nil && site.SetUp.Done:
			return nil
		case site.SetUp != nil:
			result.Skipped, result.Note = true, "Its set-up wizard was interrupted and cannot be repeated, so the site has to be made anew."
			return nil
		case site.Frozen != nil: // new sites are to be what was frozen
			return fail(nexus.Conflict, args.Op(), "The template %s is frozen; build another one that has a company.", op.Site)
		}
		if site.SetUp, err = s.newCompany(args, site.Apps); err != nil {
			return err
		}
		result.Changed, site.SetUp.Done = true, atOnce
		return room.saveSite(site)
	})
	if err != nil || !result.Changed || atOnce {
		return result, err
	}
	if err := s.pause(ctx, op, delay); err != nil {
		return result, err
	}
	return result, s.fenced(op, func(site *siteState) error {
		if err := own(op, site); err != nil {
			return err
		}
		if site.SetUp == nil { // another run of the job has made the site anew
			return fail(nexus.Conflict, args.Op(), "The site %s was made anew while its company was set up.", op.Site)
		}
		site.SetUp.Done = true
		return room.saveSite(site)
	})
}

// newCompany is a company with placeholders for its name and abbreviation.
func (s *Sandbox) newCompany(args nexus.SetUp, apps []string) (*company, error) {
	lists, err := s.lists()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lists.Countries, func(c nexus.Country) bool { return c.Code == args.Country })
	switch {
	case !slices.Contains(apps, nexus.CompanyApp):
		return nil, fail(nexus.Invalid, args.Op(), "The site has no app %s, which companies belong to.", nexus.CompanyApp)
	case i < 0:
		return nil, fail(nexus.Invalid, args.Op(), "This bench knows no country %q; use an ISO 3166 code such as DE.", args.Country)
	}
	country, there := lists.Countries[i], charts[args.Country]
	if there == nil {
		there = []string{standardChart}
	}
	chart := slices.IndexFunc(there, func(name string) bool { return strings.Contains(strings.ToUpper(name), strings.ToUpper(args.Chart)) })
	if chart < 0 {
		return nil, fail(nexus.Invalid, args.Op(), "There is no chart of accounts %q for %s; there is: %s.", args.Chart, country.Name, strings.Join(there, ", "))
	}
	return &company{Name: "Nexus" + letters(16), Abbr: "NX" + letters(8), Country: country.Name, Currency: country.Currency,
		Chart: there[chart], Year: time.Now().UTC().Year() + 1}, nil
}

// letters returns n random capital letters.
func letters(n int) string {
	out := make([]byte, n)
	_, _ = rand.Read(out) // never fails
	for i := range out {
		out[i] = 'A' + out[i]%26
	}
	return string(out)
}

// renew reports whether the last fiscal year has begun; nil: there is none.
func (c *company) renew() bool { return c != nil && time.Now().UTC().Year() >= c.Year }

// over reports whether the last fiscal year is over; nil: there is none.
func (c *company) over() bool { return c != nil && time.Now().UTC().Year() > c.Year }

// unlike says what a site has in its company that a spec does not ask for, or lacks; nil:
// nothing.
func (c *company) unlike(spec nexus.TemplateSpec) error {
	switch {
	case c != nil && !c.Done:
		return errors.New("the set-up wizard was interrupted")
	case c == nil && spec.Country() != "":
		return errors.New("the site has no company")
	case c != nil && spec.Country() == "":
		return errors.New("the site has a company")
	}
	return nil
}

// company names the site's company, in the place of its template's. A site without one keeps
// the name for the wizard, which nobody has done on it.
func (s *Sandbox) company(op nexus.Op, site *siteState) (result nexus.Result, err error) {
	args, _ := op.Args.(nexus.Company)
	name := first(strings.TrimSpace(markup.ReplaceAllString(args.Name, "")), nexus.MaxData)
	switch {
	case site.SetUp != nil && site.SetUp.Named:
		return result, nil
	case site.SetUp != nil:
		short, _, _ := strings.Cut(string(op.Site), ".")
		name = cmp.Or(name, short)
		abbr := cmp.Or(first(strings.TrimSpace(args.Abbr), longestAbbr), abbreviation(name), "CO")
		// The root cost center is the longest name that is made of both: <company> - <abbr>.
		if fit := first(name, nexus.MaxData-len([]rune(" - "+abbr))); fit != name {
			name, result.Note = fit, "ERPNext cannot store the company's name as it was given, so it is: "+fit
		}
		site.SetUp.Name, site.SetUp.Abbr, site.SetUp.Named, site.Company = name, abbr, true, name
	case name == "" || site.Company == name:
		return result, nil
	default:
		site.Company = name
	}
	result.Changed = true
	return result, nil
}

var (
	markup    = regexp.MustCompile(`[<>]`)
	wordBreak = regexp.MustCompile(`[\s/&+.,-]+`)
)

// first returns at most n characters of a text, without the spaces around them.
func first(text string, n int) string {
	runes := []rune(text)
	return strings.TrimSpace(string(runes[:min(len(runes), n)]))
}

// abbreviation is the runner's: two to five letters and digits for a company's name, the first
// of each word, or of the name if it is one word. It is shorter, or empty, if the name has no
// more of them.
func abbreviation(name string) string {
	var firsts, all []rune
	for _, word := range wordBreak.Split(name, -1) {
		chars := slices.DeleteFunc([]rune(word), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.Is(unicode.Nd, r) })
		if len(chars) > 0 {
			firsts = append(firsts, chars[0])
		}
		all = append(all, chars...)
	}
	if len(firsts) < 2 {
		firsts = all
	}
	return first(strings.ToUpper(string(firsts)), 5)
}
