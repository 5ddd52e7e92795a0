package store

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// BenchTemplate is a template, as a worker of its bench last listed it.
type BenchTemplate struct {
	nexus.Template
	Bench   string
	Offered bool // new sites are copied from it
}

// OfferTemplates replaces what is known of a bench's templates. Those of NewestTemplates are
// offered: reserve chooses among them. A wrong entry costs a job a detour, since the bench
// checks the template before it is copied.
func (s *Store) OfferTemplates(ctx context.Context, bench string, templates []nexus.Template) error {
	args := []any{bench, encode(templates)}
	for key, t := range nexus.NewestTemplates(templates) {
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

// BuildTemplate is the submission of a job that builds a template on a bench. The caller adds
// to it.
func BuildTemplate(bench string, spec nexus.TemplateSpec, apps []string, actor string, steps []nexus.StepName, giveUp time.Duration) Submission {
	id := nexus.NewJobID()
	return Submission{ID: id, Kind: nexus.KindTemplate, Site: nexus.TemplateName(spec, id), Actor: actor, Steps: steps,
		Spec: nexus.Spec{Template: spec, Apps: apps}, Build: spec.Key(apps), Bench: bench, GiveUpAfter: giveUp}
}

// LastBuild returns the last job that built templates of a key on a bench; the zero Job:
// there is none, or its record has expired.
func (s *Store) LastBuild(ctx context.Context, bench, key string) (nexus.Job, error) {
	id, err := s.rdb.HGet(ctx, prefix+"builds:"+bench, key).Result()
	if errors.Is(err, redis.Nil) {
		return nexus.Job{}, nil
	}
	if err != nil {
		return nexus.Job{}, classify("last_build", err)
	}
	job, err := s.Job(ctx, nexus.JobID(id))
	if nexus.CodeOf(err) == nexus.NotFound {
		return nexus.Job{}, nil
	}
	return job, err
}
