package main

import (
	"cmp"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// shared holds the flags of the root, which all commands have.
type shared struct {
	server string
	output string
	jq     string
	look
}

func (s *shared) flags(flags *pflag.FlagSet) {
	const usual = "http://127.0.0.1:8300"
	flags.StringVar(&s.server, "server", cmp.Or(os.Getenv("NEXUS_API_URL"), usual), "the API to ask (NEXUS_API_URL)")
	flags.Lookup("server").DefValue = usual // the help prints it, and the variable may contain a password
	flags.StringVarP(&s.output, "output", "o", "table", "print lists and records as table, or as json, as the API sends them")
	flags.StringVar(&s.jq, "jq", "", "print the results of this jq expression on the JSON")
}

// client returns a client of the API. The caller must close it.
func (s *shared) client() (*client.Client, error) {
	u, err := url.Parse(s.server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// Do not print it: it may contain a password.
		return nil, usage("The API's address is not a URL such as http://127.0.0.1:8300 (--server, NEXUS_API_URL).")
	}
	return client.New(s.server, token()), nil
}

func token() nexus.Secret { return nexus.Secret(os.Getenv("NEXUS_API_TOKEN")) }

// asking makes a RunE of a function that needs a client.
func (s *shared) asking(do func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := s.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return do(cmd, c, args)
	}
}

// exactly requires one argument for each name, and names the missing ones.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s needs %s.", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return usage("%s has an argument too many: %q.", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}
