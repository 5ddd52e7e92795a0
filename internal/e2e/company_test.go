//go:build service

package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// company is what a site's company says of itself; the zero value: it has none.
type company struct {
	Name     string `json:"name"`
	Abbr     string `json:"abbr"`
	Country  string `json:"country"`
	Currency string `json:"default_currency"`
	Chart    string `json:"chart_of_accounts"`
}

// get asks a site of the sandbox for documents, with the key of its admin.
func (s *stack) get(site, path string, pair gen.Credentials, into any) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.sites+"/api/resource/"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Host = site
	request.Header.Set("Authorization", "token "+pair.ApiKey+":"+pair.ApiSecret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if err := json.NewDecoder(response.Body).Decode(into); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
	}
}

// TestCompanyOfACountry: workers build the templates of countries. A signup from one of them gets
// a site with a company of its own name; one that fits none gets a site without.
func TestCompanyOfACountry(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_TEMPLATES=de:SKR04,DE:SKR03,US", "NEXUS_COUNTRY=de")
	eventually(t, 2*time.Minute, "the templates are offered", func() bool {
		offered := 0
		for _, each := range s.templates() {
			if each.Offered && !each.Renew {
				offered++
			}
		}
		return offered == 3
	})
	eventually(t, 2*time.Minute, "the API knows the countries", func() bool {
		var choices gen.Choices
		response, err := http.Get(s.api + "/choices") //nolint:noctx // it answers at once
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close() //nolint:errcheck // it was only read
		return json.NewDecoder(response.Body).Decode(&choices) == nil && len(choices.Countries) > 0
	})
	text := func(text string) *string { return &text }
	for _, tc := range []struct {
		name    string
		request gen.SignupRequest
		road    string
		want    company
	}{
		{"default", gen.SignupRequest{OrganizationName: "Nord Werk GmbH"}, "clone", company{"Nord Werk GmbH", "NWG", "Germany", "EUR", "SKR04"}},
		{"named", gen.SignupRequest{OrganizationName: "Süd", Country: text("Germany"), Currency: text("EUR"), Abbreviation: text("SUED")}, "clone",
			company{"Süd", "SUED", "Germany", "EUR", "SKR04"}},
		{"overseas", gen.SignupRequest{OrganizationName: "West", Country: text("us")}, "clone", company{"West", "WEST", "United States", "USD", "Standard"}},
		{"elsewhere", gen.SignupRequest{OrganizationName: "Ouest", Country: text("FR")}, "new-site", company{}},
		{"other-currency", gen.SignupRequest{OrganizationName: "Ost", Currency: text("USD")}, "new-site", company{}},
	} {
		tc.request.Email, tc.request.Password, tc.request.FullName, tc.request.Subdomain = "jane@example.com", "Passw0rdXyz", "Jane Doe", &tc.name
		accepted, err := s.client.Signup(t.Context(), tc.request, "key-"+tc.name)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		job := s.end(accepted.JobId, time.Minute)
		if job.State != gen.StateSucceeded || job.Road == nil || *job.Road != tc.road {
			t.Fatalf("%s is %s: %+v", tc.name, job.State, job)
		}
		pair, err := s.client.Credentials(t.Context(), accepted.JobId, nexus.Secret(accepted.ClaimToken), "pick-up")
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Data []company }
		if s.get(accepted.Site, "Company", pair, &list); len(list.Data) > 1 {
			t.Errorf("%s: %+v", tc.name, list)
		}
		var one struct{ Data company }
		for _, each := range list.Data {
			s.get(accepted.Site, "Company/"+url.PathEscape(each.Name), pair, &one)
		}
		if diff := cmp.Diff(tc.want, one.Data); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
	s.sound()
}
