package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
)

func doctorCommand(s *shared) *cobra.Command {
	var o app.DoctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "List differences between registry and bench, and mend them",
		Long: `Compares the registry with the bench and lists what differs: tenants whose site is
missing, what failed jobs have left, sites that the registry does not know. It also
lists the problems of the bench, as nexus bench check does.

Needs the environment of a worker. Sites of others are counted and never changed.
Sites on which a job works are not looked at.

With --fix it mends what is safe: leftovers of failed jobs, old intents. With
--rebuild it makes the rows of sites that the registry does not know, from their
markers. If a tenant is open on one side and closed on the other, --open opens it
and --close closes it on both, with a new grace period. Every other finding says
what to do.

Exit codes: 0 no findings, or all mended; 1 some are left.`,
		Example: "  nexus doctor\n  nexus doctor --fix\n  nexus doctor --rebuild\n  nexus doctor --open acme --close other\n  nexus doctor -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := app.Doctor(cmd.Context(), os.Environ(), o)
			if err != nil {
				return err
			}
			if s.asJSON() {
				err = s.json(cmd.Context(), cmd.OutOrStdout(), report)
			} else {
				tellReport(cmd.OutOrStdout(), report)
			}
			if err == nil && len(report.Findings)+len(report.Failed) > 0 {
				err = exit(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Fix, "fix", false, "mend what is safe to mend")
	cmd.Flags().BoolVar(&o.Rebuild, "rebuild", false, "make rows from the markers of sites that the registry does not know")
	cmd.Flags().StringSliceVar(&o.Open, "open", nil, "open these tenants in the registry and on the bench, if the two differ")
	cmd.Flags().StringSliceVar(&o.Close, "close", nil, "suspend these tenants on both sides, if the two differ, with a new grace period")
	return cmd
}

func tellReport(w io.Writer, r app.DoctorReport) {
	for _, f := range r.Mended {
		fmt.Fprintf(w, "  ✓ %s Mended.\n", f.What)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "  ✗ %s\n    → %s\n", f.What, f.Mend)
	}
	for _, text := range r.Failed {
		fmt.Fprintf(w, "  ! %s\n", text)
	}
	others := ""
	if r.Foreign > 0 {
		others = fmt.Sprintf("; %d sites on the bench belong to others", r.Foreign)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(w, "  ✓ Registry and bench agree on all %d tenants%s.\n", r.Tenants, others)
		return
	}
	fmt.Fprintf(w, "  %d findings; %d tenants%s.\n", len(r.Findings), r.Tenants, others)
}
