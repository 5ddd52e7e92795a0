package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// atOnce is how many items a cleanup has under way.
const atOnce = 8

// cleanup is one call of nexus cleanup.
type cleanup struct {
	*shared
	o       app.CleanupOptions
	yes     bool
	dryRun  bool
	asksAPI bool
	mu      sync.Mutex
	out     cleaned
	stopped bool // no worker runs, or somebody stopped it: nothing more is begun
}

// cleaned is what a cleanup did; a program reads it.
type cleaned struct {
	Removed []string          `json:"removed"`
	Failed  map[string]string `json:"failed"` // what → why
	Spared  []string          `json:"spared"`
	DryRun  bool              `json:"dryRun,omitempty"` // then removed is what would have been
}

func cleanupCommand(s *shared) *cobra.Command {
	k := &cleanup{shared: s}
	cmd := &cobra.Command{
		Use:   "cleanup <pattern>…",
		Short: "Remove tenants by pattern, and what dead jobs left under such names",
		Long: `Removes at once, with all data, every tenant whose subdomain or full name matches a
pattern, and what is left under such names by jobs that are over: folders,
databases, database users, notes. It lists them, counts down five seconds, and
removes them several at a time: tenants by jobs, through the API if NEXUS_API_URL
or --server names it, else through the registry; workers must run either way.

Runs on a host with the environment of a worker. It never touches the master site
(FRAPPE_SITE_NAME), a site of another maker or install, or an open site that has no
record. More than a fifth of all tenants goes only if --max says so.

Exit codes: 0 all removed, or nothing matched; 1 some were not, or refused; 3 no
worker runs, or it was interrupted: what was asked for is recorded and goes on.`,
		Example: "  nexus cleanup 'test-*' 'demo-*'\n  nexus cleanup 'test-*' --dry-run\n  nexus cleanup '*' --max 20 --yes",
		RunE:    func(cmd *cobra.Command, args []string) error { return k.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&k.yes, "yes", false, "do not count down")
	flags.BoolVar(&k.dryRun, "dry-run", false, "only say what would go")
	flags.IntVar(&k.o.Max, "max", 0, "as many may go at most, however large a part of all that is")
	return cmd
}

func (k *cleanup) run(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("Say what shall go, such as: nexus cleanup 'test-*'")
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

// say writes for people; a program gets its object at the end.
func (k *cleanup) say(cmd *cobra.Command, format string, args ...any) {
	w := cmd.OutOrStdout()
	if k.asJSON() {
		w = cmd.ErrOrStderr()
	}
	fmt.Fprintf(w, format+"\n", args...)
}

func (k *cleanup) list(cmd *cobra.Command, plan app.CleanupPlan) {
	for _, text := range plan.Spared {
		k.say(cmd, "  stays    %s", text)
	}
	for _, item := range plan.Items {
		k.say(cmd, "  goes     %s (%s)", item.Name, item.What)
	}
	if len(plan.Items) == 0 {
		k.say(cmd, "Nothing that may go matches %s.", strings.Join(k.o.Globs, " "))
	}
}

// countDown gives five seconds to think better of it.
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
	ctx, done, slots := cmd.Context(), 0, make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, item := range plan.Items {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
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
	}
	all.Wait()
	k.say(cmd, "%d removed, %d failed.", len(k.out.Removed), len(k.out.Failed))
	return nil
}

// mayBegin refuses one more item after somebody stopped the cleanup, or no worker runs.
func (k *cleanup) mayBegin(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() != nil {
		k.stopped = true
	}
	if k.stopped {
		return &nexus.Error{Code: nexus.CodeCanceled, Op: "cleanup", Msg: "Not begun; run the command again."}
	}
	return nil
}

// remove asks the API, if it is one of this registry: a name alone might mean
// another install's tenant.
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
		return &nexus.Error{Code: nexus.Conflict, Op: "cleanup", Msg: "The API at " + k.server + " knows another tenant of this name: it is another install's."}
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

// quiet watches a job and says nothing: many go on at once.
type quiet struct{}

func (quiet) show(gen.Job) {}
func (quiet) say(string)   {}
func (quiet) end()         {}
