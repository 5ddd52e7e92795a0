package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// SetKnows stores the lists and limits of a bench, which signups are checked against. The
// worker that announces the bench calls it. An equal value is not written again. Cost:
// one round trip, or two.
func (s *Store) SetKnows(ctx context.Context, bench string, k nexus.Knows) error {
	text, err := json.Marshal(k)
	if err != nil {
		return classify("set_knows", err)
	}
	have, err := s.rdb.Get(ctx, knowsKey(bench)).Bytes()
	if err != nil && !errors.Is(err, redis.Nil) {
		return classify("set_knows", err)
	}
	if bytes.Equal(have, text) {
		return nil
	}
	if err := s.rdb.Set(ctx, knowsKey(bench), text, 0).Err(); err != nil {
		return classify("set_knows", err)
	}
	return nil
}

// Knows returns the lists and limits of each bench, by name; a bench that has none is left
// out. They take about 40 KiB per bench, so callers cache them. Cost: two round trips.
func (s *Store) Knows(ctx context.Context) (map[string]nexus.Knows, error) {
	names, err := s.rdb.SMembers(ctx, benchesKey).Result()
	if err != nil {
		return nil, classify("knows", err)
	}
	out := map[string]nexus.Knows{}
	if len(names) == 0 {
		return out, nil
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = knowsKey(name)
	}
	texts, err := s.rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, classify("knows", err)
	}
	for i, each := range texts {
		var k nexus.Knows
		text, ok := each.(string)
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return nil, &nexus.Error{Code: nexus.Internal, Op: "store.knows", Msg: "What the bench " + names[i] + " said cannot be read.", Err: err}
		}
		out[names[i]] = k
	}
	return out, nil
}
