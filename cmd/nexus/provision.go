package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func provisionCommand() *cobra.Command {
	var body gen.SignupRequest
	var server, key string
	optional := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "provision",
		Short: "Make a tenant and wait for its API key",
		Long: `Asks the API at NEXUS_API_URL for a site and waits for its end. Progress goes to
standard error; standard output gets one JSON object: {site, url, apiKey, apiSecret}.

The new admin's password is asked for, or read as one line from standard input.
With a token in NEXUS_API_TOKEN (scope signup or operate) it is sent along.`,
		Example: `  echo 'Passw0rdXyz' | nexus provision --email jane@acme.com --name "Jane Doe" --organization Acme`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := askPassword("Password of the new admin: ")
			if err != nil {
				return err
			}
			body.Password = password.Reveal()
			for name, into := range map[string]**string{"subdomain": &body.Subdomain, "plan": &body.Plan, "country": &body.Country,
				"language": &body.Language, "timezone": &body.Timezone, "currency": &body.Currency} {
				if cmd.Flags().Changed(name) {
					*into = optional[name]
				}
			}
			if key == "" {
				key = string(nexus.NewJobID())
			}
			c := client.New(server, nexus.Secret(os.Getenv("NEXUS_API_TOKEN")))
			defer c.Close()
			pair, err := provision(cmd.Context(), c, body, key, cmd.ErrOrStderr())
			if err != nil {
				return explain(err)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			return out.Encode(pair) //nolint:gosec // handing the key out is what this command is for
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&body.Email, "email", "", "e-mail address of the new admin")
	flags.StringVar(&body.FullName, "name", "", "full name of the new admin")
	flags.StringVar(&body.OrganizationName, "organization", "", "name of the company")
	for name, usage := range map[string]string{"subdomain": "wished address (default: made from the organization)", "plan": "free, starter or business",
		"country": "country in English", "language": "language code", "timezone": "time zone name", "currency": "currency code"} {
		optional[name] = flags.String(name, "", usage)
	}
	base := os.Getenv("NEXUS_API_URL")
	if base == "" {
		base = "http://127.0.0.1:8300"
	}
	flags.StringVar(&server, "server", base, "the API (NEXUS_API_URL)")
	flags.StringVar(&key, "idempotency-key", "", "repeat a call safely with the same key (default: a fresh one)")
	for _, name := range []string{"email", "name", "organization"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}

// provision asks, follows the job and picks the credentials up. The claim token
// is never printed; when the wait is interrupted the job goes on, and the same
// idempotency key finds it again.
func provision(ctx context.Context, c *client.Client, body gen.SignupRequest, key string, progress io.Writer) (gen.Credentials, error) {
	accepted, err := c.Signup(ctx, body, key)
	if err != nil {
		return gen.Credentials{}, err
	}
	fmt.Fprintf(progress, "%s: job %s\n", accepted.Site, accepted.JobId)
	job, err := followJob(ctx, c, accepted.JobId, progress)
	if err != nil {
		return gen.Credentials{}, fmt.Errorf("%w\n  The job goes on; ask again with --idempotency-key %s", err, key)
	}
	if job.State != gen.StateSucceeded {
		text := fmt.Sprintf("%s: %s", job.Site, job.State)
		if job.Error != nil {
			text = job.Error.Message
			if job.Error.Action != nil {
				text += " " + *job.Error.Action
			}
		}
		return gen.Credentials{}, errors.New(text)
	}
	return c.Credentials(ctx, accepted.JobId, nexus.Secret(accepted.ClaimToken), key)
}

// followJob tells each step once, and lives through a restart of the API.
func followJob(ctx context.Context, c *client.Client, id string, progress io.Writer) (gen.Job, error) {
	told := map[string]gen.StepState{}
	waiting, known := "", `"0"`
	for {
		job, etag, changed, err := c.Job(ctx, id, known, 20*time.Second)
		switch {
		case ctx.Err() != nil:
			return job, ctx.Err()
		case nexus.CodeOf(err) == nexus.Unavailable:
			fmt.Fprintln(progress, "  … no answer; asking again")
			if err := pause(ctx, 2*time.Second); err != nil {
				return job, err
			}
			continue
		case err != nil:
			return job, err
		case !changed:
			continue
		}
		known = etag
		for _, step := range job.Steps {
			if step.State != told[step.Name] && step.State != gen.StepStatePending {
				told[step.Name] = step.State
				fmt.Fprintf(progress, "  %-9s %s\n", step.Name, step.State)
			}
		}
		if job.WaitingNote != nil && *job.WaitingNote != waiting {
			waiting = *job.WaitingNote
			fmt.Fprintf(progress, "  … %s\n", waiting)
		}
		switch job.State {
		case gen.StateSucceeded, gen.StateFailed, gen.StateCanceled, gen.StateRollbackFailed:
			return job, nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
