package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// topic is a job that is watched in this process. Each change is read from Redis once, for
// all of its watchers.
type topic struct {
	wake  []chan struct{} // one for each watcher; guarded by the store's mutex
	woken atomic.Uint64   // how many wake-ups have come

	mu     sync.Mutex // held during a read; guards all below. A watcher that waited for it uses what was read
	read   bool
	tells  bool          // some watcher wants the events too
	at     time.Time     // of the last read
	seen   uint64        // the value of woken before the last read
	job    *nexus.Job    // shared by the watchers, so never modified
	events []nexus.Event // those with a rev above from
	from   int64
}

const (
	lookAgain = 15 * time.Second // read again after this time, since a wake-up may be lost
	lookKept  = time.Second      // how long a read without a wake-up is reused
	lookIdle  = time.Minute      // how often a subscription is questioned: it ends if nobody watches
	tailKept  = 256              // how many events are kept for watchers that have not read them
)

// Patience limits a wait in addition to its context; the zero value sets no limit. It is not
// a context, since a context with a timer takes a kilobyte for each watcher.
type Patience struct {
	For  time.Duration   // longest wait; 0: no limit
	Left <-chan struct{} // ends the wait when it is closed; nil: never
}

// Watch blocks until a job's rev differs from the given one, or until the context or the
// patience ends, and returns the job as it is then. A negative rev waits for the end of
// the job. Without Listen it polls every 15 s. Cost: one round trip per change, for all
// watchers.
func (s *Store) Watch(ctx context.Context, id nexus.JobID, rev int64, p Patience) (nexus.Job, error) {
	job, _, err := s.watch(ctx, id, rev, p, false)
	if err != nil {
		return nexus.Job{}, err
	}
	return *job, nil
}

// Follow is Watch that also returns the events after the rev, oldest first. The job is
// shared by all watchers, and nil with an error: a stream lives long, and a record on its
// stack would take a kilobyte of each.
func (s *Store) Follow(ctx context.Context, id nexus.JobID, rev int64, p Patience) (*nexus.Job, []nexus.Event, error) {
	return s.watch(ctx, id, rev, p, true)
}

func (s *Store) watch(ctx context.Context, id nexus.JobID, rev int64, p Patience, follow bool) (*nexus.Job, []nexus.Event, error) {
	t, woken, stop := s.subscribe(id)
	defer stop()
	until := time.Now().Add(p.For)
	for tired := false; ; {
		job, events, whole, err := s.look(context.WithoutCancel(ctx), t, id, rev, follow)
		if err != nil {
			return nil, nil, err
		}
		done := job.State.Terminal() || (rev >= 0 && job.Rev != rev) || (rev < 0 && job.State == nexus.RollbackFailed)
		if done || tired || ctx.Err() != nil {
			if follow && !whole {
				events, err = s.Events(ctx, id, rev)
			}
			return job, events, err
		}
		again := lookAgain
		if p.For > 0 {
			again = min(again, time.Until(until))
		}
		timer := time.NewTimer(again)
		select {
		case <-woken:
		case <-timer.C:
			tired = p.For > 0 && !time.Now().Before(until)
		case <-ctx.Done():
		case <-p.Left:
			tired = true
		}
		timer.Stop()
	}
}

// look reads a watched job and its new events, or returns what another watcher read since
// the last wake-up, if that is not older than what the watcher knows. Whole tells that these
// are all events after the rev.
func (s *Store) look(ctx context.Context, t *topic, id nexus.JobID, after int64, follow bool) (job *nexus.Job, events []nexus.Event, whole bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if follow && !t.tells {
		t.tells, t.read, t.events, t.from = true, false, nil, max(after, 0)
	}
	if woken := t.woken.Load(); !t.read || t.seen != woken || time.Since(t.at) > lookKept || t.job.Rev < after {
		if err := s.refresh(ctx, t, id); err != nil {
			t.read = false
			return nil, nil, false, err
		}
		t.read, t.seen, t.at = true, woken, time.Now()
	}
	if !follow || after < t.from {
		return t.job, nil, false, nil
	}
	at, _ := slices.BinarySearchFunc(t.events, after+1, func(e nexus.Event, rev int64) int { return int(e.Rev - rev) })
	return t.job, slices.Clone(t.events[at:]), true, nil
}

// refresh reads the record and then the events after the known ones, so that no event up
// to the record's rev is missed. Cost: one round trip.
func (s *Store) refresh(ctx context.Context, t *topic, id nexus.JobID) error {
	newest := t.from
	if len(t.events) > 0 {
		newest = t.events[len(t.events)-1].Rev
	}
	pipe := s.rdb.Pipeline()
	fields := pipe.HGetAll(ctx, jobKey(id))
	entries := &redis.XMessageSliceCmd{}
	if t.tells {
		entries = pipe.XRange(ctx, eventsKey(id), afterRev(newest), "+")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return classify("watch", err)
	}
	if len(fields.Val()) == 0 {
		return noJob("watch")
	}
	job, err := decodeJob(fields.Val())
	if err != nil {
		return err
	}
	fresh, err := decodeEvents(entries.Val())
	if err != nil {
		return err
	}
	if t.job = &job; job.Rev < newest { // Redis lost its last writes: drop the events that are not in it
		t.events, t.from = nil, job.Rev
		return nil
	}
	t.events = append(t.events, fresh...)
	if many := len(t.events); many > tailKept {
		t.from = t.events[many-tailKept-1].Rev
		t.events = slices.Clone(t.events[many-tailKept:])
	}
	return nil
}

func (s *Store) subscribe(id nexus.JobID) (*topic, <-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.watched[id]
	if t == nil {
		t = &topic{}
		s.watched[id] = t
	}
	if len(s.watched) == 1 {
		select {
		case s.needed <- struct{}{}:
		default: // a signal is pending already
		}
	}
	t.wake = append(t.wake, c)
	return t, c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.wake = slices.DeleteFunc(t.wake, func(other chan struct{}) bool { return other == c }); len(t.wake) == 0 {
			delete(s.watched, id)
		}
	}
}

// Listen wakes the watchers of this process until the context ends, by one subscription.
// While nobody watches there is none, since a message comes with every change of every
// job. It subscribes again after an error.
func (s *Store) Listen(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.needed:
		}
		if err := s.listen(ctx); err != nil {
			return err
		}
	}
}

// listen subscribes until the context ends or nobody watches any more. Watchers look once
// more whenever the subscription begins, since what happened before sent them no message.
func (s *Store) listen(ctx context.Context) error {
	sub := s.rdb.Subscribe(ctx, wakeKey)
	defer sub.Close() //nolint:errcheck // an error here changes nothing
	messages := sub.ChannelWithSubscriptions()
	tick := time.NewTicker(s.idle)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s.watchedJobs() == 0 {
				return nil
			}
		case m, ok := <-messages:
			if !ok {
				return errors.New("store: the subscription ended")
			}
			switch m := m.(type) {
			case *redis.Message:
				s.wakeWatchers(nexus.JobID(m.Payload))
			case *redis.Subscription:
				s.wakeAll()
			}
		}
	}
}

func (s *Store) watchedJobs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watched)
}

func (s *Store) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.watched {
		t.rouse()
	}
}

func (s *Store) wakeWatchers(id nexus.JobID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.watched[id]; t != nil {
		t.rouse()
	}
}

// rouse wakes the watchers of a job. The caller holds the store's mutex.
func (t *topic) rouse() {
	t.woken.Add(1)
	for _, c := range t.wake {
		select {
		case c <- struct{}{}:
		default: // a wake-up is pending already
		}
	}
}
