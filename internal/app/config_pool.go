package app

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/text/language"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// mostStandbys is the largest size of a shelf that may be configured.
const mostStandbys = 1000

// shelfLimits are the limits of the shelves of a bench. In single-tenant mode there is none.
func (c *Config) shelfLimits() (l tasks.ShelfLimits, err error) {
	if c.single() {
		return l, nil
	}
	if l.Least, l.Most, err = sizes(c.Pool); err != nil {
		return l, fmt.Errorf("NEXUS_POOL: %q is no size of a shelf; write 0 for none, a number up to %d such as 4, or a range such as 2-20", c.Pool, mostStandbys)
	}
	if l.Bytes, err = units.RAMInBytes(c.PoolBytes); err != nil || l.Bytes <= 0 {
		return l, fmt.Errorf("NEXUS_POOL_BYTES: %q is no number of bytes; write one such as 10GiB, 500MiB or 10737418240", c.PoolBytes)
	}
	return l, nil
}

// sizes reads the bounds of a size: a number, or two that a - joins.
func sizes(text string) (least, most int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	if err != nil {
		return 0, 0, err
	}
	high, err := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	if err == nil && (low > high || high > mostStandbys) {
		err = strconv.ErrRange
	}
	return int(low), int(high), err
}

// templateSpecs are the templates that workers build, in the order of NEXUS_TEMPLATES. Those
// that templateProblems refuses are left out.
func (c *Config) templateSpecs() (out []nexus.TemplateSpec) {
	for _, text := range c.Templates {
		if spec, err := nexus.ParseTemplateSpec(text); err == nil {
			out = append(out, spec)
		}
	}
	return out
}

func (c *Config) templateProblems() (out []error) {
	for _, text := range c.Templates {
		spec, err := nexus.ParseTemplateSpec(text)
		switch {
		case err != nil:
			out = append(out, fmt.Errorf("NEXUS_TEMPLATES: %s", nexus.MessageOf(err)))
		case spec.Country() != "" && !slices.Contains(c.Apps, nexus.CompanyApp):
			out = append(out, fmt.Errorf("NEXUS_TEMPLATES: sites have a company with the app %s only; add it to NEXUS_APPS, or write plain instead of %s", nexus.CompanyApp, spec))
		}
	}
	if region, err := language.ParseRegion(c.Country); c.Country != "" && (err != nil || len(c.Country) != 2 || !region.IsCountry()) {
		out = append(out, fmt.Errorf("NEXUS_COUNTRY: %q is no ISO 3166 code of a country, such as DE", c.Country))
	}
	return out
}
