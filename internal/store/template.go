package store

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// BenchTemplate is a template, as a worker of its bench last listed it.
type BenchTemplate struct {
	nexus.Template
	Bench   string `json:"-"`
	Offered bool   `json:"-"` // new sites are copied from it
}

// OfferTemplates replaces what is known of a bench's templates. For each key the newest
// template without a problem is offered: reserve chooses it. A wrong entry costs a job a
// detour, since the bench checks the template before it is copied.
func (s *Store) OfferTemplates(ctx context.Context, bench string, templates []nexus.Template) error {
	best := map[string]nexus.Template{}
	for _, t := range templates {
		if key := t.Spec.Key(t.Apps); t.Problem == "" && !t.MadeAt.Before(best[key].MadeAt) {
			best[key] = t
		}
	}
	args := []any{bench, encode(templates)}
	for key, t := range best {
		args = append(args, key, string(t.Name))
	}
	_, err := s.run(ctx, "offer", offerScript(), templatesKey(bench), args...)
	return err
}

// WithdrawTemplate removes a template from what is offered on a bench.
func (s *Store) WithdrawTemplate(ctx context.Context, bench string, name nexus.SiteName) error {
	_, err := s.run(ctx, "withdraw", withdrawScript(), offersKey(bench), string(name))
	return err
}

// Templates lists the templates of all benches that workers have served.
func (s *Store) Templates(ctx context.Context) (out []BenchTemplate, err error) {
	benches, err := s.rdb.SMembers(ctx, benchesKey).Result()
	if err != nil {
		return nil, classify("templates", err)
	}
	for _, bench := range benches {
		text, err := s.rdb.Get(ctx, templatesKey(bench)).Bytes()
		if errors.Is(err, redis.Nil) {
			continue
		}
		offers, err2 := s.rdb.HVals(ctx, offersKey(bench)).Result()
		var list []nexus.Template
		if err = errors.Join(err, err2); err == nil {
			err = json.Unmarshal(text, &list)
		}
		if err != nil {
			return nil, classify("templates", err)
		}
		for _, t := range list {
			out = append(out, BenchTemplate{Template: t, Bench: bench, Offered: slices.Contains(offers, string(t.Name))})
		}
	}
	return out, nil
}

// Divert records that the job's site is made by another road than the one that Reserve
// chose.
func (l *Lease) Divert(ctx context.Context, road nexus.Road) error {
	_, err := l.run(ctx, "divert", divertScript, string(road))
	return err
}
