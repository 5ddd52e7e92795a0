package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// trial is one run of nexus test-provisioning.
type trial struct {
	out     io.Writer
	c       *client.Client
	server  string
	addr    string // host:port at which sites are called; empty: at their own address
	keep    bool
	email   string
	name    string                                   // of the site, before the domain
	failure string                                   // the first one
	print   func(passed bool, seconds float64) error // prints the JSON; nil: no JSON
}

// tried is the JSON of nexus test-provisioning.
type tried struct {
	Passed    bool    `json:"passed"`
	Subdomain string  `json:"subdomain"`
	Failure   string  `json:"failure,omitempty"`
	Seconds   float64 `json:"seconds"`
}

func testCommand(s *shared) *cobra.Command {
	var here, verbose bool
	t := &trial{}
	cmd := &cobra.Command{
		Use:   "test-provisioning",
		Short: "Make a site, check it, and remove it again",
		Long: `Makes a site test-…, checks every field of the answer and what the key allows,
removes the site, and checks that its name is free again.

The removal needs a token with the scope operate in NEXUS_API_TOKEN. With --keep the
site stays, and the command that removes it is printed. With --local nothing is
needed: everything runs in this process, on the sandbox.

The site is called at its own address (*.localhost on this machine), or at
NEXUS_VERIFY_ADDR (host:port) with its name in the Host header.

Exit codes: 0 passed; 1 failed; 2 called wrongly; 3 no answer from the API.`,
		Example: `  nexus test-provisioning --local
  NEXUS_API_TOKEN=… nexus test-provisioning
  nexus test-provisioning --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, log := cmd.Context(), io.Discard
			t.out, t.name = cmd.OutOrStdout(), "test-"+freshToken()[:6]
			if s.asJSON() {
				t.out, t.print = cmd.ErrOrStderr(), func(passed bool, seconds float64) error {
					return s.json(cmd.Context(), cmd.OutOrStdout(), tried{passed, t.name, t.failure, seconds})
				}
			}
			t.email = tagged(t.email, strings.TrimPrefix(t.name, "test-"))
			if verbose {
				log = cmd.ErrOrStderr()
			}
			if here && t.keep {
				return usage("--keep does not go with --local, which keeps nothing.")
			}
			if here {
				return onSandbox(ctx, log, func(c *client.Client) error {
					t.c, t.server = c, "the sandbox in this process"
					return t.run(ctx)
				})
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			defer c.Close()
			t.c, t.server, t.addr = c, s.server, os.Getenv("NEXUS_VERIFY_ADDR")
			return t.run(ctx)
		},
	}
	cmd.Flags().BoolVar(&t.keep, "keep", false, "do not remove the site")
	cmd.Flags().BoolVar(&here, "local", false, "run everything in this process, on the sandbox; nothing is kept")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "with --local: print the log too")
	cmd.Flags().StringVar(&t.email, "email", "test@example.com", "the admin's address; a tag is added (test+1a2b3c@example.com)")
	return cmd
}

// tagged makes a new e-mail address, so that the rate limit for one address is not reached.
func tagged(email, tag string) string {
	local, domain, _ := strings.Cut(email, "@")
	mark := "+"
	if strings.Contains(local, "+") {
		mark = "-"
	}
	return local + mark + tag + "@" + domain
}

func (t *trial) run(ctx context.Context) error {
	began := time.Now()
	fmt.Fprintf(t.out, "Provisioning test of %s\n", t.server)
	if !t.keep { // check the token first, since the site must be removed
		if _, err := t.c.Tenants(ctx, "", "", 1); err != nil {
			if code := nexus.CodeOf(err); code == nexus.Unauthenticated || code == nexus.Forbidden {
				err = fmt.Errorf("%w\n  Or do not remove the site: --keep", explain(err))
			}
			return err
		}
	}
	a, ok := t.make(ctx)
	if ok {
		t.inspect(ctx, a)
		t.remove(ctx, a)
	}
	seconds := time.Since(began).Seconds()
	if t.print != nil {
		if err := t.print(t.failure == "", seconds); err != nil {
			return err
		}
	}
	if t.failure != "" {
		fmt.Fprintf(t.out, "\n❌ PROVISIONING TEST FAILED (%.1f s)\n   %s\n", seconds, t.failure)
		return exit(exitFailed)
	}
	fmt.Fprintf(t.out, "\n✅ PROVISIONING TEST PASSED (%.1f s)\n", seconds)
	return nil
}

// result prints a line of the checklist.
func (t *trial) result(what string, err error) bool {
	if err == nil {
		fmt.Fprintf(t.out, "  ✓ %s\n", what)
		return true
	}
	r := refuse(err)
	fmt.Fprintf(t.out, "  ✗ %s: %s\n", what, join(r.Message, r.Action))
	if t.failure == "" {
		t.failure = what + ": " + r.Message
	}
	return false
}

func (t *trial) make(ctx context.Context) (answer, bool) {
	fmt.Fprintf(t.out, "\n1. Make %s for %s\n", t.name, t.email)
	body := gen.SignupRequest{Email: t.email, Password: freshPassword(), FullName: "Test User", OrganizationName: "Test Organization", Subdomain: &t.name}
	pair, err := provision(ctx, t.c, body, freshToken(), t.out)
	if err == nil {
		return made(pair), true
	}
	if stop, ok := errors.AsType[interrupted](err); ok && stop.job != "" {
		err = interrupted{job: stop.job, again: "Stop it with: nexus jobs cancel " + stop.job}
	}
	t.result("the site is made", err)
	if _, ended := errors.AsType[failedJob](err); ended {
		t.result("nothing is left: the name is free", t.free(ctx))
	}
	return answer{}, false
}

var hex64 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// inspect checks each field of the answer, and calls the site.
func (t *trial) inspect(ctx context.Context, a answer) {
	fmt.Fprintf(t.out, "\n2. Check the answer\n")
	t.result("success is true", unless(a.Success, "it is false"))
	t.result("site is "+a.Site, unless(strings.HasPrefix(a.Site, t.name+"."), "it is not "+t.name+" and the domain"))
	u, err := url.Parse(a.URL)
	t.result("url is "+a.URL, unless(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), "it is no URL"))
	t.result("apiKey is 64 hex digits", unless(hex64.MatchString(a.APIKey), "it is not"))
	t.result("apiSecret is 64 hex digits", unless(hex64.MatchString(a.APISecret), "it is not"))
	site := newSite(a, t.addr)
	defer site.close()
	for _, c := range site.checks(t.email) {
		t.result(c.what, c.run(ctx))
	}
}

func unless(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

// remove prints how to remove the site, and removes it unless keep is set.
func (t *trial) remove(ctx context.Context, a answer) {
	fmt.Fprintf(t.out, "\n3. Remove it\n  By hand, either of these commands removes it:\n    nexus tenants rm %s --now --yes\n", a.Site)
	fmt.Fprintf(t.out, "    curl -X DELETE -H \"Authorization: Bearer $NEXUS_API_TOKEN\" \"%s/tenants/%s?purge=now\"\n", t.base(), a.Site)
	if t.keep {
		fmt.Fprintf(t.out, "  It is not removed (--keep).\n")
		return
	}
	job, err := t.c.Delete(ctx, a.Site, true)
	if err == nil {
		_, err = finish(ctx, t.c, job.Id, t.out)
	}
	if t.result("it is removed", err) {
		t.result("its name is free again", t.free(ctx))
	}
}

func (t *trial) base() string {
	if strings.Contains(t.server, "://") {
		return strings.TrimSuffix(t.server, "/")
	}
	return "$NEXUS_API_URL"
}

func (t *trial) free(ctx context.Context) error {
	name, err := t.c.Subdomain(ctx, t.name)
	if err == nil && !name.Available {
		err = &nexus.Error{Code: nexus.Conflict, Op: "trial", Msg: value(name.Reason)}
	}
	return err
}
