package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func initCommand(s *shared) *cobra.Command {
	var file string
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a complete .env with new keys and tokens",
		Long: `Writes a file with every setting, its meaning and its default, with a new key that
seals secrets and two new tokens, one with the scope operate and one with read. Only
you can read the file. An existing file is overwritten only with --force: then its
keys are lost, and with them the signups under way.`,
		Example: "  nexus init\n  nexus init --file /etc/nexus.env\n  set -a; . ./.env; set +a; nexus dev",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, keys := nexus.NewKeyring()
			operate, read := nexus.Secret(freshToken()), nexus.Secret(freshToken())
			text := app.Dotenv(map[string]nexus.Secret{
				"NEXUS_SECRET_KEYS": keys, "NEXUS_API_TOKEN": operate,
				"NEXUS_TOKENS": "admin:operate:" + operate + ",reader:read:" + read,
			})
			err := writeNew(file, text, force)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists already and was not changed; choose another file with --file, or overwrite it with --force", file)
			}
			if err != nil {
				return fmt.Errorf("the file was not written: %w", err)
			}
			if s.asJSON() {
				return s.json(cmd.Context(), cmd.OutOrStdout(), map[string]string{"file": file, "secretKeys": keys.Reveal(), "admin": operate.Reveal(), "reader": read.Reveal()})
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s is written, and only you can read it. It contains:\n\n", file)
			fmt.Fprintf(out, "  NEXUS_SECRET_KEYS  %s\n  token admin        %s  (operate: may do everything)\n  token reader       %s  (read: may only read)\n\n",
				keys.Reveal(), operate.Reveal(), read.Reveal())
			fmt.Fprintf(out, "Keep a copy of NEXUS_SECRET_KEYS with your backups. Next:\n  set -a; . %s; set +a\n  nexus dev\n", shellPath(file))
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", ".env", "the file to write")
	_ = cmd.RegisterFlagCompletionFunc("file", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // the flag exists
		return nil, cobra.ShellCompDirectiveDefault
	})
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file if it exists; its keys and tokens are lost")
	return cmd
}

// shellPath adds ./ to a file name, since the shell's dot would look for it in PATH.
func shellPath(file string) string {
	for _, start := range []string{"/", "./", "../"} {
		if strings.HasPrefix(file, start) {
			return file
		}
	}
	return "./" + file
}

// writeNew writes a file that only its owner may read. With force it replaces an existing
// one atomically.
func writeNew(file string, text []byte, force bool) error {
	if force {
		fresh := file + ".new"
		if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := writeNew(fresh, text, false); err != nil {
			return err
		}
		return os.Rename(fresh, file)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
