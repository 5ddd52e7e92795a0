package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// called runs a command on an API, and returns its outputs.
func called(ctx context.Context, api http.Handler, args ...string) (stdout, stderr string, err error) {
	server := httptest.NewServer(api)
	defer server.Close()
	var out, errs bytes.Buffer
	root := rootCommand()
	root.SetOut(&out)
	root.SetErr(&errs)
	at := 0
	if args[0] == cobra.ShellCompRequestCmd { // it completes the last argument
		at = 1
	}
	root.SetArgs(slices.Insert(args, at, "--server", server.URL))
	err = root.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

// codeOf is the exit code of a command with this error.
func codeOf(err error) int {
	if err == nil {
		return 0
	}
	return exitCode(err)
}

// TestHelp: the help of each command says what it does, and has an example that calls the
// command with valid arguments.
func TestHelp(t *testing.T) {
	t.Parallel()
	each(rootCommand(), func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no short description, or no example", cmd.CommandPath())
		}
		if own := cmd.CommandPath(); cmd.Runnable() && !strings.Contains(cmd.Example, own) {
			t.Errorf("no example of %s shows it", own)
		}
		if cmd.Parent() == cmd.Root() && cmd.GroupID == "" && cmd.Name() != "version" {
			t.Errorf("%s is in no group of nexus --help", cmd.CommandPath())
		}
	})
}

// TestHelpFits: help fits a terminal, except for the lines of flags and usage, which cobra
// writes.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	each(rootCommand(), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Long) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 84 {
				t.Errorf("%s: a line of its help has %d characters: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		want string // in the refusal; empty: accepted
	}{
		{"jobs", ""},
		{"jobs list", ""},
		{"jobs -o json list", ""},
		{"jobs --help", ""},
		{"jobs lst", `Did you mean "list"?`},
		{"tenants keys rotat", `Did you mean "rotate"?`},
		{"tenants nothing-like-it", `no command "nothing-like-it" in "nexus tenants"`},
	} {
		_, err := unknownCommand(rootCommand(), strings.Fields(tc.args))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.args, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v does not say %q", tc.args, err, tc.want)
		}
	}
}

func TestTagged(t *testing.T) {
	t.Parallel()
	got := []string{tagged("canary@example.com", "1a2b3c"), tagged("ops+canary@example.com", "1a2b3c")}
	if want := []string{"canary+1a2b3c@example.com", "ops+canary-1a2b3c@example.com"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestUnresolved: there is a hint for a name below localhost that this system does not
// resolve, and for no other name.
func TestUnresolved(t *testing.T) {
	t.Parallel()
	known := func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	unknown := func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	for _, tc := range []struct {
		site   string
		lookup func(context.Context, string) ([]string, error)
		says   bool
	}{{"acme.localhost", unknown, true}, {"acme.localhost", known, false}, {"acme.example.com", unknown, false}} {
		if got := unresolved(t.Context(), tc.site, tc.lookup); (got != "") != tc.says || tc.says && !strings.Contains(got, "libnss-myhostname") {
			t.Errorf("%s: %q", tc.site, got)
		}
	}
}

func TestShellPath(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{".env": "./.env", "x/.env": "./x/.env", "./a": "./a", "../a": "../a", "/etc/a": "/etc/a", "..a": "./..a"} {
		if got := shellPath(file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}

// TestAction: the hint names the setting of the server that did not answer.
func TestAction(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ op, want string }{
		{"client", "NEXUS_API_URL"},
		{"store.install", "REDIS_URL"},
		{"bench.docker", ""},
	} {
		got := refuse(&nexus.Error{Code: nexus.Unavailable, Op: tc.op, Msg: "away"}).Action
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.op, got, tc.want)
		}
	}
}
