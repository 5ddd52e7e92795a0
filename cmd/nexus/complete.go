package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
)

// suggest completes an argument with what the API knows, if it answers soon: a
// shell that hangs helps nobody.
func (s *shared) suggest(cmd *cobra.Command, args []string, ask func(context.Context, *client.Client) []string) ([]string, cobra.ShellCompDirective) {
	c, err := s.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	return ask(ctx, c), cobra.ShellCompDirectiveNoFileComp
}

func (s *shared) completeJob(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
		list, _ := c.Jobs(ctx, "", "", "") // without an answer there is nothing to offer
		for _, job := range list.Jobs {
			out = append(out, job.Id+"\t"+join(string(job.Kind), job.Site, string(job.State)))
		}
		return out
	})
}

func (s *shared) completeSite(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
		_ = pages(true, func(cursor string) (*string, error) {
			list, err := c.Tenants(ctx, "", cursor)
			for _, t := range list.Tenants {
				out = append(out, t.Site+"\t"+join(string(t.State), t.Email))
			}
			return list.Next, err
		})
		return out
	})
}

func (s *shared) completeBench(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
		list, _ := c.Benches(ctx)
		for _, b := range list.Benches {
			out = append(out, b.Name+"\t"+string(b.Mode))
		}
		return out
	})
}
