package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
)

const needSite = "a site (nexus tenants list)"

func tenantsCommand(s *shared) *cobra.Command {
	tenants := &cobra.Command{
		Use:   "tenants",
		Short: "List, remove and restore tenants, and give them new keys",
		Long: `A tenant is a site and its admin. Give a <site> by its full name, or by the part
before the domain.`,
		Example: "  nexus tenants list\n  nexus tenants rm acme",
	}
	keys := &cobra.Command{Use: "keys", Short: "Give a tenant's admin a new key", Example: "  nexus tenants keys rotate acme"}
	keys.AddCommand(keysRotate(s))
	tenants.AddCommand(tenantsList(s), tenantsShow(s), tenantsRemove(s), tenantsRestore(s), keys)
	return tenants
}

func tenantsList(s *shared) *cobra.Command {
	var state string
	var n some
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List tenants by name",
		Example: "  nexus tenants list\n  nexus tenants list --state suspended\n  nexus tenants list --all -o json",
		Args:    exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			if state != "" && !gen.TenantState(state).Valid() {
				return usage("There is no such state; the help lists them.")
			}
			list := gen.TenantList{Tenants: []gen.Tenant{}}
			err := n.pages(func(cursor string, size int) (*string, int, error) {
				page, err := c.Tenants(cmd.Context(), state, cursor, size)
				list.Tenants, list.Next = append(list.Tenants, page.Tenants...), page.Next
				return page.Next, len(page.Tenants), err
			})
			if err != nil {
				return err
			}
			rows := [][]string{{"SITE", "STATE", "PLAN", "E-MAIL", "BENCH", "CREATED", "REMOVED AT"}}
			for _, t := range list.Tenants {
				rows = append(rows, []string{t.Site, string(t.State), t.Plan, t.Email, t.Bench, s.when(&t.CreatedAt), s.when(t.PurgeAt)})
			}
			s.more(cmd, list.Next)
			return s.list(cmd, list, "There are no such tenants.", rows)
		}),
	}
	states := []string{"making", "active", "suspended", "deleting"}
	cmd.Flags().StringVar(&state, "state", "", "only those in this state: "+strings.Join(states, ", "))
	n.flags(cmd.Flags())
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return cmd
}

func tenantsShow(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "show <site>", Short: "Show a tenant", Example: "  nexus tenants show acme\n  nexus tenants show acme.example.com -o json",
		Args: exactly(needSite), ValidArgsFunction: s.completeSite(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			site, err := fullName(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			t, err := c.Tenant(cmd.Context(), site)
			if err != nil {
				return err
			}
			rows := [][]string{{"site", t.Site}, {"url", t.Url}, {"state", string(t.State)}, {"plan", t.Plan}, {"e-mail", t.Email},
				{"bench", t.Bench}, {"created", local(&t.CreatedAt)}, {"made by", value(t.MadeBy)}}
			if way := road(t.Road, t.Template); way != "" {
				rows = append(rows, []string{"road", way})
			}
			if t.Job != nil {
				rows = append(rows, []string{"live job", *t.Job})
			}
			if t.PurgeAt != nil {
				rows = append(rows, []string{"removed at", local(t.PurgeAt)})
			}
			return s.print(cmd, t, rows)
		}),
	}
}

// fullName completes a name without a domain, which it asks the API for.
func fullName(ctx context.Context, c *client.Client, name string) (string, error) {
	if strings.Contains(name, ".") {
		return name, nil
	}
	known, err := c.Subdomain(ctx, name)
	return known.Site, err
}

func tenantsRemove(s *shared) *cobra.Command {
	var now, yes bool
	cmd := &cobra.Command{
		Use:   "rm <site>",
		Short: "Close a tenant's site, and remove it after a grace period",
		Long: `Closes the site at once, and removes it for good after a grace period (7 days, or
NEXUS_DELETE_GRACE); until then it can be restored. With --now it is removed at
once, with all its data, and its name is free.

Asks first. Without a terminal --yes is needed.`,
		Example: "  nexus tenants rm acme\n  nexus tenants rm test-manual --now --yes",
		Args:    exactly(needSite), ValidArgsFunction: s.completeSite(gen.Active, gen.Suspended),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			ctx := cmd.Context()
			site, err := fullName(ctx, c, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := confirm(cmd, site, now); err != nil {
					return err
				}
			}
			job, err := c.Delete(ctx, site, now)
			if err != nil {
				return err
			}
			if job, err = finish(ctx, c, job.Id, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return s.print(cmd, job, [][]string{{removed(ctx, c, site, now)}})
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "remove it at once, with all its data")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func removed(ctx context.Context, c *client.Client, site string, now bool) string {
	if now {
		return site + " is removed; its name is free."
	}
	text := site + " is closed."
	if t, err := c.Tenant(ctx, site); err == nil && t.PurgeAt != nil {
		text += " It will be removed for good at " + local(t.PurgeAt) + "."
	}
	return text + " To open it again: nexus tenants restore " + site
}

// confirm asks on the terminal. To remove a site at once, its name must be typed.
func confirm(cmd *cobra.Command, site string, now bool) error {
	question, yes := "Close "+site+"? It can be restored until its grace period is over. [y/N] ", []string{"y", "yes"}
	if now {
		question, yes = "This removes "+site+" with all its data, at once. Type its name to go on: ", []string{site}
	}
	return agree(cmd, site, question, yes)
}

// agree asks a question about the removal of something on the terminal. It is an error if
// the answer is none of the words.
func agree(cmd *cobra.Command, what, question string, yes []string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usage("To remove %s without a terminal, add --yes.", what)
	}
	fmt.Fprint(cmd.ErrOrStderr(), question)
	given := make(chan string, 1)
	go func() { // a read from a terminal cannot be canceled; it ends with the process
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		given <- strings.TrimSpace(line)
	}()
	select {
	case line := <-given:
		for _, word := range yes {
			if strings.EqualFold(line, word) {
				return nil
			}
		}
	case <-cmd.Context().Done():
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "Nothing was done.")
	return exit(exitFailed)
}

func tenantsRestore(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "restore <site>", Short: "Open a suspended tenant's site again", Example: "  nexus tenants restore acme",
		Args: exactly(needSite), ValidArgsFunction: s.completeSite(gen.Suspended),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			site, err := fullName(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			job, err := c.Restore(cmd.Context(), site)
			if err != nil {
				return err
			}
			if job, err = finish(cmd.Context(), c, job.Id, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return s.print(cmd, job, [][]string{{site + " is open again."}})
		}),
	}
}

func keysRotate(s *shared) *cobra.Command {
	p := &provisioning{shared: s}
	cmd := &cobra.Command{
		Use:         "rotate <site>",
		Annotations: map[string]string{answersJSON: ""},
		Short:       "Give a tenant's admin a new key and secret",
		Long: `Sets a new key and secret for the site's admin, and prints one JSON object on
standard output, as nexus provision does. The old ones stop working.`,
		Example: "  nexus tenants keys rotate acme\n  nexus tenants keys rotate acme.example.com | jq -r .apiKey",
		Args:    func(cmd *cobra.Command, args []string) error { return p.fail(cmd, exactly(needSite)(cmd, args)) }, ValidArgsFunction: s.completeSite(gen.Active),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.fail(cmd, s.asking(p.rotate)(cmd, args))
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return p.fail(cmd, usage("%v", err)) })
	cmd.Flags().StringVar(&p.key, "idempotency-key", "", "repeat a call safely with the same key (default: a new one)")
	return cmd
}

func (p *provisioning) rotate(cmd *cobra.Command, c *client.Client, args []string) error {
	site, err := fullName(cmd.Context(), c, args[0])
	if err != nil {
		return err
	}
	key := p.freshKey()
	accepted, err := c.RotateKey(cmd.Context(), site, key)
	if err != nil {
		return err
	}
	pair, err := collect(cmd.Context(), c, accepted, key, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	return p.json(cmd.Context(), cmd.OutOrStdout(), made(pair))
}
