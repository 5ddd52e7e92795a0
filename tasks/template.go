package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// template makes a template: a site in a room of its own, with the apps, that is frozen at
// the end. It has no tenant.
func template() Process {
	return Process{Kind: nexus.KindTemplate, Steps: []Step{
		{Name: "reserve", Do: reserve, Timeout: 5 * time.Second, Attempts: Forever, RecordOnly: true},
		{Name: "site", Do: makeTemplateSite, Undo: dropSite, Timeout: 10 * time.Minute, Attempts: 3},
		{Name: "apps", Do: installApps, Timeout: 10 * time.Minute, Attempts: 2},
		{Name: "freeze", Do: freeze, Undo: withdraw, Timeout: 2 * time.Minute, Attempts: 3},
	}}
}

// room is where the sites of a kind's jobs are.
func room(kind nexus.Kind) nexus.Room {
	if kind == nexus.KindTemplate {
		return nexus.RoomTemplates
	}
	return ""
}

// makeTemplateSite makes a site whose Administrator has a password that nobody knows.
func makeTemplateSite(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.NewSite{})
	return err
}

// freeze freezes the site, and offers what the bench then lists.
func freeze(ctx context.Context, k *Kit) error {
	if _, err := k.Run(ctx, nexus.Freeze{Spec: k.Job.Spec.Template, Apps: k.Job.Spec.Apps}); err != nil {
		return err
	}
	all, err := k.Run(ctx, nexus.Templates{})
	if err != nil {
		return err
	}
	return k.Records.Offer(ctx, all.Templates)
}

// withdraw keeps jobs from choosing a template that is dropped next.
func withdraw(ctx context.Context, k *Kit) error {
	if k.Job.Bench == "" {
		return nil
	}
	return k.Records.Withdraw(ctx, k.Job.Site)
}

// templateKeys lists the templates that a job's site may be copied from, best first.
func templateKeys(job nexus.Job) []string {
	if job.Kind != nexus.KindProvision {
		return nil
	}
	return []string{nexus.TemplatePlain.Key(job.Spec.Apps)}
}

// cloneTime is how long a copy may take, many times what one takes.
const cloneTime = 2 * time.Minute

// cloneTries is how many attempts at the step copy a template; those after them take the
// longer road.
const cloneTries = 2

// cloneSite copies the job's template. Made is false if the site has to be made by
// new-site, which is recorded then.
func cloneSite(ctx context.Context, k *Kit) (made bool, err error) {
	from := k.Job.Template
	why := "Copying a template failed before."
	if entry := k.Job.Step("site"); entry == nil || entry.Attempts < cloneTries {
		short, stop := context.WithTimeout(ctx, cloneTime)
		result, err := k.Run(short, nexus.Clone{Template: from, AdminPassword: k.Settings.AdminPassword})
		stop()
		code := nexus.CodeOf(err)
		switch {
		case err == nil && !result.Skipped:
			k.Note(fmt.Sprintf("Copied from the template %s.", from))
			return true, nil
		case err == nil:
			why = result.Note
		case code == nexus.Internal || code == nexus.Timeout && ctx.Err() == nil:
			why = nexus.MessageOf(err)
		default:
			return false, err
		}
		// Until the bench is listed next, no other job tries it.
		if err := k.Records.Withdraw(ctx, from); err != nil {
			return false, err
		}
	}
	if err := k.Records.Divert(ctx, nexus.RoadNewSite); err != nil {
		return false, err
	}
	k.Note(fmt.Sprintf("The template %s could not be copied, so this takes longer. %s", from, why))
	return false, nil
}
