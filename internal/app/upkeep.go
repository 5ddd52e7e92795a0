package app

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// A template that is wanted and missing is built again after a pause, whatever became of the
// last build: sites may be refused by each template that is built.
const (
	buildAgain = time.Hour
	buildSoon  = 10 * time.Minute // if the bench's apps have changed
)

// keeperActor is the actor of the jobs that a keeper submits.
const keeperActor = "templates"

// keeper builds the templates that are configured, and drops those that are of no use any
// more. Every worker has one; two that act at once do no harm, since only one job builds
// each template, and a removal is idempotent.
type keeper struct {
	tools
	log     *slog.Logger
	wanted  []nexus.TemplateSpec
	waits   bool                      // for the bench to be announced, or for a build
	suspect map[nexus.SiteName]string // templates that would be dropped, by the problem that they had the last time
}

func newKeeper(t tools, log *slog.Logger) *keeper {
	return &keeper{tools: t, log: log, wanted: t.c.templateSpecs(), suspect: map[nexus.SiteName]string{}}
}

// round lists the templates, then acts once. It acts on an open bench only.
func (k *keeper) round(ctx context.Context) error {
	quick := k.waits
	k.waits = false
	last := map[nexus.TemplateSpec]nexus.Job{} // read before the bench lists, since a build may end meanwhile
	for _, spec := range k.wanted {
		job, err := k.store.LastBuild(ctx, k.name, spec.Key(k.c.Apps))
		if err != nil {
			return err
		}
		last[spec] = job
	}
	have, known, err := k.offerTemplates(ctx)
	if err != nil || !known {
		return err
	}
	mode, err := k.mode(ctx)
	if err != nil || mode != nexus.BenchOpen {
		k.waits = err == nil && mode == "" && len(k.wanted) > 0
		return err
	}
	ids := make([]nexus.JobID, len(have))
	for i, t := range have {
		ids[i] = t.Job
	}
	jobs, _, err := k.store.JobsByID(ctx, ids)
	if err != nil {
		return err
	}
	work := tasks.UpkeepOf(k.wanted, k.c.Apps, have, func(id nexus.JobID) bool {
		job, found := jobs[id]
		return found && !job.State.Terminal()
	})
	if !quick { // else two rounds are seconds apart
		if err := k.drop(ctx, work.Drop); err != nil {
			return err
		}
	}
	for _, spec := range work.Build {
		if err := k.build(ctx, spec, last[spec], have); err != nil {
			return err
		}
	}
	return nil
}

// pause is the time until the next round.
func (k *keeper) pause() time.Duration {
	if k.waits {
		return listSoon
	}
	return listEvery
}

// mode is whether the bench admits new jobs; empty: no worker has announced it yet.
func (t tools) mode(ctx context.Context) (nexus.BenchMode, error) {
	bench, err := t.status(ctx)
	return bench.Mode, err
}

// status is what the registry has of the bench; zero: no worker has announced it yet.
func (t tools) status(ctx context.Context) (nexus.BenchStatus, error) {
	benches, err := t.store.Benches(ctx)
	if i := slices.IndexFunc(benches, func(b nexus.BenchStatus) bool { return b.Name == t.name }); i >= 0 {
		return benches[i], err
	}
	return nexus.BenchStatus{}, err
}

// drop removes templates that were to be removed in the last round too, for the same reason:
// an upgrade of the bench that is under way may still be taken back.
func (k *keeper) drop(ctx context.Context, old []nexus.Template) error {
	before := k.suspect
	k.suspect = map[nexus.SiteName]string{}
	for _, t := range old {
		problem, seen := before[t.Name]
		if k.suspect[t.Name] = t.Problem; !seen || problem != t.Problem {
			continue
		}
		err := k.dropTemplate(ctx, t.Name, func(string, nexus.Template) error { return nil })
		switch nexus.CodeOf(err) {
		case "":
			k.log.InfoContext(ctx, "template dropped", "template", string(t.Name), "why", t.Problem)
		case nexus.NotFound, nexus.Conflict, nexus.Fenced: // another worker or an operator was faster
		default:
			return err
		}
	}
	return nil
}

// build submits a job, unless the last one is live, or ended within the pause after it.
func (k *keeper) build(ctx context.Context, spec nexus.TemplateSpec, last nexus.Job, have []nexus.Template) error {
	if last.ID != "" && !last.State.Terminal() {
		k.waits = k.waits || last.State != nexus.RollbackFailed // that one waits for an operator
		return nil
	}
	if last.ID != "" && time.Since(last.UpdatedAt) < pauseAfter(last, have) {
		return nil
	}
	if able, err := k.able(ctx, templateSchema); err != nil || !able {
		return err
	}
	sub := store.BuildTemplate(k.name, spec, k.c.Apps, keeperActor, tasks.Steps(nexus.KindTemplate), k.c.ProvisionTimeout)
	job, _, err := k.store.Submit(ctx, sub)
	if nexus.CodeOf(err) == nexus.Conflict { // another worker was faster
		return nil
	}
	if err == nil {
		k.waits = true
		k.log.InfoContext(ctx, "template is built", "template", string(job.Site), nexus.LogJob, string(job.ID))
	}
	return err
}

// pauseAfter is the time from the end of a build to the next one. It is short if the bench
// was upgraded since, or meanwhile, which is a conflict.
func pauseAfter(last nexus.Job, have []nexus.Template) time.Duration {
	upgraded := slices.ContainsFunc(have, func(t nexus.Template) bool { return t.Name == last.Site && t.Stale })
	if last.State == nexus.Succeeded && upgraded || last.Error != nil && last.Error.Code == nexus.Conflict {
		return buildSoon
	}
	return buildAgain
}

// able reports whether the bench is set up, and its database has this version of the
// procedures. What it lacks is told by nexus bench check.
func (t tools) able(ctx context.Context, schema int) (bool, error) {
	hello, err := t.hello(ctx)
	return err == nil && (t.c.Bench != "docker" || hello.Install == t.install && hello.Schema >= schema), err
}

// The first versions of the database's procedures that have those of templates, and those
// of standbys.
const (
	templateSchema = 3
	poolSchema     = 4
)
