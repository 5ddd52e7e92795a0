package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// progress records what a step reports while it runs. It has no write under way when the
// step ends, since a late write would restore an older journal.
type progress struct {
	mu     sync.Mutex
	text   string
	last   time.Time
	closed bool
	writes sync.WaitGroup
}

func (p *progress) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.last, p.closed = "", time.Time{}, false
}

func (p *progress) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.writes.Wait()
}

func (p *progress) remark(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

// note is the step's remark, or the earlier one if the step made none.
func (p *progress) note(former string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != "" {
		return p.text
	}
	return former
}

// send runs a write in parallel to the step, at most twice a second; more frequent reports
// are dropped.
func (p *progress) send(now time.Time, write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || now.Sub(p.last) < 500*time.Millisecond {
		return
	}
	p.last = now
	p.writes.Go(write)
}

// kit is what a step works with. It writes records through the lease, so that every write
// of a step carries the fencing token.
func (r *run) kit(ctx context.Context, entry *nexus.Step) *tasks.Kit {
	job, name := r.job, entry.Name
	job.Steps = slices.Clone(r.job.Steps)
	kit := &tasks.Kit{
		Job: job, Again: entry.Starts > 1, Bench: r.e.Bench, Records: records{r.lease, r}, Keys: r.e.Keys,
		Settings: r.e.Settings, Input: r.lease.Input(), Sealed: r.sealed, Note: r.progress.remark,
	}
	kit.Progress = func(message string, percent int) {
		r.progress.send(r.e.Now(), func() {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			live := job
			live.Steps = slices.Clone(job.Steps)
			live.Step(name).Percent = max(percent, 0)
			live.Step(name).Note = message
			if _, err := r.lease.Checkpoint(one, &live, "", nexus.Event{Step: name, Percent: max(percent, 0), Note: message}); err != nil {
				r.e.Log.DebugContext(ctx, "progress not written", nexus.LogErr, err)
			}
		})
	}
	return kit
}

// records is the part of the lease that a step uses; it also updates the run's copy of
// the job.
type records struct {
	*store.Lease
	r *run
}

// Reserve takes a slot on a bench, writes bench and database name, and chooses the road.
func (s records) Reserve(ctx context.Context, bench, db string, templates ...string) error {
	way, err := s.Lease.Reserve(ctx, bench, db, templates...)
	if err == nil {
		s.r.job.Bench = bench
		s.r.job.Take(way)
	}
	return err
}

// Divert chooses a longer road to the site.
func (s records) Divert(ctx context.Context, db string, templates ...string) (nexus.Way, error) {
	way, err := s.Lease.Divert(ctx, db, templates...)
	if err == nil {
		s.r.e.Metrics.diverted.WithLabelValues(string(s.r.job.Road)).Inc()
		s.r.e.Log.WarnContext(ctx, "site made by another road", "from", string(s.r.job.Road), "to", string(way.Road), "template", string(s.r.job.Template))
		s.r.job.Take(way)
	}
	return way, err
}

// Offer records what sites of the job's bench can be copied from.
func (s records) Offer(ctx context.Context, templates []nexus.Template) error {
	return s.r.e.Store.OfferTemplates(ctx, s.r.job.Bench, templates)
}

// Withdraw removes a template of the job's bench from what is offered.
func (s records) Withdraw(ctx context.Context, template nexus.SiteName) error {
	return s.r.e.Store.WithdrawTemplate(ctx, s.r.job.Bench, template)
}
