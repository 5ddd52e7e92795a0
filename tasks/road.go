package tasks

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// shortTries is how many attempts at the step site take a short cut; those after them take
// the longest road.
const shortTries = 2

// How long a short cut may take, many times what one takes.
const (
	claimTime = 30 * time.Second
	cloneTime = 2 * time.Minute
)

// templateKeys lists the templates that a job's site may be copied from, best first. A job
// that a former version recorded, which does not name the company, has none with a company.
func templateKeys(k *Kit) (keys []string) {
	spec := k.Job.Spec
	switch k.Job.Kind {
	case nexus.KindProvision:
		country := spec.Template.Country()
		if k.Job.Step("company") == nil {
			country = ""
		}
		var all []nexus.TemplateSpec
		if k.Settings.Templates != nil {
			all = k.Settings.Templates()
		}
		for _, each := range nexus.FittingSpecs(country, all) {
			keys = append(keys, each.Key(spec.Apps))
		}
	case nexus.KindStandby:
		keys = []string{spec.Template.Key(spec.Apps)}
	}
	return keys
}

// ownDatabase is the name of the database that the job's site has, unless it is a standby.
func ownDatabase(k *Kit) string { return k.Job.Owner.Database(k.Settings.Install) }

// makeSite makes the site by the road that reserve recorded. A short cut that fails is left
// for a longer road, which is recorded before it is taken: standby, clone, new-site.
func makeSite(ctx context.Context, k *Kit) error {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf(format, args...))
		k.Note(strings.Join(notes, " "))
	}
	if asked := k.Job.Spec.Road; asked != "" && asked != cmp.Or(k.Job.Road, nexus.RoadNewSite) {
		note("The road that was asked for, %s, could not be taken.", asked)
	}
	for {
		var why string
		var err error
		switch k.Job.Road {
		case nexus.RoadStandby:
			if why, err = claimSite(ctx, k); err == nil && why == "" {
				note("It was kept ready, as a copy of the template %s.", k.Job.Template)
				return nil
			}
		case nexus.RoadClone:
			if why, err = cloneSite(ctx, k); err == nil && why == "" {
				note("Copied from the template %s.", k.Job.Template)
				return nil
			}
		default:
			_, err := k.Run(ctx, nexus.NewSite{AdminPassword: k.Settings.AdminPassword})
			return err
		}
		if err != nil {
			return err
		}
		switch {
		case k.Job.Road == nexus.RoadStandby:
			note("A site that was kept ready could not be used, so this takes longer. %s", why)
		case len(notes) > 0:
			note("The template %s could not be copied either. %s", k.Job.Template, why)
		default:
			note("The template %s could not be copied, so this takes longer. %s", k.Job.Template, why)
		}
		if err := detour(ctx, k); err != nil {
			return err
		}
	}
}

// claimSite takes the job's standby. Why says why it cannot be used; empty: the site is made.
func claimSite(ctx context.Context, k *Kit) (why string, err error) {
	plan, err := planOf(k)
	if err != nil {
		return "", err
	}
	got, err := shortCut(ctx, k, claimTime, nexus.Claim{Standby: nexus.StandbyName(k.Job.Standby), Maker: k.Job.Standby, Plan: plan})
	if err == nil && got.begun {
		// The job may have got the database, or all of the standby. It must go before the
		// job has another database.
		_, err = k.Run(ctx, nexus.DropSite{})
	}
	return got.why, err
}

// cloneSite copies the job's template. Why says why it cannot be copied; empty: the site is
// made. Until the bench is listed next, no other job tries such a template.
func cloneSite(ctx context.Context, k *Kit) (why string, err error) {
	got, err := shortCut(ctx, k, cloneTime, nexus.Clone{Template: k.Job.Template, AdminPassword: k.Settings.AdminPassword})
	if err == nil && got.why != "" && got.tried {
		err = k.Records.Withdraw(ctx, k.Job.Template)
	}
	return got.why, err
}

// attempt is what became of a short cut.
type attempt struct {
	why   string // why the next longer road has to be taken; empty: the site is made
	tried bool   // false: it has failed too often, and was not tried again
	begun bool   // a part of the site may be there
}

// shortCut tries an operation that makes the site. An error is one that the step ends with.
func shortCut(ctx context.Context, k *Kit, most time.Duration, args nexus.Args) (attempt, error) {
	if failedOften(k) {
		return attempt{why: "It failed before.", begun: true}, nil
	}
	short, stop := context.WithTimeout(ctx, most)
	defer stop()
	result, err := k.Run(short, args)
	code := nexus.CodeOf(err)
	switch {
	case err == nil && !result.Skipped:
		return attempt{tried: true}, nil
	case err == nil:
		return attempt{why: cmp.Or(result.Note, "The bench did not say why."), tried: true}, nil
	case code == nexus.Internal || code == nexus.Timeout && ctx.Err() == nil:
		return attempt{why: nexus.MessageOf(err), tried: true, begun: true}, nil
	}
	return attempt{}, err
}

// failedOften tells whether the step has to take the longest road.
func failedOften(k *Kit) bool {
	entry := k.Job.Step("site")
	return entry != nil && entry.Attempts >= shortTries
}

// detour records the next longer road.
func detour(ctx context.Context, k *Kit) error {
	var keys []string
	if k.Job.Road == nexus.RoadStandby && !failedOften(k) {
		keys = templateKeys(k)
	}
	way, err := k.Records.Divert(ctx, ownDatabase(k), keys...)
	if err == nil {
		k.Job.Take(way)
	}
	return err
}
