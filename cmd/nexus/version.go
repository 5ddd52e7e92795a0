package main

import (
	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
)

func versionCommand(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  nexus version\n  nexus version -o json", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := app.Built()
			commit := v.Commit
			if v.Modified {
				commit += " and changes"
			}
			rows := [][]string{{"nexus", v.Version}, {"commit", join(commit, v.At)}, {"go", v.Go + " " + v.Platform}}
			if v.Commit == "" {
				rows = append(rows[:1], rows[2])
			}
			return s.print(cmd, v, rows)
		},
	}
}
