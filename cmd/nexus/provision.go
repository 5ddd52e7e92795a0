package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// provisioning is one call of nexus provision.
type provisioning struct {
	*shared
	body     gen.SignupRequest
	optional map[string]*string // flags that are sent only if they are given
	key      string
	zone     string // this machine's time zone, if no other is given
	stdin    bool
	local    bool
	verbose  bool
}

func provisionCommand(s *shared) *cobra.Command {
	p := &provisioning{shared: s, optional: map[string]*string{}}
	cmd := &cobra.Command{
		Use:         "provision <site> <e-mail> <full name> [<password>] <organization>",
		Annotations: map[string]string{answersJSON: ""},
		Short:       "Make a site and wait for its API key",
		Long: `Asks the API for a site, shows the progress on standard error, and prints one JSON
object on standard output, also if it fails:
  {"success": true, "site": …, "url": …, "apiKey": …, "apiSecret": …}
  {"success": false, "error": {"code": …, "message": …, "action": …}}

<site> is the part of the address before the domain. Instead of the arguments you
can give flags: --email, --name, --organization and, if you like, --subdomain.
Without --subdomain the address is made from the organization's name.

Leave the password out: it is asked for, or read as one line of standard input. As
an argument everybody on this machine can read it while the command runs (ps), and
it stays in the history of your shell.

With --local nothing else is needed: API, worker and sandbox run in this process,
and nothing is kept after it ends.

A token in NEXUS_API_TOKEN (scope signup or operate) is sent too. If the wait is
interrupted, the job goes on; the same command with the same --idempotency-key
continues the wait and prints the key.

Exit codes: 0 made; 1 failed or refused; 2 called wrongly; 3 no answer from the
API, or the wait was interrupted.`,
		Example: `  nexus provision test-manual test@test.com "Test User" "Test Org"
  nexus provision test-manual test@test.com "Test User" 'Test123!' "Test Org" --local
  pass show acme | nexus provision acme jane@acme.com "Jane Doe" "Acme Inc." --password-stdin
  nexus provision --email jane@acme.com --name "Jane Doe" --organization Acme --plan starter`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return p.fail(cmd, usage("%v", err)) })
	flags := cmd.Flags()
	flags.StringVar(&p.body.Email, "email", "", "e-mail address of the new admin")
	flags.StringVar(&p.body.FullName, "name", "", "full name of the new admin")
	flags.StringVar(&p.body.OrganizationName, "organization", "", "name of the company")
	for _, f := range [][2]string{{"subdomain", "the address before the domain"}, {"plan", "free, starter or business; enterprise with a token of the scope operate"},
		{"country", "country by its ISO code or name, such as DE (default: the operator's)"}, {"language", "language code, such as de"},
		{"timezone", "time zone, such as Europe/Berlin (default: on a terminal this machine's)"}, {"currency", "currency code, such as EUR"},
		{"abbreviation", "abbreviation of the company, in the names of its accounts (default: its initials)"}} {
		p.optional[f[0]] = flags.String(f[0], "", f[1])
	}
	_ = cmd.RegisterFlagCompletionFunc("plan", completePlan) // the flag exists
	flags.StringVar(&p.key, "idempotency-key", "", "repeat a call safely with the same key (default: a new one)")
	flags.BoolVar(&p.stdin, "password-stdin", false, "read the password as one line of standard input")
	flags.BoolVar(&p.local, "local", false, "run everything in this process, on the sandbox; nothing is kept")
	flags.BoolVar(&p.verbose, "verbose", false, "with --local: print the log too")
	return cmd
}

func (p *provisioning) run(cmd *cobra.Command, args []string) error {
	if err := p.read(cmd, args); err != nil {
		return p.fail(cmd, err)
	}
	progress, ctx := cmd.ErrOrStderr(), cmd.Context()
	if isTerminal(progress) { // else the machine is probably a server, in another zone than the customer
		p.zone = ownZone()
	}
	if p.local {
		err := onSandbox(ctx, p.logTo(progress), func(c *client.Client) error { return p.make(ctx, cmd, c) })
		return p.fail(cmd, err)
	}
	c, err := p.client()
	if err != nil {
		return p.fail(cmd, err)
	}
	defer c.Close()
	return p.fail(cmd, p.make(ctx, cmd, c))
}

func (p *provisioning) logTo(progress io.Writer) io.Writer {
	if p.verbose {
		return progress
	}
	return io.Discard
}

// read makes the request from arguments and flags.
func (p *provisioning) read(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		missing := ""
		for _, f := range [][2]string{{"--email", p.body.Email}, {"--name", p.body.FullName}, {"--organization", p.body.OrganizationName}} {
			if f[1] == "" {
				missing = join(missing, f[0])
			}
		}
		if missing != "" {
			return usage("Give site, e-mail, full name and organization as arguments, or all of them as flags (missing: %s).", missing)
		}
	case 4, 5:
		for _, flag := range []string{"subdomain", "email", "name", "organization"} {
			if cmd.Flags().Changed(flag) {
				return usage("Give either arguments or flags, not both (--%s).", flag)
			}
		}
		p.body.Subdomain, p.body.Email, p.body.FullName, p.body.OrganizationName = &args[0], args[1], args[2], args[len(args)-1]
	default:
		return usage("Give 4 arguments (site, e-mail, full name, organization), or 5 with the password before the organization; these are %d. Put quotes around an argument with spaces.", len(args))
	}
	for name, into := range map[string]**string{"subdomain": &p.body.Subdomain, "plan": &p.body.Plan, "country": &p.body.Country,
		"language": &p.body.Language, "timezone": &p.body.Timezone, "currency": &p.body.Currency, "abbreviation": &p.body.Abbreviation} {
		if cmd.Flags().Changed(name) {
			*into = p.optional[name]
		}
	}
	return p.password(args)
}

// freshKey returns the key of the flag, or a new one.
func (p *provisioning) freshKey() string {
	if p.key == "" {
		return string(nexus.NewJobID())
	}
	return p.key
}

func (p *provisioning) password(args []string) error {
	if len(args) == 5 {
		if p.stdin {
			return usage("The password is given twice, as an argument and with --password-stdin; leave the argument out.")
		}
		p.body.Password = args[3]
		return nil
	}
	ask := func() (nexus.Secret, error) { return askPassword("Password of the new admin: ") }
	if p.stdin {
		ask = readPassword
	}
	password, err := ask()
	p.body.Password = password.Reveal()
	return err
}

// make makes the site, and prints the answer.
func (p *provisioning) make(ctx context.Context, cmd *cobra.Command, c *client.Client) error {
	body, key := p.body, p.freshKey()
	guessed := body.Timezone == nil && p.zone != ""
	if guessed {
		body.Timezone = &p.zone
	}
	pair, err := provision(ctx, c, body, key, cmd.ErrOrStderr())
	if guessed && refusesZone(err) { // nothing was recorded; the site gets the zone in NEXUS_TIME_ZONE
		pair, err = provision(ctx, c, p.body, key, cmd.ErrOrStderr())
	}
	if err != nil {
		return err
	}
	fmt.Fprint(cmd.ErrOrStderr(), unresolved(ctx, pair.Site, net.DefaultResolver.LookupHost))
	return p.json(cmd.Context(), cmd.OutOrStdout(), made(pair))
}

// unresolved returns a hint if this system does not resolve a name below localhost.
// Browsers and curl resolve it themselves.
func unresolved(ctx context.Context, site string, lookup func(context.Context, string) ([]string, error)) string {
	if !strings.HasSuffix(site, ".localhost") {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := lookup(ctx, site); err == nil {
		return ""
	}
	return "Browsers and curl resolve " + site + "; other programs here do not: install libnss-myhostname, or call 127.0.0.1 with the header Host.\n"
}

// answer is the JSON of nexus provision.
type answer struct {
	Success   bool     `json:"success"`
	Site      string   `json:"site,omitempty"`
	URL       string   `json:"url,omitempty"`
	APIKey    string   `json:"apiKey,omitempty"` //nolint:gosec // this command prints the key
	APISecret string   `json:"apiSecret,omitempty"`
	Error     *refusal `json:"error,omitempty"`
}

func made(pair gen.Credentials) answer {
	return answer{Success: true, Site: pair.Site, URL: pair.Url, APIKey: pair.ApiKey, APISecret: pair.ApiSecret}
}

// fail prints an error as JSON on standard output and as text on standard error. It does
// nothing for nil.
func (p *provisioning) fail(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, stopped := errors.AsType[interrupted](err); stopped && p.local {
		err = errStopped
	}
	r := refuse(err)
	if printErr := p.json(cmd.Context(), cmd.OutOrStdout(), answer{Error: &r}); printErr != nil {
		return printErr
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "nexus:", explain(err))
	if r.Code == "usage" {
		fmt.Fprintf(cmd.ErrOrStderr(), "  See: %s --help\n", cmd.CommandPath())
	}
	return exit(exitCode(err))
}

// provision signs up, follows the job and picks up the credentials. It never prints the
// claim token: if the wait is interrupted, the same idempotency key finds the job again.
func provision(ctx context.Context, c *client.Client, body gen.SignupRequest, key string, progress io.Writer) (gen.Credentials, error) {
	var accepted gen.Accepted
	var err error
	if plan, known := nexus.FindPlan(nexus.PlanName(value(body.Plan))); known && !plan.SelfServe { // only an operator may give this plan
		accepted, err = c.Create(ctx, body.Tenant(), key)
	} else {
		accepted, err = c.Signup(ctx, body, key)
	}
	if ctx.Err() != nil {
		return gen.Credentials{}, interrupted{again: sameKey(key)}
	}
	if err != nil {
		if nexus.CodeOf(err) == nexus.Unavailable { // the job may be recorded all the same
			fmt.Fprintln(progress, sameKey(key))
		}
		return gen.Credentials{}, err
	}
	fmt.Fprintf(progress, "%s: job %s\n", accepted.Site, accepted.JobId)
	return collect(ctx, c, accepted, key, progress)
}

// collect waits for the end of a job that makes a key, and picks up the key.
func collect(ctx context.Context, c *client.Client, accepted gen.Accepted, key string, progress io.Writer) (gen.Credentials, error) {
	_, err := finish(ctx, c, accepted.JobId, progress)
	if stop, ok := errors.AsType[interrupted](err); ok {
		stop.again = join(stop.again, sameKey(key))
		return gen.Credentials{}, stop
	}
	if err != nil {
		return gen.Credentials{}, err
	}
	// The pick-up is bound to the idempotency key, so it can be repeated after a lost answer.
	for heard := time.Now(); ; {
		pair, err := c.Credentials(ctx, accepted.JobId, nexus.Secret(accepted.ClaimToken), key)
		if nexus.CodeOf(err) != nexus.Unavailable {
			return pair, err
		}
		if time.Since(heard) > patience || pause(ctx, 2*time.Second) != nil {
			return pair, interrupted{job: accepted.JobId, again: join("The API has not answered for a minute.", sameKey(key))}
		}
	}
}

func sameKey(key string) string {
	return "To get the key, run the same command with: --idempotency-key " + key
}
