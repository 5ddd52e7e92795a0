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
		Short: "Say where registry and bench differ, and mend it",
		Long: `Holds the registry against what is on the bench, and says what differs: tenants
whose site is gone, what dead jobs left behind, sites that a lost registry forgot.
What the bench lacks is said too, as by nexus bench check.
Runs on a host with the environment of a worker. What is not this install's is
counted and never touched; what a live job works on is no finding.

With --fix it mends what is ours for certain and nobody's data: leftovers of jobs
that failed, stale notes. With --rebuild it makes the rows of a lost registry from
the markers on the sites. Of a tenant that is open on one side and closed on the
other, say with --open or --close what it shall be; closed, its grace begins anew.
The rest is for a person, and said with each finding.

Exit codes: 0 nothing differs (any more); 1 something does.`,
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
	cmd.Flags().BoolVar(&o.Rebuild, "rebuild", false, "make the rows of a lost registry from the sites' markers")
	cmd.Flags().StringSliceVar(&o.Open, "open", nil, "make these tenants open in the registry and on the bench, where the two differ")
	cmd.Flags().StringSliceVar(&o.Close, "close", nil, "make these tenants suspended on both sides, with a new grace")
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
		others = fmt.Sprintf("; %d on the bench are not ours", r.Foreign)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(w, "  ✓ Registry and bench agree on all %d tenants%s.\n", r.Tenants, others)
		return
	}
	fmt.Fprintf(w, "  %d findings; %d tenants%s.\n", len(r.Findings), r.Tenants, others)
}
