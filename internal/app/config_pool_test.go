package app_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

func poolError(given string) string {
	return fmt.Sprintf("NEXUS_POOL: %q is no size of a shelf; write 0 for none, a number up to 1000 such as 4, or a range such as 2-20", given)
}

func bytesError(given string) string {
	return fmt.Sprintf("NEXUS_POOL_BYTES: %q is no number of bytes; write one such as 10GiB, 500MiB or 10737418240", given)
}

func templateError(given string) string {
	return fmt.Sprintf("NEXUS_TEMPLATES: There is no template %q. Write plain, or the ISO code of a country, such as US, or with a word of the name of a chart of accounts: DE:SKR04.", given)
}

func appError(spec string) string {
	return "NEXUS_TEMPLATES: sites have a company with the app erpnext only; add it to NEXUS_APPS, or write plain instead of " + spec
}

func countryError(given string) string {
	return fmt.Sprintf("NEXUS_COUNTRY: %q is no ISO 3166 code of a country, such as DE", given)
}

// TestTemplateSpecs: workers build the templates in the order in which they are given.
func TestTemplateSpecs(t *testing.T) {
	t.Parallel()
	for given, want := range map[string][]nexus.TemplateSpec{
		"":                          nil,
		"plain":                     {"plain"},
		"plain,US,DE:SKR04":         {"plain", "US", "DE:SKR04"},
		"de:Skr04,us,Plain,DE:0815": {"DE:SKR04", "US", "plain", "DE:0815"},
	} {
		c, _, err := app.Load([]string{"NEXUS_TEMPLATES=" + given})
		if diff := cmp.Diff(want, app.TemplateSpecs(c)); diff != "" || err != nil {
			t.Errorf("%q: %v %s", given, err, diff)
		}
	}
}

func TestLoadRefusesTemplates(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		environ []string
		want    []string // the lines, sorted; nil: taken
	}{
		{"no such template", []string{"NEXUS_TEMPLATES=plain,gold"}, []string{templateError("gold")}},
		{"no such templates", []string{"NEXUS_TEMPLATES=USA,US,D"}, []string{templateError("D"), templateError("USA")}},
		{"a chart of no letters or digits", []string{"NEXUS_TEMPLATES=DE:SKR 04"}, []string{templateError("DE:SKR 04")}},
		{"an empty chart", []string{"NEXUS_TEMPLATES=DE:"}, []string{templateError("DE:")}},
		{"two charts", []string{"NEXUS_TEMPLATES=DE:SKR03:SKR04"}, []string{templateError("DE:SKR03:SKR04")}},
		{"a chart without a country", []string{"NEXUS_TEMPLATES=:SKR04"}, []string{templateError(":SKR04")}},
		{"a chart of plain", []string{"NEXUS_TEMPLATES=plain:SKR04"}, []string{templateError("plain:SKR04")}},
		{"a country without erpnext", []string{"NEXUS_TEMPLATES=plain,DE:SKR04", "NEXUS_APPS=hrms"}, []string{appError("DE:SKR04")}},
		{"a country with erpnext where it is there", []string{"NEXUS_TEMPLATES=us", "NEXUS_APPS=erpnext?"}, []string{appError("US")}},
		{"plain without erpnext", []string{"NEXUS_TEMPLATES=plain", "NEXUS_APPS=hrms"}, nil},
		{"a country by its name", []string{"NEXUS_COUNTRY=Germany"}, []string{countryError("Germany")}},
		{"a country with a chart", []string{"NEXUS_COUNTRY=DE:SKR04"}, []string{countryError("DE:SKR04")}},
		{"a code of no country", []string{"NEXUS_COUNTRY=ZZ"}, []string{countryError("ZZ")}},
		{"a continent", []string{"NEXUS_COUNTRY=150"}, []string{countryError("150")}},
		{"plain for a country", []string{"NEXUS_COUNTRY=plain"}, []string{countryError("plain")}},
		{"a country", []string{"NEXUS_COUNTRY=DE"}, nil},
		{"a country in small letters", []string{"NEXUS_COUNTRY=de", "NEXUS_TEMPLATES=us,de:SKR04"}, nil},
	} {
		if diff := cmp.Diff(tc.want, refusals(tc.environ)); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestShelfLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pool, bytes string
		want        tasks.ShelfLimits
	}{
		{"", "", tasks.ShelfLimits{Bytes: 10 << 30}},
		{"0", "", tasks.ShelfLimits{Bytes: 10 << 30}},
		{"4", "1000", tasks.ShelfLimits{Least: 4, Most: 4, Bytes: 1000}},
		{"2-50", "2GiB", tasks.ShelfLimits{Least: 2, Most: 50, Bytes: 2 << 30}},
		{" 0 - 1000 ", "3 MiB", tasks.ShelfLimits{Most: 1000, Bytes: 3 << 20}},
		{"5", "7KiB", tasks.ShelfLimits{Least: 5, Most: 5, Bytes: 7 << 10}},
		{"5", "1TiB", tasks.ShelfLimits{Least: 5, Most: 5, Bytes: 1 << 40}},
	} {
		c, _, err := app.Load([]string{"NEXUS_POOL=" + tc.pool, "NEXUS_POOL_BYTES=" + tc.bytes})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := app.ShelfLimits(c); err != nil || got != tc.want {
			t.Errorf("%q, %q: %+v, %v", tc.pool, tc.bytes, got, err)
		}
	}
	c, _, err := app.Load([]string{"NEXUS_MODE=single", "ERP_NEXT_URL=https://erp.example.com", "FRAPPE_SITE_NAME=erp.example.com", "ERP_API_KEY=x", "ERP_API_SECRET=y", "NEXUS_POOL=many"})
	if limits, also := app.ShelfLimits(c); err != nil || also != nil || limits.Most != 0 {
		t.Errorf("in single-tenant mode: %+v, %v, %v", limits, err, also)
	}
}
