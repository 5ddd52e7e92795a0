package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// measuring is one call of nexus bench measure.
type measuring struct {
	*shared
	c           *client.Client
	signups     int
	roads       []string
	gap         time.Duration
	concurrency int
	country     string
	plan        string
	tag         string // is in the names of all its sites

	mu      sync.Mutex // of the fields below, while signups are under way
	log     io.Writer  // for people
	samples []*sample
}

// sample is one signup.
type sample struct {
	asked  nexus.Road
	name   string  // of the site, before the domain
	site   string  // empty: the API has not answered
	jobID  string  // empty: the API has not answered
	job    gen.Job // as it ended
	failed error   // why the job did not succeed
}

// ended reports whether the end of the job is known.
func (s *sample) ended() bool { return over(s.job.State) }

func benchMeasure(s *shared) *cobra.Command {
	m := &measuring{shared: s}
	cmd := &cobra.Command{
		Use:   "measure",
		Short: "Measure how long signups take by each road, and remove their sites",
		Long: `Signs up for sites by each road, prints how long they took, as the server
recorded it, and removes them. One road is measured after the other, each once the
workers have made the copies that are to be ready (nexus pool show); it waits for
them for two minutes at most.

The whole is the time from the record of a signup to the end of its last step. A
signup that took another road than was asked for, since the shelf was empty or
there is no template, is counted under NOTE and not in the times. TENANTS/H is what
this load gave: for the most that a bench can do, use --gap 0s and a --concurrency
of its slots. RATIO compares the medians of the whole with that of the first road.

Needs a token with the scope operate in NEXUS_API_TOKEN. The sites are removed at
the end, also after an interrupt or a failure. What a killed run left is removed
by: nexus cleanup 'measure-*'.

Exit codes: 0 measured; 1 interrupted, or a signup failed, or a site could not be
removed; 2 called wrongly; 3 no answer from the API, or no worker runs.`,
		Example: `  nexus bench measure
  nexus bench measure --signups 50 --roads standby --country US
  nexus bench measure --roads clone --signups 200 --concurrency 4 --gap 0s -o json`,
		Args: exactly(),
		RunE: s.asking(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			m.c, m.tag, m.log = c, freshToken()[:6], cmd.ErrOrStderr()
			if err := m.check(); err != nil {
				return err
			}
			return m.run(cmd)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&m.signups, "signups", 10, "how many for each road")
	flags.StringSliceVar(&m.roads, "roads", words(nexus.Roads()), "the roads to measure, in this order")
	flags.DurationVar(&m.gap, "gap", 2*time.Second, "the time between the end of a signup and the next one")
	flags.IntVar(&m.concurrency, "concurrency", 1, "how many signups are under way at once")
	flags.StringVar(&m.country, "country", "", "country by its ISO code, such as US (default: the operator's)")
	flags.StringVar(&m.plan, "plan", "", "the plan (default: free)")
	_ = cmd.RegisterFlagCompletionFunc("plan", completePlan) // the flags exist
	_ = cmd.RegisterFlagCompletionFunc("roads", cobra.FixedCompletions(words(nexus.Roads()), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (m *measuring) check() error {
	switch {
	case m.signups < 1:
		return usage("--signups must be 1 or more, not %d.", m.signups)
	case m.concurrency < 1:
		return usage("--concurrency must be 1 or more, not %d.", m.concurrency)
	case m.gap < 0:
		return usage("--gap must not be negative.")
	case len(m.roads) == 0:
		return usage("--roads needs a road: %s.", strings.Join(words(nexus.Roads()), ", "))
	}
	for i, road := range m.roads {
		if !slices.Contains(nexus.Roads(), nexus.Road(road)) {
			return usage("There is no road %q; there are %s.", road, strings.Join(words(nexus.Roads()), ", "))
		}
		if slices.Contains(m.roads[:i], road) {
			return usage("The road %s comes twice in --roads.", road)
		}
	}
	return nil
}

// run measures, removes what was made, and prints the figures of all signups that ended.
func (m *measuring) run(cmd *cobra.Command) error {
	err := m.sendAll(cmd.Context())
	left := m.removeAll(cmd.Context())
	record := measured{Signups: m.signups, Concurrency: m.concurrency, GapSeconds: m.gap.Seconds(), Left: left}
	failed := len(left) > 0
	for _, road := range m.roads {
		row := measuredOf(nexus.Road(road), m.samples)
		failed = failed || row.Failed > 0
		record.Roads = append(record.Roads, row)
	}
	record.compare()
	for _, site := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(m.log, "%s may be left: %s\n", site, left[site])
	}
	if err != nil && !slices.ContainsFunc(m.samples, (*sample).ended) {
		return err
	}
	if printErr := m.print(cmd, record, record.rows()); printErr != nil {
		return errors.Join(printErr, err)
	}
	if err == nil && failed {
		return exit(exitFailed)
	}
	return err
}

// sendAll signs up by one road after the other. An error ends it, also a refused signup.
func (m *measuring) sendAll(ctx context.Context) error {
	for _, road := range m.roads {
		err := m.settle(ctx)
		if err == nil {
			err = m.send(ctx, nexus.Road(road))
		}
		switch {
		case ctx.Err() != nil:
			return &nexus.Error{Code: nexus.CodeCanceled, Op: "measure", Msg: "The measurement was interrupted."}
		case err != nil:
			return err
		}
	}
	return nil
}

// settle waits until workers make and drop no standbys, two minutes at most: that work is not
// to be measured. It does not wait for a shelf that cannot be filled.
func (m *measuring) settle(ctx context.Context) error {
	told := false
	for began := time.Now(); ; {
		benches, err := m.c.Benches(ctx)
		switch {
		case err != nil && (nexus.CodeOf(err) != nexus.Unavailable || len(m.samples) == 0 || time.Since(began) > patience):
			return err
		case err == nil && !slices.ContainsFunc(benches.Benches, func(b gen.Bench) bool { return slices.ContainsFunc(b.Pool, busyShelf) }):
			return nil
		case time.Since(began) > 2*time.Minute:
			fmt.Fprintln(m.log, "The shelves are not full yet; the figures may be worse for it.")
			return nil
		case !told:
			fmt.Fprintln(m.log, "Waiting until the shelves are full, two minutes at most (nexus pool show).")
			told = true
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

func busyShelf(s gen.Shelf) bool {
	toFill := s.Kept && !s.Drained && s.Failures == 0 && s.Shelved < s.Target
	return s.Making+s.Reaping > 0 || toFill
}

// send signs up by one road as often as was asked for, from as many goroutines as may be under
// way at once.
func (m *measuring) send(ctx context.Context, road nexus.Road) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	turns := make(chan int, m.signups)
	for i := range m.signups {
		turns <- i + 1
	}
	close(turns)
	var senders sync.WaitGroup
	for range min(m.concurrency, m.signups) {
		senders.Go(func() {
			for n := range turns {
				if ctx.Err() != nil {
					return
				}
				if err := m.one(ctx, road, n); err != nil {
					stop(err)
					return
				}
				if len(turns) > 0 && pause(ctx, m.gap) != nil {
					return
				}
			}
		})
	}
	senders.Wait()
	return context.Cause(ctx)
}

// one signs up, and waits for the end of the job. It is no error if the job fails.
func (m *measuring) one(ctx context.Context, road nexus.Road, n int) error {
	s := &sample{asked: road, name: fmt.Sprintf("measure-%s-%s-%d", m.tag, road, n)}
	accepted, refused, err := m.signup(ctx, s)
	if refused {
		return err
	}
	s.site, s.jobID = accepted.Site, accepted.JobId
	m.mu.Lock()
	m.samples = append(m.samples, s)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	job, err := finish(ctx, m.c, s.jobID, io.Discard)
	if s.job = job; !s.ended() {
		return unfinished(err)
	}
	s.failed = err
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(m.log, "  %s: %s\n", s.site, s.said())
	return nil
}

// unfinished is the error of a wait for a job that is canceled for it.
func unfinished(err error) error {
	wait, ok := errors.AsType[interrupted](err)
	switch {
	case !ok:
		return err
	case wait.idle:
		return &nexus.Error{Code: nexus.Unavailable, Op: "measure", Msg: "No worker runs, so nothing can be measured. Start one with: worker"}
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "measure", Msg: "The API has not answered for a minute; measure again when it does."}
}

// signup sends the request, again while the API does not answer. An interrupt does not end it,
// so that it is known what was recorded. Refused means that nothing was.
func (m *measuring) signup(ctx context.Context, s *sample) (accepted gen.Accepted, refused bool, err error) {
	body := gen.TenantRequest{Email: s.name + "@measure.invalid", Password: freshPassword(), FullName: "Measure", OrganizationName: s.name,
		Subdomain: s.name, Road: new(string(s.asked)), Country: given(m.country), Plan: given(m.plan)}
	key := string(nexus.NewJobID())
	began := time.Now()
	for sent := 1; ; sent++ {
		accepted, err = m.c.Create(context.WithoutCancel(ctx), body, key)
		code := nexus.CodeOf(err)
		if code != nexus.Unavailable || time.Since(began) > patience || pause(ctx, 2*time.Second) != nil {
			// One that was sent before may be recorded.
			refused = sent == 1 && slices.Contains([]nexus.Code{nexus.Invalid, nexus.Unauthenticated, nexus.Forbidden, nexus.Conflict, nexus.Limit, nexus.NotFound}, code)
			return accepted, refused, err
		}
	}
}
