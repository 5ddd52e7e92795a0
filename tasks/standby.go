package tasks

import (
	"context"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// standby makes a copy of a template for the shelf. It has no tenant. The script that ends
// the job puts it on the shelf.
func standby() Process {
	return Process{Kind: nexus.KindStandby, Steps: []Step{
		{Name: "reserve", Do: reserve, Timeout: 5 * time.Second, Attempts: Forever, RecordOnly: true},
		{Name: "site", Do: copyTemplate, Undo: dropSite, Timeout: cloneTime, Attempts: 3},
		{Name: "shelve", Do: shelve, Timeout: time.Minute, Attempts: 3},
	}}
}

// copyTemplate copies the template that reserve chose. There is no longer road to a standby.
func copyTemplate(ctx context.Context, k *Kit) error {
	if k.Job.Road != nexus.RoadClone {
		return &nexus.Error{Code: nexus.Conflict, Op: "tasks.standby", Msg: "There is no template that a standby could be copied from."}
	}
	result, err := k.Run(ctx, nexus.Clone{Template: k.Job.Template, AdminPassword: k.Settings.AdminPassword})
	if err != nil || !result.Skipped {
		return err
	}
	if err := k.Records.Withdraw(ctx, k.Job.Template); err != nil {
		return err
	}
	return &nexus.Error{Code: nexus.Conflict, Op: "tasks.standby", Msg: strings.TrimSpace("The template cannot be copied. " + result.Note)}
}

func shelve(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Shelve{})
	return err
}
