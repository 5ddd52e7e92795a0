package nexus

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Road is the way in which a site is made. The text is stored.
type Road string

// The roads to a site.
const (
	RoadNewSite Road = "new-site" // Frappe's new-site, then install-app for each app
	RoadClone   Road = "clone"    // a copy of a template
	RoadStandby Road = "standby"  // a standby, which is a copy that was made before
)

// Roads lists all roads, the fastest first.
func Roads() []Road { return []Road{RoadStandby, RoadClone, RoadNewSite} }

// TemplateSpec says what sites a template is for: TemplatePlain, or the ISO 3166 code of the
// country of the company that they have. The code may be followed by a colon and a word of
// the name of a chart of accounts: "US", "DE:SKR04". The text is stored.
type TemplateSpec string

// TemplatePlain has the apps and no company: its sites meet Frappe's set-up wizard.
const TemplatePlain TemplateSpec = "plain"

// TemplateVersion is the version of what a template holds. A bench copies templates of its
// runner's version only. The runner has the same number.
const TemplateVersion = 3

// CompanyApp is the app that companies, charts of accounts and fiscal years belong to.
const CompanyApp = "erpnext"

var specPattern = regexp.MustCompile(`^[A-Za-z]{2}(:[A-Za-z0-9]{1,20})?$`)

// ParseTemplateSpec reads a spec in any case. Invalid: the text is none.
func ParseTemplateSpec(text string) (TemplateSpec, error) {
	if strings.EqualFold(text, string(TemplatePlain)) {
		return TemplatePlain, nil
	}
	if !specPattern.MatchString(text) {
		return "", &Error{Code: Invalid, Op: "nexus.ParseTemplateSpec", Msg: "There is no template " + strconv.Quote(text) +
			". Write plain, or the ISO code of a country, such as US, or with a word of the name of a chart of accounts: DE:SKR04."}
	}
	return TemplateSpec(strings.ToUpper(text)), nil
}

// TemplateSpecs lists templates that were tried. Any other country has one too that the
// bench has a chart of accounts for.
func TemplateSpecs() []TemplateSpec {
	return []TemplateSpec{TemplatePlain, "US", "DE:SKR03", "DE:SKR04", "IN", "GB", "FR", "BR"}
}

// Country is the ISO 3166 code of the company's country; empty: there is no company.
func (s TemplateSpec) Country() string {
	country, _, _ := strings.Cut(string(s), ":")
	if s == TemplatePlain {
		return ""
	}
	return country
}

// Chart is a word of the name of the chart of accounts; empty: the country's usual one.
func (s TemplateSpec) Chart() string {
	_, chart, _ := strings.Cut(string(s), ":")
	return chart
}

// FittingSpecs lists the specs of templates that a site may be copied from, best first: those
// for its country, in the order of all, then TemplatePlain. Country is an ISO 3166 code;
// empty: there is no template for it.
func FittingSpecs(country string, all []TemplateSpec) []TemplateSpec {
	var out []TemplateSpec
	for _, spec := range append(slices.Clone(all), TemplateSpec(country)) {
		if country != "" && spec.Country() == country && !slices.Contains(out, spec) {
			out = append(out, spec)
		}
	}
	return append(out, TemplatePlain)
}

// Key says for which signups a template is: its spec, and the apps as a signup's Spec lists
// them.
func (s TemplateSpec) Key(apps []string) string {
	return strings.Join(append([]string{string(s)}, apps...), " ")
}

// TemplateName is the name of the template that a job makes: its folder below
// sites/.nexus/templates, and the job's Site. It has no dot, so no tenant has such a name.
func TemplateName(spec TemplateSpec, job JobID) SiteName {
	return SiteName(strings.ToLower(strings.ReplaceAll(string(spec), ":", "-")) + "-" + string(job[:8]))
}

// Template is a frozen site that new sites are copied from. Its database user is locked,
// and it has no site_config.json, so no request reaches it.
type Template struct {
	Name    SiteName     `json:"name"`
	DB      string       `json:"db"`
	Job     JobID        `json:"job"` // that made it
	Spec    TemplateSpec `json:"spec,omitempty"`
	Apps    []string     `json:"apps,omitempty"` // as asked for: with a trailing ? one that is skipped if the bench lacks it
	MadeAt  time.Time    `json:"made_at,omitzero"`
	Version int          `json:"version,omitempty"` // of the runner's templates
	Bytes   int64        `json:"bytes,omitempty"`   // of its database, which a copy takes too; zero: not known
	Stale   bool         `json:"stale,omitempty"`   // the bench's apps have changed since it was made
	Renew   bool         `json:"renew,omitempty"`   // another should be built: its last fiscal year has begun
	Problem string       `json:"problem,omitempty"` // why no site is copied from it, as a sentence; empty: sites are
}

// NewestTemplates returns, for each key, the newest template without a problem: new sites are
// copied from it.
func NewestTemplates(all []Template) map[string]Template {
	out := map[string]Template{}
	for _, t := range all {
		key := t.Spec.Key(t.Apps)
		other, found := out[key]
		if t.Problem == "" && (!found || t.MadeAt.After(other.MadeAt) || t.MadeAt.Equal(other.MadeAt) && t.Name > other.Name) {
			out[key] = t
		}
	}
	return out
}

// RoomTemplates is the place of templates; see Op.Room.
const RoomTemplates Room = "templates"

// SetUp does Frappe's set-up wizard on the owner's complete site in RoomTemplates, with a
// company of a random name and abbreviation. A site that is copied from it gets others by
// Company. It makes the next fiscal year too. It does nothing if that is done. Result.Skipped:
// an earlier attempt was interrupted in the wizard, which cannot be repeated; the site has to
// be made anew. Invalid: the bench has no such country or chart of accounts, or the site
// lacks CompanyApp.
type SetUp struct {
	noSecrets
	Country string `json:"country"` // ISO 3166 code
	Chart   string `json:"chart"`   // see TemplateSpec.Chart
}

// Freeze turns the owner's complete site in RoomTemplates into a template: it deletes logs,
// refuses what must not be copied (users, sessions, keys, encrypted values, e-mail accounts,
// scripts, webhooks, files), makes a disabled user whose rows EnsureUser gives to the first
// user of a copy, records the versions of the bench's apps and the columns with the names of
// that user and of the company of SetUp, and locks the database's user. It does nothing if
// that is done. Result.Note says why there is no such user: Frappe then makes each copy's.
// Conflict: the bench's apps have changed since the site was made.
type Freeze struct {
	noSecrets
	Spec TemplateSpec `json:"spec"`
	Apps []string     `json:"apps"` // see Template.Apps
}

// Clone makes a site like NewSite, as a copy of a template, with its apps. The copy has an
// encryption key and passwords of its own. Result.Skipped: the template cannot be used,
// and Result.Note says why: it is not there, damaged, or older than the bench's apps.
type Clone struct {
	Template      SiteName `json:"template"`
	AdminPassword Secret   `json:"-"` // Administrator's; empty: a random one that is not kept
}

// Templates lists the bench's templates, and sites in RoomTemplates that are not frozen: of
// builds that go on or were left. Each of those has a Problem. It needs no Site, DB, Owner
// or Gen.
type Templates struct{ noSecrets }

// The names of the operations on templates.
const (
	OpSetUp     OpName = "set_up"
	OpFreeze    OpName = "freeze"
	OpClone     OpName = "clone"
	OpTemplates OpName = "templates"
)

// Op names the operation.
func (SetUp) Op() OpName     { return OpSetUp }
func (Freeze) Op() OpName    { return OpFreeze }
func (Clone) Op() OpName     { return OpClone }
func (Templates) Op() OpName { return OpTemplates }

// Secrets has the Administrator's password under admin_password.
func (a Clone) Secrets() map[string]Secret {
	return map[string]Secret{"admin_password": a.AdminPassword}
}
