package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
)

// benchVerbs are the commands that list benches, set their mode, and measure them.
func benchVerbs(s *shared) []*cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the benches that workers serve, with their mode and slots",
		Example: "  nexus bench list\n  nexus bench list -o json", Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			benches, err := c.Benches(cmd.Context())
			if err != nil {
				return err
			}
			return s.list(cmd, benches, "No worker has served a bench yet.", benchRows(benches.Benches...))
		}),
	}
	all := []*cobra.Command{list}
	for _, v := range []struct{ verb, short, long string }{
		{"pause", "Admit no new sites to a bench", "New sites wait. Sites that are being made go on, and so do suspensions, restores,\nremovals and new keys."},
		{"drain", "Admit no jobs to a bench", "All jobs wait, removals too. Jobs that run are not stopped."},
		{"resume", "Admit jobs to a bench again", "The opposite of pause and drain. It also resets a breaker that tripped."},
	} {
		all = append(all, &cobra.Command{
			Use: v.verb + " <bench>", Short: v.short, Long: v.short + ".\n" + v.long, Example: "  nexus bench " + v.verb + " sandbox",
			Args: exactly("a bench (nexus bench list)"), ValidArgsFunction: s.completeBench,
			RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
				b, err := c.SetBench(cmd.Context(), args[0], v.verb)
				if err != nil {
					return err
				}
				return s.print(cmd, b, benchRows(b))
			}),
		})
	}
	return append(all, benchMeasure(s))
}

func benchRows(benches ...gen.Bench) [][]string {
	rows := [][]string{{"BENCH", "MODE", "SLOTS", "USED", "WAITING", "NOTE"}}
	for _, b := range benches {
		note := ""
		if b.By != nil {
			note = "by " + *b.By
		}
		if b.Until != nil {
			note = join(note, "until", local(b.Until))
		}
		if b.Failures > 0 {
			note = join(note, fmt.Sprintf("%d failures in a row of step %s: %s", b.Failures, value(b.Step), value(b.Code)))
		}
		rows = append(rows, []string{b.Name, string(b.Mode), fmt.Sprint(b.Slots), fmt.Sprint(b.Used), fmt.Sprint(b.Waiting), note})
	}
	return rows
}
