package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// adoption is one call of nexus adopt.
type adoption struct {
	provisioning
	body       gen.AdoptRequest
	plan       string
	newKey     bool
	registered bool
	rootUser   string
}

func adoptCommand(s *shared) *cobra.Command {
	a := &adoption{provisioning: provisioning{shared: s}}
	cmd := &cobra.Command{
		Use:         "adopt <site>",
		Annotations: map[string]string{answersJSON: ""},
		Short:       "Make a tenant of a site that Nexus did not make",
		Long: `Adopts a site that is on the bench already, made by the scripts of 1.0 or by hand.

First the site's database is entered in the bench's register. This needs the root
password of the database: it is asked for, or read as one line of standard input,
and not stored. This part needs the environment of a worker; --registered skips it.
Then the API records the adoption as a job.

The site must be open: not in maintenance mode, and its scheduler not paused in its
config. It stays open, and only its plan and its address in the config are changed.
If the job fails, the site is as before. With --new-key the admin gets a new key and
secret, and the old ones stop working. Prints one JSON object:
  {"success": true, "site": …, "url": …, "apiKey": …, "apiSecret": …}`,
		Example: `  pass show mariadb-root | nexus adopt old.example.com --email admin@example.com
  nexus adopt old.example.com --email admin@example.com --plan business --new-key --registered`,
		Args: func(cmd *cobra.Command, args []string) error {
			return a.fail(cmd, exactly("a site's full name")(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.fail(cmd, a.asking(a.run)(cmd, args)) },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return a.fail(cmd, usage("%v", err)) })
	flags := cmd.Flags()
	flags.StringVar(&a.body.Email, "email", "", "e-mail address of the site's admin")
	flags.StringVar(&a.plan, "plan", "", "free, starter, business or enterprise (default: free)")
	_ = cmd.RegisterFlagCompletionFunc("plan", completePlan) // the flag exists
	flags.BoolVar(&a.newKey, "new-key", false, "give the admin a new API key")
	flags.BoolVar(&a.registered, "registered", false, "the database is in the register already")
	flags.StringVar(&a.rootUser, "root-user", "root", "the database administrator's name")
	flags.StringVar(&a.key, "idempotency-key", "", "repeat a call safely with the same key (default: a new one)")
	return cmd
}

func (a *adoption) run(cmd *cobra.Command, c *client.Client, args []string) error {
	ctx, progress := cmd.Context(), cmd.ErrOrStderr()
	if a.body.Email == "" {
		return usage("Give the e-mail of the site's admin, such as: --email admin@example.com")
	}
	if a.plan != "" {
		a.body.Plan = &a.plan
	}
	a.body.NewKey = &a.newKey
	site, err := fullName(ctx, c, args[0])
	if err != nil {
		return err
	}
	if !a.registered && app.NeedsRoot(os.Environ()) {
		password, err := askPassword("Root password of the bench's database: ")
		if err != nil {
			return err
		}
		result, err := app.RegisterSite(ctx, os.Environ(), nexus.SiteName(site), a.rootUser, password)
		if err != nil {
			return err
		}
		if result.Changed {
			fmt.Fprintf(progress, "%s: its database is in the register\n", site)
		}
	}
	key := a.freshKey()
	accepted, err := c.Adopt(ctx, site, a.body, key)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "%s: job %s\n", accepted.Site, accepted.JobId)
	if a.newKey {
		pair, err := collect(ctx, c, accepted, key, progress)
		if err != nil {
			return err
		}
		return a.json(cmd.Context(), cmd.OutOrStdout(), made(pair))
	}
	if _, err := finish(ctx, c, accepted.JobId, progress); err != nil {
		return err
	}
	return a.json(cmd.Context(), cmd.OutOrStdout(), answer{Success: true, Site: accepted.Site, URL: accepted.Url})
}
