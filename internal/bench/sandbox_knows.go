package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// sandboxKnows are the lists of Frappe 16, as the runner tells them.
//
//go:embed sandbox_knows.json
var sandboxKnows []byte

func knows() (*nexus.Knows, error) {
	var k nexus.Knows
	if err := json.Unmarshal(sandboxKnows, &k); err != nil {
		return nil, fail(nexus.Internal, nexus.OpHello, "The sandbox's lists cannot be read: %v", err)
	}
	return &k, nil
}

// fitPlan spells the region of a plan as the lists do, and removes what is not in them,
// as the runner does.
func fitPlan(lists nexus.Knows, args nexus.ApplyPlan) (fit nexus.ApplyPlan, note string) {
	region, unknown := lists.Fit(nexus.Region{Country: args.Country, Language: args.Language, TimeZone: args.TimeZone, Currency: args.Currency})
	fit = args
	fit.Country, fit.Language, fit.TimeZone, fit.Currency = region.Country, region.Language, region.TimeZone, region.Currency
	var notes []string
	for _, name := range unknown {
		if name == "timezone" {
			notes = append(notes, fmt.Sprintf("This server does not know the time zone %s; the site is on UTC.", args.TimeZone))
			fit.TimeZone = "UTC"
			continue
		}
		value := map[string]*string{"country": &fit.Country, "language": &fit.Language, "currency": &fit.Currency}[name]
		notes = append(notes, fmt.Sprintf("This server does not know the %s %s; the site goes without.", name, *value))
		*value = ""
	}
	return fit, strings.Join(notes, " ")
}
