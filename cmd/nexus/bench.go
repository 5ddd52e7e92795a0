package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func benchCommand(s *shared) *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "Prepare, check and measure a bench, and pause or resume it", Example: "  nexus bench check\n  nexus bench pause backend"}
	var rootUser string
	initialize := &cobra.Command{
		Use:   "init",
		Short: "Prepare a bench with the root password of its database",
		Long: `Installs what the workers need on the bench in DOCKER_SERVICE: definer procedures
and a register of databases in the schema "nexus", the account NEXUS_DB_ACCOUNT
with the password NEXUS_DB_PASSWORD, which may call these procedures and nothing
else, and the id of this install in sites/.nexus.

The root password is asked for, or read as one line of standard input, and not
stored. The command may be run again at any time.`,
		Example: "  nexus bench init\n  nexus bench init < db_root_password",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := askPassword("Root password of the bench's database: ")
			if err != nil {
				return err
			}
			result, err := app.InitBench(cmd.Context(), os.Environ(), rootUser, password)
			if err != nil {
				return explain(err)
			}
			if s.asJSON() {
				return s.json(cmd.Context(), cmd.OutOrStdout(), map[string]bool{"changed": result.Changed})
			}
			if result.Changed {
				fmt.Fprintln(cmd.OutOrStdout(), "The bench is ready. Check it with: nexus bench check")
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), "The bench was prepared already; procedures and account are up to date.")
			}
			return nil
		},
	}
	initialize.Flags().StringVar(&rootUser, "root-user", "root", "the database administrator's name")
	check := &cobra.Command{
		Use:     "check",
		Short:   "List the problems of a bench, and what to do about each",
		Example: "  nexus bench check\n  nexus bench check -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.checkBench(cmd.Context(), cmd) },
	}
	bench.AddCommand(initialize, check)
	return bench
}

// checked is the JSON of nexus bench check.
type checked struct {
	Frappe   string          `json:"frappe"`
	Host     string          `json:"host,omitempty"`
	Database string          `json:"database,omitempty"`
	Mode     nexus.BenchMode `json:"mode,omitempty"` // empty: no worker has served it yet
	Problems []nexus.Problem `json:"problems"`
}

func (s *shared) checkBench(ctx context.Context, cmd *cobra.Command) error {
	hello, status, err := app.CheckBench(ctx, os.Environ())
	if err != nil {
		return explain(err)
	}
	all := append(append([]nexus.Problem{}, hello.Problems...), closed(status)...) // not nil, so that JSON has []
	if s.asJSON() {
		record := checked{Frappe: hello.Frappe, Host: hello.Host, Database: hello.Database, Mode: status.Mode, Problems: all}
		if err := s.json(ctx, cmd.OutOrStdout(), record); err != nil || len(all) == 0 {
			return err
		}
		return exit(exitFailed)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Frappe %s", hello.Frappe)
	if hello.Host != "" {
		fmt.Fprintf(out, " on %s", hello.Host)
	}
	if hello.Database != "" {
		fmt.Fprintf(out, ", database %s", hello.Database)
	}
	fmt.Fprintln(out)
	if status.Name != "" {
		fmt.Fprintf(out, "Admission: %s, %d of %d slots in use, %d jobs wait\n", status.Mode, status.Used, status.Slots, status.Waiting)
	}
	for _, p := range all {
		fmt.Fprintf(out, "  ✗ %s\n    → %s\n", p.What, p.Mend)
	}
	if len(all) > 0 {
		return exit(exitFailed)
	}
	fmt.Fprintln(out, "  ✓ Nothing is missing.")
	return nil
}

// closed returns a problem if a bench admits no new jobs.
func closed(b nexus.BenchStatus) []nexus.Problem {
	switch b.Mode {
	case nexus.BenchTripped:
		return []nexus.Problem{{What: fmt.Sprintf("Its breaker admits no new sites until %s: the step %s failed for %d jobs in a row (%s).",
			local(&b.Until), b.Step, b.Failures, b.Code), Mend: "Mend the cause. Then the bench opens by itself, or at once with: nexus bench resume " + b.Name}}
	case nexus.BenchPaused, nexus.BenchDrained:
		return []nexus.Problem{{What: fmt.Sprintf("It was %s by %s.", b.Mode, b.By), Mend: "Run: nexus bench resume " + b.Name}}
	}
	return nil
}
