package main

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func templatesCommand(s *shared) *cobra.Command {
	templates := &cobra.Command{
		Use:   "templates",
		Short: "List, build and drop the templates that new sites are copied from",
		Long: `A template is a site with the apps of new sites, frozen by a job. New sites are
copied from it, in seconds instead of minutes. One of a country also has a company,
ready to invoice. After an upgrade of the bench's apps a template can no longer be
copied: build a new one.`,
		Example: "  nexus templates build\n  nexus templates build DE:SKR04\n  nexus templates list",
	}
	templates.AddCommand(templatesList(s), templatesBuild(s), templatesDrop(s))
	return templates
}

func templatesList(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List templates, newest first",
		Long: `Lists the templates of all benches, as their workers listed them within the last
minute. New sites with the same apps are copied from the one that is offered: the
one for their country if there is one, else plain.`,
		Example: "  nexus templates list\n  nexus templates list -o json", Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			list, err := c.Templates(cmd.Context())
			if err != nil {
				return err
			}
			return s.list(cmd, list, "There are no templates; build one with: nexus templates build", s.templateRows(list.Templates))
		}),
	}
}

func (s *shared) templateRows(list []gen.Template) [][]string {
	rows := [][]string{{"TEMPLATE", "BENCH", "FOR", "APPS", "MADE", "OFFERED", "PROBLEM"}}
	for _, t := range list {
		rows = append(rows, []string{t.Name, t.Bench, t.Template, strings.Join(t.Apps, ","), s.when(t.MadeAt),
			map[bool]string{true: "yes", false: "no"}[t.Offered], cmp.Or(value(t.Problem), map[bool]string{true: toRenew}[t.Renew])})
	}
	return rows
}

// toRenew is shown in the place of a problem. Workers build another one if NEXUS_TEMPLATES has
// it.
const toRenew = "Its last fiscal year has begun; build another one."

func templatesBuild(s *shared) *cobra.Command {
	var bench string
	cmd := &cobra.Command{
		Use: "build [<template>]", Short: "Build a template and wait for its end",
		Long: `Records a job that makes a site with the apps of new sites and freezes it, and
follows the job. Signups do not wait for it. It begins on an open bench only.

The <template> says what sites it is for:
  plain      with the apps, and no company; the default
  US         with a company of the country, by its ISO 3166 code
  DE:SKR04   with a chart of accounts whose name has this word, where the
             country has several; without it the one with the shortest name`,
		Example: "  nexus templates build\n  nexus templates build US\n  nexus templates build DE:SKR04 -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly("a template")(cmd, args)
		},
		ValidArgsFunction: completeSpec,
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			spec := ""
			if len(args) > 0 {
				spec = args[0]
			}
			ctx := cmd.Context()
			job, err := c.BuildTemplate(ctx, spec, bench, string(nexus.NewJobID()))
			if err != nil {
				return err
			}
			if job, err = finish(ctx, c, job.Id, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return s.print(cmd, job, [][]string{{job.Site + " is built; new sites are copied from it."}})
		}),
	}
	cmd.Flags().StringVar(&bench, "bench", "", "the bench, where there are several (nexus bench list)")
	_ = cmd.RegisterFlagCompletionFunc("bench", s.completeBench) // the flag exists
	return cmd
}

func completeSpec(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		out = words(nexus.TemplateSpecs())
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// droppedTemplate is the JSON of nexus templates drop.
type droppedTemplate struct {
	Dropped string `json:"dropped"`
	Bench   string `json:"bench"`
}

func templatesDrop(s *shared) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "drop <name>", Short: "Remove a template from the bench",
		Long: `Removes a template from the bench of this environment, with its database. New sites
are then copied from another template with the same apps, or made the long way.
Sites that were copied from it stay. A template that a job is building is not
removed: cancel the job instead.

Needs the environment of a worker. Asks first. Without a terminal --yes is needed.`,
		Example: "  nexus templates drop plain-7c1f0a5e\n  nexus templates drop plain-7c1f0a5e --yes",
		Args:    exactly("a template (nexus templates list)"), ValidArgsFunction: s.completeTemplate,
		RunE: func(cmd *cobra.Command, args []string) error {
			gone := droppedTemplate{Dropped: args[0]}
			err := app.DropTemplate(cmd.Context(), os.Environ(), nexus.SiteName(args[0]), func(bench string, _ nexus.Template) error {
				if gone.Bench = bench; yes {
					return nil
				}
				return agree(cmd, args[0], "Remove the template "+args[0]+" from the bench "+bench+"? [y/N] ", []string{"y", "yes"})
			})
			if err != nil {
				return err
			}
			return s.print(cmd, gone, [][]string{{args[0] + " is removed from " + gone.Bench + "."}})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
