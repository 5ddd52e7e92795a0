package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestProvisionSendsFlags: each flag of the signup is sent if it is given, also if it is empty,
// and no other.
func TestProvisionSendsFlags(t *testing.T) {
	t.Parallel()
	var sent map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = nil
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"status":400,"title":"Bad Request","type":"x","code":"invalid","detail":"No.","requestId":"x"}`)
	}))
	defer server.Close()
	for _, tc := range []struct {
		flags []string
		want  map[string]any // besides the arguments
	}{
		{nil, nil},
		{[]string{"--abbreviation", "ACME"}, map[string]any{"abbreviation": "ACME"}},
		{[]string{"--abbreviation="}, map[string]any{"abbreviation": ""}},
		{[]string{"--country", "DE", "--language", "de", "--currency", "EUR", "--timezone", "Europe/Berlin", "--plan", "starter"},
			map[string]any{"country": "DE", "language": "de", "currency": "EUR", "timezone": "Europe/Berlin", "plan": "starter"}},
	} {
		root := rootCommand()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{"provision", "--server", server.URL, "acme", "jane@acme.com", "Jane Doe", "Passw0rdXyz", "Acme Inc."}, tc.flags...))
		if err := root.ExecuteContext(t.Context()); exitCode(err) != exitFailed {
			t.Errorf("%q: %v", tc.flags, err)
		}
		want := map[string]any{"subdomain": "acme", "email": "jane@acme.com", "fullName": "Jane Doe", "password": "Passw0rdXyz", "organizationName": "Acme Inc."}
		for name, value := range tc.want {
			want[name] = value
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("%q: %s", tc.flags, diff)
		}
	}
}
