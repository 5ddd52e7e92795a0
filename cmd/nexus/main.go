// Command nexus is the command line: sites made by hand, everything in one
// process for development, and the operator's tools.
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
	os.Exit(run(app.Signals(context.Background()), os.Args[1:]))
}

// run runs one command and returns its exit code.
func run(ctx context.Context, args []string) int {
	cobra.EnableCommandSorting = false // they are listed in the order of use
	root := rootCommand()
	root.SetArgs(args)
	ran := false
	each(root, func(cmd *cobra.Command) {
		if work := cmd.RunE; work != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				ran = true
				return work(cmd, args)
			}
		}
	})
	cmd, err := unknownCommand(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return 0
	}
	code := exitCode(err)
	if !ran { // refused before it began
		code = max(code, exitUsage)
	}
	if _, quiet := errors.AsType[exit](err); quiet {
		return code
	}
	fmt.Fprintln(os.Stderr, "nexus:", explain(err))
	if code == exitUsage {
		fmt.Fprintf(os.Stderr, "  See: %s --help\n", cmd.CommandPath())
	}
	return code
}

// answersJSON marks commands that always print a JSON object, also when they fail.
const answersJSON = "answers-json"

// rootCommand returns the tree of all commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "nexus",
		Short: "Nexus Provisioner: from a signup form to a working ERPNext site",
		Long: `Nexus Provisioner makes ERPNext sites: a company fills in a form and gets its
own site, an admin user, a plan and a working API key.

To try it, run "nexus dev" and open the address it prints.

Commands that ask the API find it at NEXUS_API_URL (default http://127.0.0.1:8300)
and send the token in NEXUS_API_TOKEN. Each ends with one of these exit codes:
  0  done
  1  failed, or refused
  2  called wrongly
  3  no answer from the API, no worker runs, or the wait was interrupted: the job
     is recorded and goes on

Lists and records are printed as tables. With -o json they are printed as the API
sends them, and with --jq as the result of an expression. On a terminal states have
colors (unless NO_COLOR is set), and times are shown as "3m ago".`,
		Example: `  nexus dev
  nexus provision acme jane@acme.com "Jane Doe" "Acme Inc."
  nexus tenants list`,
		SilenceUsage: true, SilenceErrors: true,
	}
	s := &shared{}
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := s.prepare(cmd)
		if _, always := cmd.Annotations[answersJSON]; always {
			err = (&provisioning{shared: s}).fail(cmd, err)
		}
		return err
	}
	root.Version = app.Built().String()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	s.flags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	bench := benchCommand(s)
	bench.AddCommand(benchVerbs(s)...)
	group(root, "make", "Make sites:", provisionCommand(s), adoptCommand(s), testCommand(s), canaryCommand(s))
	group(root, "look", "Look after them:", jobsCommand(s), tenantsCommand(s), bench, templatesCommand(s), poolCommand(s), cleanupCommand(s), doctorCommand(s))
	group(root, "run", "Run the product:", devCommand(), initCommand(s), sandboxCommand())
	root.AddCommand(versionCommand(s))
	return root
}

func group(root *cobra.Command, id, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = id
	}
	root.AddCommand(commands...)
}

func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, do)
	}
}

// unknownCommand refuses a call such as "nexus jobs lst". Cobra would print the help of
// jobs and succeed.
func unknownCommand(root *cobra.Command, args []string) (*cobra.Command, error) {
	cmd, rest, err := root.Find(args)
	if err != nil || cmd == root || cmd.Runnable() || cmd.ParseFlags(rest) != nil || cmd.Flags().NArg() == 0 {
		return cmd, nil //nolint:nilerr // cobra reports it
	}
	cmd.SuggestionsMinimumDistance = 2
	word := cmd.Flags().Arg(0)
	text := fmt.Sprintf("There is no command %q in %q.", word, cmd.CommandPath())
	for _, near := range cmd.SuggestionsFor(word) {
		text += fmt.Sprintf(" Did you mean %q?", near)
	}
	return cmd, usageError{text}
}
