package store

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// LeaseAt is the lease of a run that still has this token.
func LeaseAt(s *Store, id nexus.JobID, gen nexus.Gen) *Lease {
	l := &Lease{s: s, id: id}
	l.gen.Store(int64(gen))
	return l
}

// SetIdle sets how often a subscription is questioned.
func (s *Store) SetIdle(d time.Duration) { s.idle = d }

// WatchedJobs is the number of jobs with watchers in this process.
func (s *Store) WatchedJobs() int { return s.watchedJobs() }

// Slot is Reserve for a job whose road does not matter.
func (l *Lease) Slot(ctx context.Context, bench, db string) error {
	_, err := l.Reserve(ctx, bench, db)
	return err
}
