package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// suggest completes an argument with what the API returns. It waits two seconds at most, so
// that the shell does not hang.
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

// completion is the function that cobra calls to complete an argument.
type completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

func anyJob(gen.State) bool       { return true }
func live(state gen.State) bool   { return !over(state) }
func parked(state gen.State) bool { return state == gen.StateRollbackFailed }

// completeJob completes with the jobs of the first page whose state a command accepts.
func (s *shared) completeJob(takes func(gen.State) bool) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
			state := ""
			if !takes(gen.StateSucceeded) && takes(gen.StateRollbackFailed) {
				state = string(gen.StateRollbackFailed)
			}
			list, _ := c.Jobs(ctx, state, "", "", 0) // after an error the list is empty
			for _, job := range list.Jobs {
				if takes(job.State) {
					out = append(out, job.Id+"\t"+join(string(job.Kind), job.Site, string(job.State)))
				}
			}
			return out
		})
	}
}

// completeSite completes with the tenants in the states that a command accepts; no state
// given: in any.
func (s *shared) completeSite(states ...gen.TenantState) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
			_ = everything().pages(func(cursor string, size int) (*string, int, error) {
				list, err := c.Tenants(ctx, "", cursor, size)
				for _, t := range list.Tenants {
					if len(states) == 0 || slices.Contains(states, t.State) {
						out = append(out, t.Site+"\t"+join(string(t.State), t.Email))
					}
				}
				return list.Next, len(list.Tenants), err
			})
			return out
		})
	}
}

func completePlan(*cobra.Command, []string, string) (out []string, _ cobra.ShellCompDirective) {
	for _, plan := range nexus.Plans() {
		out = append(out, string(plan.Name))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (s *shared) completeTemplate(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return s.suggest(cmd, args, func(ctx context.Context, c *client.Client) (out []string) {
		list, _ := c.Templates(ctx)
		for _, t := range list.Templates {
			out = append(out, t.Name+"\t"+join(t.Bench, value(t.Problem)))
		}
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
