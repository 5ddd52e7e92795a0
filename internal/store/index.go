package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// indexedKey holds a time (ms): all jobs recorded before it are in the index of their
// kind and state.
const indexedKey = prefix + "jobs:indexed"

func stateIndex(kind nexus.Kind, state nexus.State) string {
	return jobsKey + ":" + string(kind) + ":" + string(state)
}

// stateOf returns the state of the jobs in an index.
func stateOf(list string) string { return list[strings.LastIndexByte(list, ':')+1:] }

const (
	indexAtOnce = 200
	indexAtMost = 3 * time.Second // in a call of the API
	indexEvery  = time.Minute
)

// KeepLists repairs the indexes of states once a minute until the context ends, since
// workers and APIs of a former version do not update them. One process at a time does it.
// It calls failed with each error, and tries again a minute later.
func (s *Store) KeepLists(ctx context.Context, failed func(error)) error {
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	for {
		mine, err := s.Turn(ctx, "turn:lists", indexEvery*9/10)
		if err == nil && mine {
			err = s.Reindex(ctx)
		}
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// listed builds the indexes if there are none, as in a registry that a former version wrote.
func (s *Store) listed(ctx context.Context) error {
	if s.indexed.Load() {
		return nil
	}
	n, err := s.rdb.Exists(ctx, indexedKey).Result()
	if err != nil {
		return classify("listed", err)
	}
	if n == 0 { // KeepLists builds them too, but a small registry need not wait for it
		short, stop := context.WithTimeout(ctx, indexAtMost)
		defer stop()
		if err := s.Reindex(short); short.Err() != nil && ctx.Err() == nil {
			return &nexus.Error{Code: nexus.Unavailable, Op: "store.listed", Err: err, RetryAfter: 10 * time.Second,
				Msg: "The lists are being made for this version; please try again in a moment."}
		} else if err != nil {
			return err
		}
	}
	s.indexed.Store(true)
	return nil
}

// Reindex repairs the indexes of jobs and tenants by state. Cost: one script for each 200
// entries. The entries are the jobs recorded since the last run (all jobs on the first run),
// the jobs that are not over, and the tenants.
func (s *Store) Reindex(ctx context.Context) error {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return classify("reindex", err)
	}
	since, err := s.rdb.Get(ctx, indexedKey).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return classify("reindex", err)
	}
	if now.Sub(time.UnixMilli(since)) > time.Hour {
		err = s.walk(ctx, jobsKey, "job", "")
	} else {
		var fresh []string
		if fresh, err = s.rdb.ZRangeByScore(ctx, jobsKey, &redis.ZRangeBy{Min: strconv.FormatInt(since, 10), Max: "+inf"}).Result(); err == nil {
			err = s.reindexAll(ctx, jobsKey, "job", "", fresh)
		}
	}
	for _, kind := range nexus.Kinds() {
		for _, state := range nexus.States() {
			if err == nil && !state.Terminal() {
				err = s.walk(ctx, stateIndex(kind, state), "job", string(state))
			}
		}
	}
	if err == nil {
		err = s.walk(ctx, tenantsKey, "tenant", "")
	}
	if err == nil {
		err = s.rdb.Set(ctx, indexedKey, now.Add(-indexEvery).UnixMilli(), 0).Err()
	}
	if err != nil {
		return classify("reindex", err)
	}
	return nil
}

// walk reindexes every entry of an index.
func (s *Store) walk(ctx context.Context, list, what, state string) error {
	for at := uint64(0); ; {
		entries, next, err := s.rdb.ZScan(ctx, list, at, "", indexAtOnce).Result()
		if err != nil {
			return err
		}
		names := make([]string, 0, len(entries)/2)
		for i := 0; i < len(entries); i += 2 { // names and scores
			names = append(names, entries[i])
		}
		if err := s.reindexAll(ctx, list, what, state, names); err != nil || next == 0 {
			return err
		}
		at = next
	}
}

func (s *Store) reindexAll(ctx context.Context, list, what, state string, names []string) error {
	for len(names) > 0 {
		n := min(len(names), indexAtOnce)
		if err := s.reindex(ctx, list, what, state, names[:n]...); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

func (s *Store) reindex(ctx context.Context, list, what, state string, names ...string) error {
	args := []any{what, state}
	for _, name := range names {
		args = append(args, name)
	}
	_, err := s.run(ctx, "reindex", reindexScript(), list, args...)
	return err
}
