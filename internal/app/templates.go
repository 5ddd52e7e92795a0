package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// How often a worker lists the templates of its bench, also while it waits for the bench or
// for a build.
const (
	listEvery = time.Minute
	listSoon  = 5 * time.Second
)

// keepTemplates writes the list of the bench's templates to the registry, and builds and drops
// templates, until the context ends. So a template that became unusable is no longer chosen,
// and one that a restored registry does not know is chosen again. If the bench cannot be
// asked, nothing changes.
func (a *app) keepTemplates(ctx context.Context, t tools) error {
	if a.c.single() { // users of the master site are not copied
		return nil
	}
	k := newKeeper(t, a.log)
	var repeats nexus.Repeats
	for {
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			repeats.Log(ctx, a.log, slog.LevelWarn, "templates", "templates of the bench not listed", nexus.LogErr, err)
			k.waits = false
		}
		timer := time.NewTimer(k.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// offerTemplates writes the list of the bench's templates to the registry, and returns it.
func (t tools) offerTemplates(ctx context.Context) (list []nexus.Template, known bool, err error) {
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	list, known, err = t.templates(short)
	if err != nil || !known {
		return nil, false, err
	}
	if t.listed != nil {
		t.listed.Store(&list)
	}
	return list, true, t.store.OfferTemplates(short, t.name, list)
}

// templateSpecs are what the bench's templates are for: first those that workers build, in the
// order of NEXUS_TEMPLATES, then the others that it had when it was listed last.
func (t tools) templateSpecs() []nexus.TemplateSpec {
	out := t.c.templateSpecs()
	if list := t.listed.Load(); list != nil {
		for _, each := range *list {
			out = append(out, each.Spec)
		}
	}
	return out
}

// templates lists the bench's templates. Known is false if the bench has no such operation:
// a single site, or a bench of a former version.
func (t tools) templates(ctx context.Context) (list []nexus.Template, known bool, err error) {
	if t.c.single() {
		return nil, false, nil
	}
	result, err := t.bench.Run(ctx, nexus.Op{Args: nexus.Templates{}})
	if nexus.CodeOf(err) == nexus.Invalid {
		return nil, false, nil
	}
	return result.Templates, err == nil, err
}

// DropTemplate removes a template from the configured bench, after sure has agreed. Not_found:
// the bench has no such template. Conflict: a job is building it. Forbidden: single-tenant
// mode has no templates.
func DropTemplate(ctx context.Context, environ []string, name nexus.SiteName, sure func(bench string, t nexus.Template) error) error {
	return withTools(ctx, environ, func(t tools) error {
		if t.c.single() {
			return &nexus.Error{Code: nexus.Forbidden, Op: "app.templates", Msg: "Here signups become users of one site, so there are no templates."}
		}
		if err := t.sameInstall(ctx); err != nil {
			return err
		}
		return t.dropTemplate(ctx, name, sure)
	})
}

// dropTemplate withdraws the template first, so that no job chooses it any more. A job that
// copies it makes its site the longer way.
func (t tools) dropTemplate(ctx context.Context, name nexus.SiteName, sure func(bench string, t nexus.Template) error) error {
	found, err := t.finished(ctx, name)
	if err == nil {
		err = sure(t.name, found)
	}
	if err == nil {
		err = t.store.WithdrawTemplate(ctx, t.name, name)
	}
	if err != nil {
		return err
	}
	still := func() error {
		now, err := t.finished(ctx, name)
		if err == nil && now.Job != found.Job {
			err = errChanged
		}
		return err
	}
	err = t.fencedWhile(ctx, still, func(gen nexus.Gen) error {
		_, err := t.bench.Run(ctx, nexus.Op{Site: name, Room: nexus.RoomTemplates, DB: found.DB, Owner: found.Job, Gen: gen, Submitted: gen, Args: nexus.DropSite{}})
		return err
	})
	if err != nil {
		return err
	}
	_, _, _ = t.offerTemplates(ctx) // else a worker writes the list within a minute
	return nil
}

// finished finds a template that no job is building.
func (t tools) finished(ctx context.Context, name nexus.SiteName) (nexus.Template, error) {
	list, _, err := t.templates(ctx)
	if err != nil {
		return nexus.Template{}, err
	}
	i := slices.IndexFunc(list, func(each nexus.Template) bool { return each.Name == name })
	if i < 0 {
		return nexus.Template{}, &nexus.Error{Code: nexus.NotFound, Op: "app.templates",
			Msg: fmt.Sprintf("The bench %s has no template %s; nexus templates list shows them.", t.name, name)}
	}
	found := list[i]
	if !found.Job.Valid() || found.DB != found.Job.Database(t.install) {
		return found, &nexus.Error{Code: nexus.Conflict, Op: "app.templates",
			Msg: fmt.Sprintf("It is not known which job made %s. Find out whose it is, then remove the folder sites/.nexus/templates/%s and its database by hand.", name, name)}
	}
	jobs, _, err := t.store.JobsByID(ctx, []nexus.JobID{found.Job})
	switch job := jobs[found.Job]; {
	case err != nil:
		return found, err
	case job.State == nexus.RollbackFailed:
		return found, &nexus.Error{Code: nexus.Conflict, Op: "app.templates",
			Msg: fmt.Sprintf("The job that builds %s is parked; once the cause is mended, it removes the template: nexus jobs resume %s", name, found.Job)}
	case job.State != "" && !job.State.Terminal():
		return found, &nexus.Error{Code: nexus.Conflict, Op: "app.templates",
			Msg: fmt.Sprintf("A job is building %s; cancel it instead: nexus jobs cancel %s", name, found.Job)}
	}
	return found, nil
}
