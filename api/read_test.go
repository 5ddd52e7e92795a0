package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/api"
)

// latin1 is a signup in ISO 8859-1.
func latin1() string {
	return strings.ReplaceAll(signupBody(`{"password":"Passw0rd#yz"}`), "#", "\xfc")
}

// TestUnreadableIsRefused: a request with characters that cannot be decoded is refused. A
// password with a replaced character would never work.
func TestUnreadableIsRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, body string
		headers    []string
		status     int
		says       string
	}{
		{"a password in Latin-1", latin1(), nil, 400, "UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", nil, 400, "UTF-8"},
		{"another charset declared", signupBody(""), []string{"Content-Type", "application/json; charset=iso-8859-1"}, 415, "application/json"},
		{"UTF-8 declared", signupBody(""), []string{"Content-Type", "application/json; charset=UTF-8"}, 202, ""},
		{"a form", "email=jane%40example.com", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"half a surrogate pair", signupBodyRaw(`"password":"Passw0rd\ud83d"`), nil, 400, "half a character"},
		{"the other half", signupBodyRaw(`"password":"Passw0rd\uDE00x"`), nil, 400, "half a character"},
		{"halves in the wrong order", signupBodyRaw(`"password":"Passw0rd\ude00\ud83d"`), nil, 400, "half a character"},
		{"a whole pair", signupBodyRaw(`"password":"Passw0rd\ud83d\ude00"`), nil, 202, ""},
		{"a backslash before a u", signupBodyRaw(`"password":"Passw0rd\\ud83d"`), nil, 202, ""},
		{"a replacement character", signupBodyRaw(`"password":"Passw0rd\ufffd"`), nil, 400, "fields named below"},
		{"a replacement character in a name", signupBodyRaw(`"fullName":"J\ufffdrgen"`), nil, 400, "fields named below"},
		{"NUL in a name", signupBodyRaw(`"fullName":"Jane\u0000Doe"`), nil, 400, "fields named below"},
		{"a line break in a country", signupBodyRaw(`"country":"Ger\nmany"`), nil, 400, "fields named below"},
		{"two passwords", signupBodyRaw(`"password":"Passw0rdXyz","password":"Passw0rdAbc"`), nil, 400, "comes twice"},
		{"a name in capitals", signupBodyRaw(`"Plan":"starter"`), nil, 400, "no field Plan"},
		{"no object", "null", nil, 400, "one JSON object"},
		{"a key in UTF-8", signupBody(""), []string{"Idempotency-Key", "schlüssel"}, 400, "Idempotency-Key"},
		{"a key in Latin-1", signupBody(""), []string{"Idempotency-Key", "schl\xfcssel"}, 400, "Idempotency-Key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			status, _, body := s.ask("POST", "/signup", row.body, row.headers...)
			detail, _ := body["detail"].(string)
			if status != row.status || !strings.Contains(detail, row.says) {
				t.Errorf("%d %v", status, body)
			}
			if keys := s.redis.Keys(); status != http.StatusAccepted && len(keys) > 0 {
				t.Errorf("refused, and stored: %v", keys)
			}
		})
	}
}

// signupBodyRaw is the JSON of a signup with another password or one more field.
func signupBodyRaw(field string) string {
	body := signupBody("")
	if name, _, _ := strings.Cut(field, ":"); strings.Contains(body, name) {
		for part := range strings.SplitSeq(strings.Trim(body, "{}"), ",") {
			if strings.HasPrefix(part, name+":") {
				return strings.Replace(body, part, field, 1)
			}
		}
	}
	return strings.TrimSuffix(body, "}") + "," + field + "}"
}

func TestAddressesAreReadAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	op := bearer(operator)
	for _, row := range []struct {
		name, call string
		headers    []string
		status     int
		says       string
	}{
		{"no token comes before a malformed name", "GET /tenants/a%25", nil, 401, "Authorization"},
		{"no token comes before a malformed parameter", "GET /jobs?limit=x", nil, 401, "Authorization"},
		{"a percent sign is part of the name", "GET /tenants/a%25", op, 404, "no tenant"},
		{"a name is unescaped once", "GET /tenants/a%2565", op, 404, "a%65"},
		{"a path in Latin-1", "GET /subdomains/m%fcller", nil, 400, "UTF-8"},
		{"a query in Latin-1", "GET /jobs?cursor=%fc", op, 400, "UTF-8"},
		{"a query that is not escaped", "GET /jobs?state=%zz", op, 400, "percent-encoded"},
		{"a query cut by a semicolon", "GET /jobs?state=failed;kind=adopt", op, 400, "&"},
		{"a parameter nobody knows", "GET /jobs?status=failed", op, 400, "state, kind, cursor, limit"},
		{"a misspelled purge", "DELETE /tenants/a.example.com?purged=now", op, 400, "purge"},
		{"a parameter where there are none", "POST /signup?plan=free", nil, 400, "takes none"},
		{"a parameter twice", "GET /jobs?state=failed&state=running", op, 400, "parameter"},
		{"a kind nobody knows", "GET /jobs?kind=bogus", op, 400, "kind"},
	} {
		t.Run(row.name, func(t *testing.T) {
			method, path, _ := strings.Cut(row.call, " ")
			status, _, body := s.ask(method, path, "", row.headers...)
			if detail, _ := body["detail"].(string); status != row.status || !strings.Contains(detail, row.says) {
				t.Errorf("%d %v", status, body)
			}
		})
	}
	_, _, body := s.ask("GET", "/jobs?kind=bogus", "", op...)
	if list, _ := body["errors"].([]any); len(list) != 1 || list[0].(map[string]any)["field"] != "kind" {
		t.Errorf("blamed: %v", body)
	}
}

// TestRulesOfRoutes compares the rules of the routes with the contract.
func TestRulesOfRoutes(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	rules := api.Routes()
	for path, item := range s.doc.Paths.Map() {
		for method, op := range item.Operations() {
			r, known := rules[method+" "+strings.NewReplacer("{", ":", "}", "").Replace(path)]
			var query []string
			for _, p := range append(item.Parameters, op.Parameters...) {
				if p.Value.In == "query" {
					query = append(query, p.Value.Name)
				}
			}
			token := op.Security != nil && len(*op.Security) == 1 && (*op.Security)[0]["token"] != nil
			if op.Tags[0] != "health" && !known || token != (r.Scope != "") || strings.Join(query, " ") != strings.Join(r.Query, " ") {
				t.Errorf("%s %s: the contract has the parameters %v and a token %t, the code %+v", method, path, query, token, r)
			}
		}
	}
}

func TestHeadWhereverGet(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	_, _, job := s.ask("POST", "/signup", signupBody(""))
	id := job["jobId"].(string)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.yaml", "/", "/ui/app.js", "/jobs", "/jobs/" + id, "/jobs/" + id + "/events",
		"/tenants", "/tenants/mueller-and-soehne.example.com", "/benches", "/subdomains/acme"} {
		get := 200
		if path == "/readyz" {
			get = 503
		}
		if status, header, body := s.text("HEAD", path, "", ""); status != get && status != 401 || header.Get("Content-Type") == "" || body != "" {
			t.Errorf("%s: %d %q", path, status, body)
		}
		if status, _, _ := s.ask("HEAD", path, "", bearer(reader)...); status != get {
			t.Errorf("%s with a token: %d", path, status)
		}
	}
}
