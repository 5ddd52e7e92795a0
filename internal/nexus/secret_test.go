package nexus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const canary = "hunter2-canary"

// holder is a struct with a secret among other fields, as the product has them.
type holder struct {
	Name   string
	Secret nexus.Secret
	List   []nexus.Secret
	Map    map[string]nexus.Secret
	Any    any
	Inner  struct{ Secret nexus.Secret }
}

// printers are all ways in which a value may be printed.
var printers = []struct {
	name  string
	print func(any) string
}{
	{"%v", func(v any) string { return fmt.Sprintf("%v", v) }},
	{"%+v", func(v any) string { return fmt.Sprintf("%+v", v) }},
	{"%#v", func(v any) string { return fmt.Sprintf("%#v", v) }},
	{"%s", func(v any) string { return fmt.Sprintf("%s", v) }},
	{"%q", func(v any) string { return fmt.Sprintf("%q", v) }},
	{"%x", func(v any) string { return fmt.Sprintf("%x", v) }},
	{"%d", func(v any) string { return fmt.Sprintf("%"+"d", v) }}, // a wrong verb, which vet would report in a constant format
	{"no verb", func(v any) string { return fmt.Sprintf(strings.Repeat("x", 1), v) }},
	{"Sprint", func(v any) string { return fmt.Sprint(v) }},
	{"error", func(v any) string { return fmt.Errorf("%w: %v", errors.New("no"), v).Error() }},
	{"json", func(v any) string {
		text, err := json.Marshal(v)
		return fmt.Sprint(string(text), err)
	}},
	{"slog text", func(v any) string {
		return logged(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }, v)
	}},
	{"slog json", func(v any) string {
		return logged(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }, v)
	}},
}

// logged returns a log line with the value as an attribute, in a group and in the context.
func logged(handler func(*bytes.Buffer) slog.Handler, v any) string {
	var out bytes.Buffer
	log := slog.New(nexus.LogHandler(handler(&out))).With("with", v)
	ctx := nexus.WithLog(context.Background(), slog.Any("context", v))
	log.InfoContext(ctx, "said", "value", v, slog.Group("group", "value", v))
	return out.String()
}

func TestSecretHides(t *testing.T) {
	t.Parallel()
	const secret nexus.Secret = canary
	holding := holder{Name: "n", Secret: secret, List: []nexus.Secret{secret}, Map: map[string]nexus.Secret{"k": secret}, Any: secret}
	holding.Inner.Secret = secret
	for _, p := range printers {
		for _, tc := range []struct {
			name  string
			value any
		}{
			{"alone", secret},
			{"in a struct", holding},
			{"behind a pointer", &holding},
			{"in a slice", []nexus.Secret{secret}},
			{"in a map", map[string]any{"k": secret}},
			{"among arguments", nexus.EnsureUser{Email: "e", Password: secret}},
			{"in an error", &nexus.Error{Code: nexus.Internal, Op: "op", Msg: fmt.Sprint(secret), Err: fmt.Errorf("with %s", secret)}},
		} {
			t.Run(p.name+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				text := p.print(tc.value)
				if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
					t.Errorf("printed as %s", text)
				}
			})
		}
	}
}

func TestSecretPrints(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, format string
		secret       nexus.Secret
		want         string
	}{
		{"value", "%v", canary, "***"},
		{"value with names", "%+v", canary, "***"},
		{"text", "%s", canary, "***"},
		{"quoted", "%q", canary, `"***"`},
		{"empty", "%s", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := fmt.Sprintf(tc.format, tc.secret); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
	const secret nexus.Secret = canary
	if secret.Reveal() != canary {
		t.Error("Reveal does not give the text")
	}
	if text, err := xml.Marshal(holder{Secret: secret}.Secret); err != nil || string(text) != "<Secret>***</Secret>" {
		t.Errorf("xml: %s, %v", text, err)
	}
	var read struct{ S nexus.Secret }
	if err := json.Unmarshal([]byte(`{"S":"`+canary+`"}`), &read); err != nil || read.S != canary {
		t.Errorf("read as %q, %v", read.S.Reveal(), err)
	}
}

// TestArgsSecrets: secrets of arguments are only in the map, never in the JSON.
func TestArgsSecrets(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name nexus.OpName
		args nexus.Args
		want string // the keys, sorted
	}{
		{"hello", nexus.Hello{}, "map[]"},
		{"inventory", nexus.Inventory{}, "map[]"},
		{"new_site", nexus.NewSite{AdminPassword: canary}, "map[admin_password:***]"},
		{"install_app", nexus.InstallApp{App: "erpnext"}, "map[]"},
		{"set_up", nexus.SetUp{Country: "DE", Chart: "SKR04"}, "map[]"},
		{"freeze", nexus.Freeze{}, "map[]"},
		{"clone", nexus.Clone{AdminPassword: canary}, "map[admin_password:***]"},
		{"company", nexus.Company{Name: "Acme", Abbr: "A"}, "map[]"},
		{"drop_site", nexus.DropSite{}, "map[]"},
		{"ensure_user", nexus.EnsureUser{Password: canary}, "map[password:***]"},
		{"apply_plan", nexus.ApplyPlan{}, "map[]"},
		{"issue_key", nexus.IssueKey{Key: canary, Secret: canary}, "map[api_key:*** api_secret:***]"},
		{"inspect", nexus.Inspect{}, "map[]"},
		{"stop", nexus.Stop{}, "map[]"},
		{"mark", nexus.Mark{}, "map[]"},
		{"adopt", nexus.Adopt{}, "map[]"},
		{"disown", nexus.Disown{}, "map[]"},
		{"init", nexus.Init{RootPassword: canary, Password: canary}, "map[account_password:*** root_password:***]"},
		{"verify", nexus.Verify{Key: canary, Secret: canary}, "map[api_key:*** api_secret:***]"},
	} {
		t.Run(string(tc.name), func(t *testing.T) {
			t.Parallel()
			if got := fmt.Sprint(tc.args.Secrets()); tc.args.Op() != tc.name || got != tc.want {
				t.Errorf("%s holds %s, want %s", tc.args.Op(), got, tc.want)
			}
			if text, err := json.Marshal(tc.args); err != nil || strings.Contains(string(text), "***") {
				t.Errorf("a secret's place is in %s, %v", text, err)
			}
		})
	}
}

func TestLogHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(nexus.LogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})))
	plain := context.Background()
	job := nexus.WithLog(plain, slog.String(nexus.LogJob, "j1"), slog.String(nexus.LogKind, "provision"), slog.Int(nexus.LogGen, 7))
	site := nexus.WithLog(job, slog.String(nexus.LogStep, "site"))
	apps := nexus.WithLog(job, slog.String(nexus.LogStep, "apps"))
	for _, tc := range []struct {
		name string
		ctx  context.Context
		log  *slog.Logger
		want string
	}{
		{"nothing in the context", plain, log, "msg=said own=1\n"},
		{"a job", job, log, "msg=said own=1 job=j1 kind=provision gen=7\n"},
		{"a step of it", site, log, "msg=said own=1 job=j1 kind=provision gen=7 step=site\n"},
		{"its sibling", apps, log, "msg=said own=1 job=j1 kind=provision gen=7 step=apps\n"},
		{"a logger with attributes", job, log.With("host", "h"), "msg=said host=h own=1 job=j1 kind=provision gen=7\n"},
		{"below its level", job, slog.New(nexus.LogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))), ""},
	} {
		out.Reset() // not in parallel: they share the buffer
		tc.log.InfoContext(tc.ctx, "said", "own", 1)
		if out.String() != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, out.String(), tc.want)
		}
	}
	out.Reset()
	log.WithGroup("g").InfoContext(job, "said")
	if !strings.Contains(out.String(), "job=j1") {
		t.Errorf("in a group: %s", out.String())
	}
}
