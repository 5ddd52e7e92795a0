package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// tells writes what a bench knows, as its worker does.
func (s *server) tells(k nexus.Knows) {
	s.t.Helper()
	if err := s.store.AnnounceBench(s.t.Context(), "main"); err != nil {
		s.t.Fatal(err)
	}
	if err := s.store.SetKnows(s.t.Context(), "main", k); err != nil {
		s.t.Fatal(err)
	}
}

func korea() nexus.Knows {
	return nexus.Knows{Countries: []nexus.Country{{Code: "KR", Name: "Korea, Republic of", Currency: "KRW", TimeZones: []string{"Asia/Seoul"}}},
		Currencies: []string{"KRW"}, Languages: []nexus.Language{{Code: "ko", Name: "한국어"}}, TimeZones: []string{"Asia/Seoul"}}
}

// TestSignupAgainstLists: a value that the bench does not know is refused, with the name
// of its field. A value that the bench spells differently is recorded in its spelling.
func TestSignupAgainstLists(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.tells(korea())
	for _, row := range []struct{ change, fields string }{
		{`{"country":"Atlantis"}`, "country"}, {`{"country":"DE"}`, "country"}, {`{"language":"de"}`, "language"},
		{`{"timezone":"America/Coyhaique"}`, "timezone"}, {`{"timezone":"Mars/Base"}`, "timezone"}, {`{"currency":"EUR"}`, "currency"},
		{`{"country":"DE","language":"english","timezone":"Europe/Berlin","currency":"EUR","fullName":""}`, "fullName language country timezone currency"},
	} {
		for _, path := range []string{"/signup", "/tenants"} {
			status, _, body := s.ask("POST", path, signupBody(strings.Replace(row.change, "}", `,"subdomain":"acme"}`, 1)), bearer(operator)...)
			var got []string
			list, _ := body["errors"].([]any)
			for _, each := range list {
				e := each.(map[string]any)
				got = append(got, e["field"].(string))
				if text := e["message"].(string); !strings.HasSuffix(text, ".") || e["field"] == "country" && !strings.Contains(text, "/choices") {
					t.Errorf("it does not say what is taken: %q", text)
				}
			}
			if status != http.StatusBadRequest || strings.Join(got, " ") != row.fields {
				t.Errorf("%s %s: %d, refused %v", path, row.change, status, got)
			}
		}
	}
	for _, country := range []string{"South Korea", "kr", "KOREA, republic of"} {
		_, _, body := s.ask("POST", "/signup", signupBody(`{"country":"`+country+`","language":"ko","timezone":"asia/seoul","currency":"krw"}`))
		spec := s.spec(body)
		if spec.Country != "Korea, Republic of" || spec.TimeZone != "Asia/Seoul" || spec.Currency != "KRW" {
			t.Errorf("%q is recorded as %+v, %v", country, spec, body)
		}
	}
}

func (s *server) spec(accepted map[string]any) nexus.Spec {
	s.t.Helper()
	id, _ := accepted["jobId"].(string)
	if id == "" {
		return nexus.Spec{}
	}
	job, err := s.store.Job(s.t.Context(), nexus.JobID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	return job.Spec
}

// TestSignupWithoutLists: before a worker has written lists, only the form is checked. A
// request that was accepted then can be replayed when there are lists.
func TestSignupWithoutLists(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Lists = time.Nanosecond })
	key := []string{"Idempotency-Key", "the-same"}
	body := signupBody(`{"country":"South Korea","timezone":"Asia/Seoul"}`)
	status, _, first := s.ask("POST", "/signup", body, key...)
	if spec := s.spec(first); status != http.StatusAccepted || spec.Country != "KR" {
		t.Fatalf("%d %v, recorded %q", status, first, spec.Country)
	}
	if status, _, _ := s.ask("POST", "/signup", signupBody(`{"timezone":"Mars/Base"}`)); status != http.StatusBadRequest {
		t.Errorf("a zone that nobody knows: %d", status)
	}
	s.tells(korea())
	if status, _, again := s.ask("POST", "/signup", body, key...); status != http.StatusAccepted || again["jobId"] != first["jobId"] {
		t.Errorf("with lists the same request is another one: %d %v", status, again)
	}
	if status, _, _ := s.ask("POST", "/signup", signupBody(`{"country":"DE"}`)); status != http.StatusBadRequest {
		t.Errorf("the lists of a worker that came later do not count: %d", status)
	}
}

// TestListsAreKept: the lists are read once for many requests, and kept in an outage.
func TestListsAreKept(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		keep time.Duration
		want string
	}{{time.Hour, "KR"}, {time.Nanosecond, "DE"}} {
		s := newServer(t, func(o *api.Options) { o.Lists = row.keep })
		s.tells(korea())
		s.choices()
		s.tells(nexus.Knows{Countries: []nexus.Country{{Code: "DE", Name: "Germany"}}})
		if got := s.choices(); got != row.want {
			t.Errorf("kept for %s: %q, want %q", row.keep, got, row.want)
		}
		s.redis.SetError("LOADING of late")
		if got := s.choices(); got != row.want {
			t.Errorf("without Redis %q, want %q", got, row.want)
		}
	}
	single := newServer(t, func(o *api.Options) { o.Single, o.Master = true, "erp.example.com" })
	single.tells(korea())
	if got := single.choices(); got != "" {
		t.Errorf("in single-tenant mode a former bench's lists count: %q", got)
	}
}

// choices returns the codes of the countries in /choices.
func (s *server) choices() string {
	s.t.Helper()
	status, _, body := s.ask("GET", "/choices", "")
	list, ok := body["countries"].([]any)
	if status != http.StatusOK || !ok {
		s.t.Fatalf("%d %v", status, body)
	}
	var codes []string
	for _, each := range list {
		codes = append(codes, each.(map[string]any)["code"].(string))
	}
	return strings.Join(codes, " ")
}

// TestSignupFindsItsTemplates: a job has the country whose templates fit it. They fit only if
// the site has the country's own currency, which its company could not change.
func TestSignupFindsItsTemplates(t *testing.T) {
	t.Parallel()
	lists := nexus.Knows{Currencies: []string{"CHF", "EUR", "USD"}, Countries: []nexus.Country{{Code: "DE", Name: "Germany", Currency: "EUR"},
		{Code: "AQ", Name: "Antarctica"}, {Code: "US", Name: "United States", Currency: "USD"}}}
	for _, tc := range []struct {
		name, country, change string // country: of NEXUS_COUNTRY
		lists                 *nexus.Knows
		want                  nexus.Spec
	}{
		{"the country by its code", "", `{"country":"de"}`, &lists, nexus.Spec{Country: "Germany", Template: "DE"}},
		{"the country by its name", "", `{"country":"united states"}`, &lists, nexus.Spec{Country: "United States", Template: "US"}},
		{"its currency", "", `{"country":"DE","currency":"eur"}`, &lists, nexus.Spec{Country: "Germany", Currency: "EUR", Template: "DE"}},
		{"another currency", "", `{"country":"DE","currency":"CHF"}`, &lists, nexus.Spec{Country: "Germany", Currency: "CHF"}},
		{"a country without a currency", "", `{"country":"AQ","currency":"USD"}`, &lists, nexus.Spec{Country: "Antarctica", Currency: "USD"}},
		{"no country", "", `{"plan":"free"}`, &lists, nexus.Spec{}},
		{"no country, and a currency", "", `{"currency":"EUR"}`, &lists, nexus.Spec{Currency: "EUR"}},
		{"the default", "DE", `{"plan":"free"}`, &lists, nexus.Spec{Country: "Germany", Template: "DE"}},
		{"the default, and another currency", "DE", `{"currency":"USD"}`, &lists, nexus.Spec{Country: "Germany", Currency: "USD"}},
		{"another one than the default", "DE", `{"country":"US"}`, &lists, nexus.Spec{Country: "United States", Template: "US"}},
		{"an empty one", "DE", `{"country":" "}`, &lists, nexus.Spec{Country: "Germany", Template: "DE"}},
		{"no lists", "", `{"country":"DE","currency":"EUR"}`, nil, nexus.Spec{Country: "DE", Currency: "EUR"}},
		{"no lists, and the default", "DE", `{"plan":"free"}`, nil, nexus.Spec{Country: "DE"}},
		{"an abbreviation", "", `{"country":"US","abbreviation":" ACME "}`, &lists, nexus.Spec{Country: "United States", Template: "US", Abbreviation: "ACME"}},
		{"an empty abbreviation", "", `{"country":"US","abbreviation":""}`, &lists, nexus.Spec{Country: "United States", Template: "US"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(o *api.Options) { o.Country = tc.country })
			if tc.lists != nil {
				s.tells(*tc.lists)
			}
			for _, path := range []string{"/signup", "/tenants"} {
				site := map[string]string{"/signup": "one", "/tenants": "two"}[path]
				status, _, body := s.ask("POST", path, signupBody(strings.Replace(tc.change, "{", `{"subdomain":"`+site+`",`, 1)), bearer(operator)...)
				spec := s.spec(body)
				got := nexus.Spec{Country: spec.Country, Currency: spec.Currency, Template: spec.Template, Abbreviation: spec.Abbreviation}
				if diff := cmp.Diff(tc.want, got); diff != "" || status != http.StatusAccepted {
					t.Errorf("%s: %d %v %s", path, status, body, diff)
				}
			}
		})
	}
}

// TestDefaultCountryIsNotInTheRequest: a repeated call gets the same job when the operator has
// changed the default meanwhile.
func TestDefaultCountryIsNotInTheRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Country = "KR" })
	s.tells(korea())
	key := []string{"Idempotency-Key", "the-same"}
	_, _, first := s.ask("POST", "/signup", signupBody(""), key...)
	if spec := s.spec(first); spec.Template != "KR" {
		t.Fatalf("%v, recorded %+v", first, spec)
	}
	later := newServer(t, func(o *api.Options) { o.Store, o.Keys = s.store, s.keys })
	if status, _, again := later.ask("POST", "/signup", signupBody(""), key...); status != http.StatusAccepted || again["jobId"] != first["jobId"] {
		t.Errorf("%d %v", status, again)
	}
	if status, _, other := later.ask("POST", "/signup", signupBody(`{"abbreviation":"ACME"}`), key...); status != http.StatusUnprocessableEntity {
		t.Errorf("with an abbreviation it is another call: %d %v", status, other)
	}
}
