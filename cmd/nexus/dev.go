package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
)

func devCommand() *cobra.Command {
	dev := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: API, worker, sandbox and an embedded Redis",
		Long: `Runs the API with the signup page, a worker, the sandbox bench and, unless
REDIS_URL is set, an embedded Redis, in one process and in the foreground. Nothing
is kept after it ends, unless both NEXUS_SANDBOX_DIR and REDIS_URL are set.

In another shell, eval "$(nexus dev env)" sets up the other commands for it.`,
		Example: "  nexus dev\n  NEXUS_SANDBOX_DELAY=500ms nexus dev\n  NEXUS_SANDBOX_DELAY=real NEXUS_TEMPLATES=plain NEXUS_POOL=2 nexus dev\n  eval \"$(nexus dev env)\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			environ, token := os.Environ(), ""
			if os.Getenv("NEXUS_TOKENS") == "" && os.Getenv("NEXUS_TOKENS_FILE") == "" {
				token = freshToken()
				environ = append(environ, "NEXUS_TOKENS=dev:operate:"+token)
			}
			note := &devNote{}
			defer note.remove()
			parts := app.Parts{API: true, Worker: true, Sandbox: os.Getenv("NEXUS_BENCH") != "docker", Dev: true}
			code := app.Process(cmd.Context(), "nexus dev", parts, environ, os.Stderr, func(c app.Config, at app.Addresses) {
				note.write(at, token)
				welcome(cmd, c, at, token)
			})
			return failed(code)
		},
	}
	dev.AddCommand(devEnvCommand())
	return dev
}

// welcome prints the addresses and what to do next.
func welcome(cmd *cobra.Command, c app.Config, at app.Addresses, token string) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  Sign up:   %s\n", at.API)
	if at.Sandbox != "" {
		_, port, _ := strings.Cut(at.Sandbox, ":")
		fmt.Fprintf(&b, "  Sites:     http://<name>.%s:%s (sandbox: no real ERPNext)\n", c.Domain, port)
		if c.Domain == "localhost" {
			fmt.Fprintf(&b, "             (browsers and curl resolve that name; other programs may need\n"+
				"             127.0.0.1:%s with the header Host, or the package libnss-myhostname)\n", port)
		}
	}
	if token != "" {
		fmt.Fprintf(&b, "  Operator:  curl -H 'Authorization: Bearer %s' %s/tenants\n", token, at.API)
	}
	b.WriteString("  Commands:  in another shell, first: eval \"$(nexus dev env)\"\n  Stop it with Ctrl-C.\n\n")
	fmt.Fprint(cmd.OutOrStdout(), b.String())
}

func freshToken() string {
	var b [24]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

func failed(code int) error {
	if code == 0 {
		return nil
	}
	return exit(code)
}

func sandboxCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sandbox",
		Short: "Serve the sandbox's sites beside separate api and worker processes",
		Long: `Serves the sites of the sandbox in NEXUS_SANDBOX_DIR at NEXUS_SANDBOX_ADDR.
The workers need the same folder. "nexus dev" includes all of this.`,
		Example: "  NEXUS_SANDBOX_DIR=./sandbox nexus sandbox",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return failed(app.Process(cmd.Context(), "nexus sandbox", app.Parts{Sandbox: true}, os.Environ(), os.Stderr, nil))
		},
	}
}
