package app_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// settings reads a .env as a shell would; all: also the defaults, which are comments.
func settings(text []byte, all bool) (out []string) {
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		bare, commented := strings.CutPrefix(name, "#")
		if ok && !strings.Contains(bare, " ") && (all || !commented) {
			out = append(out, bare+"="+value)
		}
	}
	return out
}

// TestDotenv: every setting is in the file with a text, and Load accepts the file, also
// with every default set.
func TestDotenv(t *testing.T) {
	t.Parallel()
	_, keys := nexus.NewKeyring()
	text := app.Dotenv(map[string]nexus.Secret{"NEXUS_SECRET_KEYS": keys, "NEXUS_TOKENS": "admin:operate:0123456789abcdef"})
	for field := range reflect.TypeFor[app.Config]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); !strings.Contains(string(text), "\n#"+name+"=") && !strings.Contains(string(text), "\n"+name+"=") {
			t.Errorf("%s is missing", name)
		}
	}
	for _, s := range app.Settings() {
		if s.Text == "" {
			t.Errorf("%s: no word on what it is (meanings in dotenv.go)", s.Name)
		}
	}
	want, _, err := app.Load([]string{"NEXUS_SECRET_KEYS=" + keys.Reveal(), "NEXUS_TOKENS=admin:operate:0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range []bool{false, true} {
		got, warnings, err := app.Load(settings(text, all))
		if err != nil || warnings != nil {
			t.Fatalf("with all defaults set (%t): %v, warned %q", all, err, warnings)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with all defaults set (%t) it is not what an empty environment is:\n%s", all, diff)
		}
	}
	if n := len(settings(text, false)); n != 2 {
		t.Errorf("%d settings are active, want the 2 given", n)
	}
}
