// Command nexus is the command line: everything in one process for development,
// and the operator's tools.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/app"
)

func main() {
	ctx, stop := app.Signals(context.Background())
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// exit is an exit code that has been explained already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:   "nexus",
		Short: "Nexus Provisioner: from a signup form to a working ERPNext site",
		Long: `Nexus Provisioner makes ERPNext sites: a company fills in a form and gets its
own site, an admin user, a plan and a working API key.

To try it, run "nexus dev" and open the address it prints.`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetArgs(args)
	root.AddCommand(devCommand(), sandboxCommand(), provisionCommand(), benchCommand())
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "nexus:", err)
	return 1
}
