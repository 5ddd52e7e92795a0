package tasks

import (
	"context"
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
		{Name: "company", Do: setUpCompany, Timeout: 15 * time.Minute, Attempts: 2},
		{Name: "freeze", Do: freeze, Undo: withdraw, Timeout: 2 * time.Minute, Attempts: 3},
	}}
}

// room is where the sites of a kind's jobs are.
func room(kind nexus.Kind) nexus.Room {
	return map[nexus.Kind]nexus.Room{nexus.KindTemplate: nexus.RoomTemplates, nexus.KindStandby: nexus.RoomStandby}[kind]
}

// makeTemplateSite makes a site whose Administrator has a password that nobody knows.
func makeTemplateSite(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.NewSite{})
	return err
}

// setUpCompany does Frappe's set-up wizard, unless the template is plain. A wizard that was
// interrupted cannot be repeated, so the site is removed and made anew.
func setUpCompany(ctx context.Context, k *Kit) error {
	spec := k.Job.Spec.Template
	if spec.Country() == "" {
		k.Note("Its sites meet Frappe's set-up wizard, which asks for the company.")
		return nil
	}
	for tries, whole := 0, !k.Again; tries < 2; tries, whole = tries+1, false {
		if !whole { // an earlier attempt may have been ended anywhere below
			for _, do := range []func(context.Context, *Kit) error{makeTemplateSite, installApps} {
				if err := do(ctx, k); err != nil {
					return err
				}
			}
		}
		result, err := k.Run(ctx, nexus.SetUp{Country: spec.Country(), Chart: spec.Chart()})
		if err != nil || !result.Skipped {
			return err
		}
		if err := dropSite(ctx, k); err != nil {
			return err
		}
	}
	return &nexus.Error{Code: nexus.Internal, Op: "tasks.company", Msg: "The bench did not do the set-up wizard on a site that was just made."}
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
