package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
)

func devEnvCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print shell commands that set up other commands for nexus dev",
		Long: `Prints shell commands that set NEXUS_API_URL, NEXUS_API_TOKEN, REDIS_URL and the
sandbox's settings to those of the "nexus dev" that this user started last. Settings
that nexus dev has from its own environment are not printed.`,
		Example: "  eval \"$(nexus dev env)\"",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, api, err := readDevNote()
			if err == nil {
				err = answers(cmd.Context(), api)
			}
			if err != nil {
				return fmt.Errorf("no nexus dev of yours runs on this machine; start one with: nexus dev (%w)", err)
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
}

// devNote is the file with the addresses of nexus dev. Only its user can read it.
type devNote struct{ path, text string }

func devNotePath() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "nexus", "dev.env"), err
}

// write writes the settings that nexus dev has chosen itself. It ignores errors: a user may
// have no home folder, and only nexus dev env reads the file.
func (n *devNote) write(at app.Addresses, token string) {
	path, err := devNotePath()
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	var b strings.Builder
	for _, v := range [][2]string{{"NEXUS_API_URL", at.API}, {"NEXUS_API_TOKEN", token}, {"REDIS_URL", at.Redis},
		{"NEXUS_SANDBOX_DIR", at.Folder}, {"NEXUS_SANDBOX_ADDR", at.Sandbox}} {
		if v[1] != "" {
			fmt.Fprintf(&b, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
		}
	}
	if writeNew(path, []byte(b.String()), true) == nil {
		n.path, n.text = path, b.String()
	}
}

// remove removes the file, unless a nexus dev that was started later has written it.
func (n *devNote) remove() {
	if text, err := os.ReadFile(n.path); err == nil && string(text) == n.text {
		_ = os.Remove(n.path)
	}
}

func readDevNote() (text, api string, err error) {
	path, err := devNotePath()
	if err != nil {
		return "", "", err
	}
	all, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	text = string(all)
	_, api, _ = strings.Cut(text, "NEXUS_API_URL='")
	api, _, found := strings.Cut(api, "'")
	if !found {
		return "", "", errors.New(path + " names no API")
	}
	return text, api, nil
}

// answers returns an error if the API does not answer: a nexus dev that was killed has left
// its file.
func answers(ctx context.Context, api string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
