package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what this binary says of itself.
type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	At       string `json:"at,omitempty"` // of the commit
	Modified bool   `json:"modified"`     // built from a tree that differs from it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(s *shared) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Example: "  nexus version\n  nexus version -o json", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := built()
			commit := v.Commit
			if v.Modified {
				commit += " and changes"
			}
			rows := [][]string{{"nexus", v.Version}, {"commit", join(commit, v.At)}, {"go", v.Go + " " + v.Platform}}
			if v.Commit == "" {
				rows = append(rows[:1], rows[2])
			}
			return s.print(cmd.OutOrStdout(), v, rows)
		},
	}
}

// built reads what the compiler noted.
func built() version {
	v := version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Commit = setting.Value
		case "vcs.time":
			v.At = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}
