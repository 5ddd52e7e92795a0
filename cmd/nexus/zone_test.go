package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
)

func TestZoneOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, env, link, want string }{
		{"by the link", "", "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"},
		{"by a link beside it", "", "../usr/share/zoneinfo/America/Argentina/Ushuaia", "America/Argentina/Ushuaia"},
		{"on macOS", "", "/var/db/timezone/zoneinfo/Asia/Seoul", "Asia/Seoul"},
		{"by TZ", "Asia/Tokyo", "/usr/share/zoneinfo/Europe/Berlin", "Asia/Tokyo"},
		{"by TZ with a colon", ":Asia/Tokyo", "", "Asia/Tokyo"},
		{"a rule", "CET-1CEST,M3.5.0,M10.5.0/3", "/usr/share/zoneinfo/Europe/Berlin", ""},
		{"a server on UTC", "", "/usr/share/zoneinfo/Etc/UTC", ""},
		{"no link", "", "", ""},
		{"a path", "/etc/passwd", "", ""},
	} {
		if got := zoneOf(tc.env, tc.link); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestZoneIsAsked: this machine's zone is sent. If the server refuses it, the request is
// repeated without a zone.
func TestZoneIsAsked(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, typed, guess string
		want               []string // the zones that were sent, in order
	}{
		{"guessed", "", "Europe/Berlin", []string{"Europe/Berlin"}},
		{"guessed, unknown there", "", "America/Coyhaique", []string{"America/Coyhaique", ""}},
		{"typed", "Asia/Seoul", "Europe/Berlin", []string{"Asia/Seoul"}},
		{"typed, unknown there", "America/Coyhaique", "Europe/Berlin", []string{"America/Coyhaique"}},
		{"neither", "", "", []string{""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body gen.SignupRequest
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				asked = append(asked, value(body.Timezone))
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusBadRequest)
				text := `{"status":400,"title":"Bad Request","type":"x","code":"invalid","detail":"No.","requestId":"x","errors":[{"field":"plan","message":"No."}]}`
				if value(body.Timezone) == "America/Coyhaique" {
					text = `{"status":400,"title":"Bad Request","type":"x","code":"invalid","detail":"No.","requestId":"x","errors":[{"field":"timezone","message":"No."}]}`
				}
				_, _ = w.Write([]byte(text))
			}))
			defer server.Close()
			c := client.New(server.URL, "")
			defer c.Close()
			p := &provisioning{shared: &shared{}, zone: tc.guess}
			if tc.typed != "" {
				p.body.Timezone = &tc.typed
			}
			cmd := &cobra.Command{}
			cmd.SetErr(&bytes.Buffer{})
			if err := p.make(t.Context(), cmd, c); err == nil || refusesZone(err) != (tc.typed == "America/Coyhaique") {
				t.Errorf("answered %v", err)
			}
			if !slices.Equal(asked, tc.want) {
				t.Errorf("asked for %q, want %q", asked, tc.want)
			}
		})
	}
}
