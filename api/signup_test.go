package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

var fixed = time.Unix(1_790_000_000, 0)

func TestSignupRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, row := range []struct {
		name, change string
		fields       string // refused, in order
	}{
		{"all at once", `{"email":"x","password":"short","fullName":"","organizationName":"<b>"}`, "email password fullName organizationName"},
		{"display name", `{"email":"Jane <jane@example.com>"}`, "email"},
		{"two addresses", `{"email":"a@example.com,b@example.com"}`, "email"},
		{"control character", `{"email":"jane\u0000@example.com"}`, "email"},
		{"address that Frappe has no room for", `{"email":"` + strings.Repeat("a", 60) + "@" + strings.Repeat("b", 60) + "." + strings.Repeat("c", 15) + `.com"}`, "email"},
		{"names that grow where Frappe keeps them", `{"fullName":"` + strings.Repeat("&", 30) + `x","organizationName":"` + strings.Repeat("&", 30) + `x"}`, "fullName organizationName"},
		{"long local part", `{"email":"` + strings.Repeat("a", 65) + `@example.com"}`, "email"},
		{"no dot in the domain", `{"email":"jane@host"}`, "email"},
		{"password is the address", `{"email":"Passw0rd@example.com","password":"pAssw0rd"}`, "password"},
		{"password is the company", `{"password":"Acme2000","organizationName":"ACME2000"}`, "password"},
		{"password without capital", `{"password":"passw0rdxyz"}`, "password"},
		{"password with a tab", `{"password":"Passw0rd\txyz"}`, "password"},
		{"password too long", `{"password":"Aa1` + strings.Repeat("x", 126) + `"}`, "password"},
		{"bidi override", `{"fullName":"Jane \u202eeoD"}`, "fullName"},
		{"long company", `{"organizationName":"` + strings.Repeat("x", 141) + `"}`, "organizationName"},
		{"nothing to make an address of", `{"organizationName":"1"}`, ""},
		{"subdomain reserved", `{"subdomain":"admin"}`, "subdomain"},
		{"subdomain punycode", `{"subdomain":"xn--abc"}`, "subdomain"},
		{"subdomain double hyphen", `{"subdomain":"a--b"}`, "subdomain"},
		{"operator's plan", `{"plan":"enterprise"}`, "plan"},
		{"zone, language, currency", `{"timezone":"Mars/Base","language":"english","currency":"euro"}`, "language timezone currency"},
		{"abbreviation of two words", `{"abbreviation":"A C"}`, "abbreviation"},
		{"abbreviation with a hyphen", `{"abbreviation":"A-C"}`, "abbreviation"},
		{"abbreviation of markup", `{"abbreviation":"<b>"}`, "abbreviation"},
		{"long abbreviation", `{"abbreviation":"ABCDEFGHIJK"}`, "abbreviation"},
		{"abbreviation that is no text", `{"abbreviation":5}`, "abbreviation"},
		{"unknown field", `{"admin":true}`, "admin"},
		{"wrong type", `{"fullName":7}`, "fullName"},
		{"letters of all kinds", `{"fullName":"Zoë D'Arcy-O’Neill, Jr.","organizationName":"東京 & Søn ApS"}`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _, body := s.ask("POST", "/signup", signupBody(row.change))
			var got []string
			list, _ := body["errors"].([]any)
			for _, each := range list {
				e := each.(map[string]any)
				got = append(got, e["field"].(string))
				if text := e["message"].(string); len(text) < 15 || !strings.HasSuffix(text, ".") {
					t.Errorf("not a sentence for people: %q", text)
				}
			}
			want := http.StatusBadRequest
			if row.fields == "" {
				want = http.StatusAccepted
			}
			if status != want || strings.Join(got, " ") != row.fields {
				t.Errorf("status %d, refused %v: %v", status, got, body)
			}
		})
	}
}

func TestSubdomains(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for organization, want := range map[string]string{
		"Müller": "mueller", "東京": "dong-jing", "3M": "3m-co", "Admin": "admin-co", "O'Neill & Sons, S.A.": "oneill-and-sons-sa",
		"  --Acme--  ": "acme", "ООО Ромашка": "ooo-romashka", strings.Repeat("long ", 20): "long-long-long-long-long-long-long-long",
	} {
		status, _, body := s.ask("POST", "/signup", signupBody(`{"organizationName":"`+organization+`"}`))
		if status != http.StatusAccepted || body["site"] != want+".example.com" {
			t.Errorf("%q: %d %v, want %s", organization, status, body["site"], want)
		}
	}
	// A derived name that is taken gets a suffix; a name that was asked for is refused.
	if _, _, body := s.ask("POST", "/signup", signupBody(`{"organizationName":"Müller"}`)); body["site"] != "mueller-2.example.com" {
		t.Errorf("the second Müller is %v", body["site"])
	}
	status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"mueller"}`))
	if status != http.StatusConflict || body["suggestion"] != "mueller-3" {
		t.Errorf("asked for a taken one: %d %v", status, body)
	}
	for name, free := range map[string]bool{"mueller": false, "MUELLER": false, "fresh": true, "www": false, "a": false, "%2e%2e": false} {
		if status, _, body := s.ask("GET", "/subdomains/"+name, ""); status != 200 || body["available"] != free {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
}

func TestReplayAnswersTheSame(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, first := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k")
	_, _, again := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "k")
	if first["jobId"] != again["jobId"] || first["claimToken"] != again["claimToken"] || first["site"] != again["site"] {
		t.Errorf("%v\n%v", first, again)
	}
	_, _, other := s.ask("POST", "/signup", signupBody(`{"email":"joe@example.com"}`), "Idempotency-Key", "k")
	if other["jobId"] == first["jobId"] {
		t.Error("a stranger's key found my job")
	}
}

func TestWaitedSignup(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"good"}`), "Idempotency-Key", "good")
	s.finish(job["jobId"].(string), nexus.Succeeded)
	for range 2 {
		status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"good"}`), "Idempotency-Key", "good", "Prefer", "wait=1")
		if status != 201 || body["apiKey"] != "the-key" || body["apiSecret"] != "the-secret" || body["url"] != "https://good.example.com" {
			t.Fatalf("%d %v", status, body)
		}
	}
	_, _, job = s.ask("POST", "/signup", signupBody(`{"subdomain":"bad"}`), "Idempotency-Key", "bad")
	s.finish(job["jobId"].(string), nexus.Failed)
	status, _, body := s.ask("POST", "/signup", signupBody(`{"subdomain":"bad"}`), "Idempotency-Key", "bad", "Prefer", "wait=1")
	if status != 500 || body["code"] != "not_found" || body["jobId"] != job["jobId"] || !strings.Contains(body["detail"].(string), "The app is not there.") {
		t.Fatalf("%d %v", status, body)
	}
}

func TestSignupModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string][3]int{"open": {202, 202, 403}, "token": {401, 202, 403}, "closed": {403, 403, 403}} {
		s := newServer(t, func(o *api.Options) { o.Signup = mode })
		for i, headers := range [][]string{nil, bearer(signer), bearer(reader)} {
			if status, _, _ := s.ask("POST", "/signup", signupBody(""), headers...); status != want[i] {
				t.Errorf("%s, caller %d: %d, want %d", mode, i, status, want[i])
			}
		}
	}
}

// TestNoSecretLeaves looks for secrets in everything that is stored, logged or answered.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(`{"password":"Canary77Password"}`), append(bearer(signer), "Idempotency-Key", "canary-key")...)
	claim := job["claimToken"].(string)
	s.ask("POST", "/signup", signupBody(`{"password":"canary77"}`))
	s.finish(job["jobId"].(string), nexus.Succeeded)
	s.ask("POST", "/jobs/"+job["jobId"].(string)+"/credentials", "{}", append(bearer(claim), "Idempotency-Key", "bind-canary")...)
	kept := s.log.String() + s.redis.Dump()
	for _, canary := range []string{"Canary77Password", "canary77", signer, claim, "the-secret", "bind-canary"} {
		if strings.Contains(kept, canary) {
			t.Errorf("%s is kept or logged in clear text", canary)
		}
	}
}

// TestIdempotencyKeyTellsNobody: no name of a key in Redis contains an e-mail, and an
// idempotency key that was stored in clear, or under an older sealing key, still counts.
func TestIdempotencyKeyTellsNobody(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, first := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "my-own-key")
	hashed := ""
	for _, name := range s.redis.Keys() {
		if strings.Contains(name, "jane") || strings.Contains(name, "my-own-key") {
			t.Errorf("%s says who signed up, with what key", name)
		}
		if strings.HasPrefix(name, "{nexus}:idem:") {
			hashed = name
		}
	}
	if _, _, again := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "my-own-key"); again["jobId"] != first["jobId"] {
		t.Error("the same key made another job")
	}
	if err := s.rdb.Rename(t.Context(), hashed, "{nexus}:idem:jane@example.com/my-own-key").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, again := s.ask("POST", "/signup", signupBody(""), "Idempotency-Key", "my-own-key"); again["jobId"] != first["jobId"] {
		t.Error("a key that a former version stored was not found")
	}
	if status, _, _ := s.ask("POST", "/signup", signupBody(`{"fullName":"Joe"}`), "Idempotency-Key", "my-own-key"); status != 422 {
		t.Errorf("another request under a key that a former version stored: %d", status)
	}
}
