package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

func jobsCommand(s *shared) *cobra.Command {
	jobs := &cobra.Command{
		Use:     "jobs",
		Short:   "List, watch, cancel and resume jobs",
		Example: "  nexus jobs list --state waiting\n  nexus jobs watch 0f3c…",
	}
	jobs.AddCommand(jobsList(s), jobsShow(s), jobsWatch(s), jobsCancel(s), jobsResume(s))
	return jobs
}

func jobsList(s *shared) *cobra.Command {
	var state, kind string
	var n some
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List jobs, newest first",
		Example: "  nexus jobs list\n  nexus jobs list --kind provision --state rollback_failed\n  nexus jobs list --all -o json",
		Args:    exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			if state != "" && !gen.State(state).Valid() || kind != "" && !gen.Kind(kind).Valid() {
				return usage("There is no such state or kind; the help lists them.")
			}
			list := gen.JobList{Jobs: []gen.Job{}}
			err := n.pages(func(cursor string, size int) (*string, int, error) {
				page, err := c.Jobs(cmd.Context(), state, kind, cursor, size)
				list.Jobs, list.Next = append(list.Jobs, page.Jobs...), page.Next
				return page.Next, len(page.Jobs), err
			})
			if err != nil {
				return err
			}
			rows := [][]string{{"JOB", "KIND", "SITE", "STATE", "STEP", "CREATED"}}
			for _, job := range list.Jobs {
				rows = append(rows, []string{job.Id, string(job.Kind), job.Site, string(job.State), current(job), s.when(&job.CreatedAt)})
			}
			s.more(cmd, list.Next)
			return s.list(cmd, list, "There are no such jobs.", rows)
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only those in this state: "+strings.Join(words(nexus.States()), ", "))
	cmd.Flags().StringVar(&kind, "kind", "", "only those of this kind: "+strings.Join(words(nexus.Kinds()), ", "))
	n.flags(cmd.Flags())
	for name, texts := range map[string][]string{"state": words(nexus.States()), "kind": words(nexus.Kinds())} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	}
	return cmd
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, word := range list {
		out[i] = string(word)
	}
	return out
}

// some says how many elements of a list to read.
type some struct {
	limit int
	all   bool
}

// everything reads a whole list.
func everything() *some { return &some{limit: 1, all: true} }

func (n *some) flags(flags *pflag.FlagSet) {
	flags.IntVar(&n.limit, "limit", 50, "the most to list")
	flags.BoolVar(&n.all, "all", false, "list all")
}

// pages reads pages until there are enough. Read gets the cursor and the size of a page, and
// returns the next cursor and how many elements it has read.
func (n *some) pages(read func(cursor string, size int) (next *string, count int, err error)) error {
	const largest = 200 // the largest page of the API
	if n.limit < 1 {
		return usage("--limit must be 1 or more, not %d.", n.limit)
	}
	for cursor, left := "", n.limit; n.all || left > 0; {
		size := largest
		if !n.all {
			size = min(left, largest)
		}
		next, count, err := read(cursor, size)
		if err != nil || next == nil {
			return err
		}
		cursor, left = *next, left-count
	}
	return nil
}

// more prints that a list has more elements. In JSON the field next says so.
func (s *shared) more(cmd *cobra.Command, next *string) {
	if next != nil && !s.asJSON() {
		fmt.Fprintln(cmd.ErrOrStderr(), "There are more; list them with --all, or 500 of them with --limit 500.")
	}
}

// current is the step of a job that runs, or in which it ended.
func current(job gen.Job) (name string) {
	if job.State == gen.StateSucceeded {
		return ""
	}
	if job.Error != nil && job.Error.Step != nil {
		return *job.Error.Step
	}
	for _, step := range job.Steps {
		if step.State != gen.StepStatePending {
			name = step.Name
		}
	}
	return name
}

// onJob makes a command on one job, which prints the job.
func (s *shared) onJob(use, short, example string, offered func(gen.State) bool, do func(context.Context, *client.Client, string) (gen.Job, error)) *cobra.Command {
	return &cobra.Command{
		Use: use + " <job>", Short: short, Example: example,
		Args: exactly("a job's id (nexus jobs list)"), ValidArgsFunction: s.completeJob(offered),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			job, err := do(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return s.print(cmd, job, jobRows(job))
		}),
	}
}

func jobRows(job gen.Job) [][]string {
	rows := [][]string{{"job", job.Id}, {"kind", string(job.Kind)}, {"site", job.Site}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	add("url", job.Url) // a template has none
	add("state", string(job.State))
	add("road", road(job.Road, job.Template))
	if job.WaitingFor != nil {
		add("waits for", join(string(*job.WaitingFor), value(job.WaitingNote)))
	}
	add("next look", local(job.NextAt))
	if job.Error != nil {
		add("error", job.Error.Code+": "+job.Error.Message)
		add("to do", value(job.Error.Action))
		add("request", value(job.Error.RequestId))
	}
	add("asked by", value(job.Actor))
	add("created", local(&job.CreatedAt))
	add("changed", local(&job.UpdatedAt))
	if !over(job.State) {
		add("gives up", local(&job.GiveUpAt))
	}
	for i, step := range job.Steps {
		name := ""
		if i == 0 {
			name = "steps"
		}
		rows = append(rows, []string{name, strings.TrimRight(fmt.Sprintf("%-9s %-8s%-7s  %s", step.Name, step.State, took(step), value(step.Note)), " ")})
	}
	return rows
}

// road is how a site is or was made.
func road(road, template *string) string {
	if value(template) != "" {
		return value(road) + " of " + *template
	}
	return value(road)
}

func jobsShow(s *shared) *cobra.Command {
	return s.onJob("show", "Show a job and its steps",
		"  nexus jobs show 0f3c…\n  nexus jobs show 0f3c… -o json | jq .error", anyJob,
		func(ctx context.Context, c *client.Client, id string) (gen.Job, error) {
			job, _, _, err := c.Job(ctx, id, "", 0)
			return job, err
		})
}

func jobsWatch(s *shared) *cobra.Command {
	return &cobra.Command{
		Use:   "watch <job>",
		Short: "Print what happens to a job until it is over",
		Long: `Prints each change of a job until the job is over; with -o json the whole job in one
line each time. No token is needed: whoever has the id may watch the job.

Exit codes: 0 succeeded; 1 failed or canceled; 2 called wrongly; 3 no answer from
the API, or interrupted: the job goes on.`,
		Example: "  nexus jobs watch 0f3c…",
		Args:    exactly("a job's id (nexus jobs list)"), ValidArgsFunction: s.completeJob(live),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, args []string) error {
			var w watcher = &lines{w: cmd.OutOrStdout(), clock: true, told: map[string]gen.StepState{}}
			if s.asJSON() {
				w = records{func(job gen.Job) error { return s.line(cmd, job) }, cmd.ErrOrStderr()}
			}
			f := following{c: c, id: args[0], w: w, endless: true}
			job, err := f.run(cmd.Context())
			if err == nil && job.State != gen.StateSucceeded {
				return exit(exitFailed) // the last line says why
			}
			return err
		}),
	}
}

// records writes a job as one line of JSON at every change.
type records struct {
	write   func(gen.Job) error
	remarks io.Writer
}

// line writes a record as one line of JSON.
func (s *shared) line(cmd *cobra.Command, record any) error {
	if s.query != nil {
		return s.json(cmd.Context(), cmd.OutOrStdout(), record)
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(record)
}

func (r records) show(job gen.Job) { _ = r.write(job) } // a broken pipe is no error
func (r records) say(text string)  { fmt.Fprintln(r.remarks, text) }
func (records) end()               {}

func jobsCancel(s *shared) *cobra.Command {
	cmd := s.onJob("cancel", "Stop a job and remove what it made", "  nexus jobs cancel 0f3c… && nexus jobs watch 0f3c…", live,
		func(ctx context.Context, c *client.Client, id string) (gen.Job, error) {
			return c.Cancel(ctx, id, token())
		})
	cmd.Long = `Cancels a job: it ends as canceled once all that it made is removed. A job may be
canceled twice, but not once it is over: remove its site with nexus tenants rm.`
	return cmd
}

func jobsResume(s *shared) *cobra.Command {
	cmd := s.onJob("resume", "Continue a job whose rollback failed", "  nexus jobs list --state rollback_failed\n  nexus jobs resume 0f3c…", parked,
		func(ctx context.Context, c *client.Client, id string) (gen.Job, error) { return c.Resume(ctx, id) })
	cmd.Long = `A job whose rollback fails is parked as rollback_failed. Mend the cause first; then
this continues the job.`
	return cmd
}
