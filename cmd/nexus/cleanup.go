package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// atOnce is how many items a cleanup has under way.
const atOnce = 8

// someAtOnce calls remove for each item, in their order and for atOnce of them at the same time.
func someAtOnce[T any](items []T, remove func(T)) {
	var all errgroup.Group
	all.SetLimit(atOnce)
	for _, item := range items {
		all.Go(func() error {
			remove(item)
			return nil
		})
	}
	_ = all.Wait() // none fails
}

// cleanup is one call of nexus cleanup.
type cleanup struct {
	*shared
	o       app.CleanupOptions
	yes     bool
	dryRun  bool
	asksAPI bool
	mu      sync.Mutex
	out     cleaned
	stopped bool // no worker runs, or it was interrupted: no further removal begins
}

// cleaned is the JSON of nexus cleanup.
type cleaned struct {
	Removed []string          `json:"removed"`
	Failed  map[string]string `json:"failed"` // name → reason
	Spared  []string          `json:"spared"`
	DryRun  bool              `json:"dryRun,omitempty"` // removed lists what would be removed
}

func cleanupCommand(s *shared) *cobra.Command {
	k := &cleanup{shared: s}
	cmd := &cobra.Command{
		Use:   "cleanup <pattern>…",
		Short: "Remove tenants by pattern, and what failed jobs left under such names",
		Long: `Removes at once, with all data, every tenant whose subdomain or full name matches
a pattern, and what jobs that are over have left under such names: folders,
databases, database users, intents. It lists them, counts down five seconds, and
removes several at a time: tenants by jobs, through the API if NEXUS_API_URL or
--server names it, else through the registry. Workers must run in both cases.

Needs the environment of a worker. It never removes the master site
(FRAPPE_SITE_NAME), a site that Nexus did not make, a site of another install, or an
open site that the registry does not know. It removes more than a fifth of all
tenants only with --max.

Exit codes: 0 all removed, or nothing matched; 1 some were not removed, or
refused; 3 no worker runs, or it was interrupted: jobs that are recorded go on.`,
		Example: "  nexus cleanup 'test-*' 'demo-*'\n  nexus cleanup 'test-*' --dry-run\n  nexus cleanup '*' --max 20 --yes",
		RunE:    func(cmd *cobra.Command, args []string) error { return k.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&k.yes, "yes", false, "do not count down")
	flags.BoolVar(&k.dryRun, "dry-run", false, "only list what would be removed")
	flags.IntVar(&k.o.Max, "max", 0, "the most that may be removed (default: a fifth of all)")
	return cmd
}

func (k *cleanup) run(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("Give a pattern of what to remove, such as: nexus cleanup 'test-*'")
	}
	c, err := k.client()
	if err != nil {
		return err
	}
	defer c.Close()
	k.o.Globs, k.asksAPI = args, os.Getenv("NEXUS_API_URL") != "" || cmd.Flags().Changed("server")
	k.out = cleaned{Removed: []string{}, Failed: map[string]string{}, Spared: []string{}, DryRun: k.dryRun}
	err = app.Cleanup(cmd.Context(), os.Environ(), k.o, func(plan app.CleanupPlan, cleaner app.Cleaner) error {
		k.out.Spared = append(k.out.Spared, plan.Spared...)
		k.list(cmd, plan)
		if k.dryRun || len(plan.Items) == 0 {
			for _, item := range plan.Items {
				k.out.Removed = append(k.out.Removed, item.Name)
			}
			return nil
		}
		if err := k.countDown(cmd); err != nil {
			return err
		}
		return k.removeAll(cmd, c, plan, cleaner)
	})
	if err == nil && k.asJSON() {
		err = k.json(cmd.Context(), cmd.OutOrStdout(), k.out)
	}
	switch {
	case err != nil:
		return err
	case k.stopped:
		return exit(exitAway)
	case len(k.out.Failed) > 0:
		return exit(exitFailed)
	}
	return nil
}

// say prints a line for people: on standard error if standard output gets JSON.
func (k *cleanup) say(cmd *cobra.Command, format string, args ...any) {
	w := cmd.OutOrStdout()
	if k.asJSON() {
		w = cmd.ErrOrStderr()
	}
	fmt.Fprintf(w, format+"\n", args...)
}

func (k *cleanup) list(cmd *cobra.Command, plan app.CleanupPlan) {
	for _, text := range plan.Spared {
		k.say(cmd, "  keep     %s", text)
	}
	for _, item := range plan.Items {
		k.say(cmd, "  remove   %s (%s)", item.Name, item.What)
	}
	if len(plan.Items) == 0 {
		k.say(cmd, "Nothing that may be removed matches %s.", strings.Join(k.o.Globs, " "))
	}
}

// countDown waits five seconds, so that the removal can be stopped.
func (k *cleanup) countDown(cmd *cobra.Command) error {
	if k.yes {
		return nil
	}
	for left := 5; left > 0; left-- {
		fmt.Fprintf(cmd.ErrOrStderr(), "Removing them with all their data in %d … (Ctrl-C stops it)\n", left)
		if pause(cmd.Context(), time.Second) != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "Nothing was removed.")
			return exit(exitFailed)
		}
	}
	return nil
}

func (k *cleanup) removeAll(cmd *cobra.Command, c *client.Client, plan app.CleanupPlan, cleaner app.Cleaner) error {
	ctx, done := cmd.Context(), 0
	someAtOnce(plan.Items, func(item app.CleanupItem) {
		err := k.mayBegin(ctx)
		if err == nil {
			err = k.remove(ctx, c, item, cleaner)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.stopped = k.stopped || wentOn(err)
		done++
		if err != nil {
			why := refuse(err)
			k.out.Failed[item.Name] = join(why.Message, why.Action)
			k.say(cmd, "  ✗ %d/%d  %s: %s", done, len(plan.Items), item.Name, k.out.Failed[item.Name])
			return
		}
		k.out.Removed = append(k.out.Removed, item.Name)
		k.say(cmd, "  ✓ %d/%d  %s", done, len(plan.Items), item.Name)
	})
	k.say(cmd, "%d removed, %d failed.", len(k.out.Removed), len(k.out.Failed))
	return nil
}

// mayBegin returns an error if the cleanup was interrupted, or no worker runs.
func (k *cleanup) mayBegin(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		k.stopped = true
	}
	if k.stopped {
		return &nexus.Error{Code: nexus.CodeCanceled, Op: "cleanup", Msg: "Its removal has not begun; run the command again."}
	}
	return nil
}

// remove removes an item, a tenant through the API if that has the same registry: another
// install may have a tenant of the same name.
func (k *cleanup) remove(ctx context.Context, c *client.Client, item app.CleanupItem, cleaner app.Cleaner) error {
	if !item.Tenant || !k.asksAPI {
		return cleaner.Remove(ctx, item)
	}
	t, err := c.Tenant(ctx, string(item.Site))
	switch {
	case nexus.CodeOf(err) == nexus.Unavailable:
		return cleaner.Remove(ctx, item)
	case err != nil:
		return err
	case value(t.MadeBy) != string(item.MadeBy):
		return &nexus.Error{Code: nexus.Conflict, Op: "cleanup", Msg: "The API at " + k.server + " belongs to another install: its tenant of this name is another one. Set NEXUS_API_URL to this install's API."}
	}
	if item.Live != "" {
		job, err := c.Cancel(ctx, string(item.Live), token())
		if err == nil {
			job, err = follow(ctx, c, job.Id, quiet{})
		}
		if err != nil || job.State == gen.StateCanceled || job.State == gen.StateFailed {
			return err
		}
	}
	job, err := c.Delete(ctx, string(item.Site), true)
	if err != nil {
		return err
	}
	if job, err = follow(ctx, c, job.Id, quiet{}); err == nil && job.State != gen.StateSucceeded {
		err = failedJob{job}
	}
	return err
}

// quiet is a watcher that prints nothing, since several jobs run at once.
type quiet struct{}

func (quiet) show(gen.Job) {}
func (quiet) say(string)   {}
func (quiet) end()         {}
