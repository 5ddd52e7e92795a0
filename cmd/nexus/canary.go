package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// canary signs up as a customer would.
type canary struct {
	c       *client.Client
	addr    string // host:port at which sites are called; empty: at their own address
	email   string
	timeout time.Duration
	log     io.Writer // for people
}

// finding is the result of one run, printed as one line.
type finding struct {
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Step    string  `json:"step"` // the last one that began
	Error   string  `json:"error,omitempty"`
}

func canaryCommand(s *shared) *cobra.Command {
	var every time.Duration
	var metricsAddr string
	k := &canary{}
	cmd := &cobra.Command{
		Use:   "canary",
		Short: "Sign up, check the site and remove it: once, or repeatedly",
		Long: `Signs up as a customer would, calls the new site with its key, and removes the site.
Each run prints one line of JSON on standard output:
  {"ok": true, "seconds": 2.1, "step": "teardown"}
with the last step that began (leftovers, signup, provision, credentials, site,
teardown) and, if the run failed, the error.

Needs a token with the scope operate in NEXUS_API_TOKEN. Sites that a crashed run
left (canary-…, older than an hour) are removed first. The new site is called at
its own address, or at NEXUS_VERIFY_ADDR with its name in the Host header.

With --every it repeats until it is stopped. With --metrics-addr it then serves
nexus_canary_runs_total{result}, nexus_canary_seconds and
nexus_canary_last_success_timestamp_seconds for Prometheus at /metrics.

Exit codes: 0 the run succeeded, or was stopped; 1 it failed; 2 called wrongly.`,
		Example: "  nexus canary\n  nexus canary --every 10m --metrics-addr :9301",
		Args:    exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			k.c, k.addr, k.log = c, os.Getenv("NEXUS_VERIFY_ADDR"), cmd.ErrOrStderr()
			if every < 0 || every == 0 && metricsAddr != "" {
				return usage("--metrics-addr goes with --every, which is a time such as 10m.")
			}
			if every > 0 {
				return k.loop(cmd.Context(), cmd.OutOrStdout(), every, metricsAddr)
			}
			found := k.run(cmd.Context())
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(found); err != nil || found.OK {
				return err
			}
			return exit(exitFailed)
		}),
	}
	cmd.Flags().DurationVar(&every, "every", 0, "repeat, with this time between the starts of two runs (10m)")
	cmd.Flags().StringVar(&metricsAddr, "metrics-addr", "", "with --every: serve Prometheus metrics there (host:port)")
	cmd.Flags().StringVar(&k.email, "email", "canary@example.com", "the admin's address; a tag is added (canary+1a2b3c@example.com)")
	cmd.Flags().DurationVar(&k.timeout, "timeout", 10*time.Minute, "how long a run may take")
	return cmd
}

var canaryName = regexp.MustCompile(`^canary-[0-9a-f]{6}\.`)

// run does one run. What it has made is removed at the end, also if it is stopped.
func (k *canary) run(ctx context.Context) (found finding) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	err := k.steps(ctx, &found.Step)
	if err != nil {
		found.Error = join(refuse(err).Message, refuse(err).Action)
	}
	found.OK, found.Seconds = err == nil, float64(time.Since(began).Milliseconds())/1000
	return found
}

func (k *canary) steps(ctx context.Context, step *string) error {
	*step = "leftovers"
	if err := k.sweep(ctx); err != nil {
		return err
	}
	*step = "signup"
	tag := freshToken()[:6]
	name, email := "canary-"+tag, tagged(k.email, tag)
	body := gen.SignupRequest{Email: email, Password: freshPassword(), FullName: "Canary", OrganizationName: "Canary " + tag, Subdomain: &name}
	accepted, err := k.c.Signup(ctx, body, tag)
	if err != nil {
		return err
	}
	*step = "provision"
	if _, err := finish(ctx, k.c, accepted.JobId, io.Discard); err != nil {
		return errors.Join(err, k.abandon(ctx, accepted, err))
	}
	err = k.use(ctx, accepted, email, step)
	if err == nil {
		*step = "teardown"
	}
	return errors.Join(err, k.remove(ctx, accepted.Site))
}

// use fetches the key and calls the site.
func (k *canary) use(ctx context.Context, accepted gen.Accepted, email string, step *string) error {
	*step = "credentials"
	pair, err := k.c.Credentials(ctx, accepted.JobId, nexus.Secret(accepted.ClaimToken), "canary")
	if err != nil {
		return err
	}
	*step = "site"
	site := newSite(made(pair), k.addr)
	defer site.close()
	for _, check := range site.checks(email) {
		if err := check.run(ctx); err != nil {
			return fmt.Errorf("check failed: %s: %w", check.what, err)
		}
	}
	return nil
}

// abandon cancels a job that is not over yet. One that is has removed what it made.
func (k *canary) abandon(ctx context.Context, accepted gen.Accepted, cause error) error {
	if _, over := errors.AsType[failedJob](cause); over {
		return nil
	}
	return k.told(accepted.Site, abandon(ctx, k.c, accepted.JobId, accepted.Site))
}

func (k *canary) remove(ctx context.Context, site string) error {
	return k.told(site, remove(ctx, k.c, site))
}

// told logs that a site could not be removed.
func (k *canary) told(site string, err error) error {
	if err != nil {
		fmt.Fprintf(k.log, "%s could not be removed: %v\n", site, explain(err))
	}
	return err
}

// sweep removes the sites that crashed runs left. Younger ones may belong to another
// canary that is running.
func (k *canary) sweep(ctx context.Context) error {
	return everything().pages(func(cursor string, size int) (*string, int, error) {
		list, err := k.c.Tenants(ctx, "", cursor, size)
		for _, t := range list.Tenants {
			// A customer may have such a name, so the e-mail must be the canary's too.
			tag, _, _ := strings.Cut(strings.TrimPrefix(t.Site, "canary-"), ".")
			if !canaryName.MatchString(t.Site) || t.Email != tagged(k.email, tag) || time.Since(t.CreatedAt) < time.Hour || t.Job != nil {
				continue
			}
			fmt.Fprintf(k.log, "removing %s, left at %s\n", t.Site, local(&t.CreatedAt))
			if err := k.remove(ctx, t.Site); err != nil {
				return nil, 0, err
			}
		}
		return list.Next, len(list.Tenants), err
	})
}
