package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func poolCommand(s *shared) *cobra.Command {
	pool := &cobra.Command{
		Use:   "pool",
		Short: "Show, fill and drain the copies that are kept ready for signups",
		Long: `Workers keep copies of each template ready, on a shelf of their bench (NEXUS_POOL).
A signup gets one in less than a second, and another one is made. How many there
are follows the demand.`,
		Example: "  nexus pool show\n  nexus pool fill --members 50 --for 2h",
	}
	pool.AddCommand(poolShow(s), poolFill(s), poolDrain(s))
	return pool
}

// benchShelf is a shelf in the JSON of nexus pool.
type benchShelf struct {
	Bench string `json:"bench"`
	gen.Shelf
}

// shelfList is the JSON of nexus pool.
type shelfList struct {
	Shelves []benchShelf `json:"shelves"`
}

func shelvesOf(benches ...gen.Bench) shelfList {
	list := shelfList{Shelves: []benchShelf{}}
	for _, b := range benches {
		for _, shelf := range b.Pool {
			list.Shelves = append(list.Shelves, benchShelf{b.Name, shelf})
		}
	}
	return list
}

const noShelves = "No worker keeps a shelf; set NEXUS_POOL on workers and build a template with: nexus templates build"

func poolShow(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show how many copies are ready on each bench",
		Long: `Shows the shelves of all benches: the copies that are ready and being made, how many
there are to be, and how many signups got one (hits) or found none (misses).`,
		Example: "  nexus pool show\n  nexus pool show -o json", Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			benches, err := c.Benches(cmd.Context())
			if err != nil {
				return err
			}
			list := shelvesOf(benches.Benches...)
			return s.list(cmd, list, noShelves, shelfRows(list))
		}),
	}
}

func shelfRows(list shelfList) [][]string {
	rows := [][]string{{"BENCH", "TEMPLATE", "SHELVED", "MAKING", "TARGET", "HITS", "MISSES", "NOTE"}}
	several := map[string]int{} // shelves of a bench and a template
	for _, each := range list.Shelves {
		several[each.Bench+" "+each.Template]++
	}
	for _, each := range list.Shelves {
		var notes []string
		if several[each.Bench+" "+each.Template] > 1 {
			notes = append(notes, "with "+strings.Join(each.Apps, ","))
		}
		switch {
		case each.Drained:
			notes = append(notes, "drained by an operator; nexus pool fill ends that")
		case !each.Kept:
			notes = append(notes, "no worker keeps it")
		case each.Until != nil:
			notes = append(notes, fmt.Sprintf("at least %d until %s", value(each.AtLeast), local(each.Until)))
		}
		if each.Popped > 0 {
			notes = append(notes, fmt.Sprintf("%d become sites", each.Popped))
		}
		if each.Reaping > 0 {
			notes = append(notes, fmt.Sprintf("%d are dropped", each.Reaping))
		}
		if each.Failures > 0 {
			notes = append(notes, fmt.Sprintf("%d failures in a row", each.Failures))
		}
		rows = append(rows, []string{each.Bench, each.Template, fmt.Sprint(each.Shelved), fmt.Sprint(each.Making), fmt.Sprint(each.Target),
			fmt.Sprint(each.Hits), fmt.Sprint(each.Misses), strings.Join(notes, "; ")})
	}
	return rows
}

func poolFill(s *shared) *cobra.Command {
	var bench, template string
	var members int
	var d time.Duration
	cmd := &cobra.Command{
		Use: "fill", Short: "Have more copies ready for a time, or again after a drain",
		Long: `Has workers keep at least so many copies ready for a time, such as before a
campaign. They are made one or two at once, in a few seconds each. There may be
more than NEXUS_POOL says, but they take no more of the disk than NEXUS_POOL_BYTES.
It ends a drain. Copies that are left when the time is over stay until signups take
them, or until they are a day old.`,
		Example: "  nexus pool fill\n  nexus pool fill --members 50 --for 2h --template US", Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			request := gen.PoolRequest{Template: given(template), For: new(fmt.Sprintf("%.0fm", d.Minutes()))}
			if cmd.Flags().Changed("members") {
				request.Members = &members
			}
			return s.setPool(cmd, c, bench, "fill", request)
		}),
	}
	cmd.Flags().IntVar(&members, "members", 0, "how many to keep ready (default: twice the target, and 4 or more)")
	cmd.Flags().DurationVar(&d, "for", time.Hour, "for how long, in whole minutes, up to 168h")
	s.poolFlags(cmd, &bench, &template)
	return cmd
}

func poolDrain(s *shared) *cobra.Command {
	var bench, template string
	cmd := &cobra.Command{
		Use: "drain", Short: "Drop the copies that are ready, and make none",
		Long: `Has workers drop the copies that are kept ready, and make none until they are told
to fill the shelf. Signups go on, and take as long as a copy does. Tenants are not
touched.`,
		Example: "  nexus pool drain\n  nexus pool drain --bench sandbox", Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			return s.setPool(cmd, c, bench, "drain", gen.PoolRequest{Template: given(template)})
		}),
	}
	s.poolFlags(cmd, &bench, &template)
	return cmd
}

func (s *shared) poolFlags(cmd *cobra.Command, bench, template *string) {
	cmd.Flags().StringVar(bench, "bench", "", "the bench, where there are several (nexus bench list)")
	cmd.Flags().StringVar(template, "template", "", "of which template, such as plain or DE:SKR04 (default: of all)")
	_ = cmd.RegisterFlagCompletionFunc("bench", s.completeBench) // the flags exist
	_ = cmd.RegisterFlagCompletionFunc("template", cobra.FixedCompletions(words(nexus.TemplateSpecs()), cobra.ShellCompDirectiveNoFileComp))
}

// given returns nil for an empty flag.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// setPool fills or drains the shelves of a bench: the one that is named, or the only one.
func (s *shared) setPool(cmd *cobra.Command, c *client.Client, bench, verb string, request gen.PoolRequest) error {
	bench, err := onlyBench(cmd.Context(), c, bench)
	if err != nil {
		return err
	}
	b, err := c.SetPool(cmd.Context(), bench, verb, request)
	if err != nil {
		return err
	}
	list := shelvesOf(b)
	return s.print(cmd, list, shelfRows(list))
}

func onlyBench(ctx context.Context, c *client.Client, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	list, err := c.Benches(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, b := range list.Benches {
		names = append(names, b.Name)
	}
	switch len(names) {
	case 0:
		return "", &nexus.Error{Code: nexus.NotFound, Op: "pool", Msg: "No worker has served a bench yet."}
	case 1:
		return names[0], nil
	}
	return "", usage("there are several benches; name one with --bench: %s", strings.Join(names, ", "))
}
