package tasks

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// adopt makes a tenant of a site that Nexus did not make: it writes the marker, and gives
// the admin a new key if that was asked for. The undo leaves the site as it was, with the
// admin's former key.
func adopt() Process {
	return Process{Kind: nexus.KindAdopt, Steps: []Step{
		{Name: "adopt", Do: adoptSite, Undo: undone(disownSite), Timeout: 30 * time.Second, Attempts: 4},
		{Name: "plan", Do: applyPlan, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "api_key", Do: newKey, Seal: newPairIfAsked, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "verify", Do: verifyNewKey, Seal: newPairIfAsked, Timeout: 15 * time.Second, Attempts: Forever},
		{Name: "activate", Do: activate, Timeout: 10 * time.Second, Attempts: Forever, Proven: true},
	}}
}

// adoptSite records the name of the site's database before it writes the marker.
func adoptSite(ctx context.Context, k *Kit) error {
	if k.Job.DB == "" {
		result, err := k.Run(ctx, nexus.Inspect{})
		if err != nil {
			return err
		}
		if result.Site == nil || !result.Site.Folder || result.Site.DB == "" {
			return &nexus.Error{Code: nexus.NotFound, Op: "tasks.adopt",
				Msg: fmt.Sprintf("There is no site %s on the bench.", k.Job.Site)}
		}
		if err := k.Records.Reserve(ctx, k.Settings.Bench, result.Site.DB); err != nil {
			return err
		}
		k.Job.Bench, k.Job.DB = k.Settings.Bench, result.Site.DB
	}
	_, err := k.Run(ctx, nexus.Adopt{Email: k.Job.Spec.Email})
	return err
}

func disownSite(ctx context.Context, k *Kit) error {
	if k.Job.DB == "" { // the marker was never written
		return nil
	}
	if err := refuseOpened(ctx, k); err != nil {
		return err
	}
	_, err := k.Run(ctx, nexus.Disown{})
	return err
}

func newPairIfAsked(k *Kit) (string, error) {
	if !k.Job.Spec.NewKey {
		return "", nil
	}
	return newPair(k)
}

func newKey(ctx context.Context, k *Kit) error {
	if !k.Job.Spec.NewKey {
		k.Note("The site's keys stay as they are.")
		return nil
	}
	return issueKey(ctx, k)
}

func verifyNewKey(ctx context.Context, k *Kit) error {
	if !k.Job.Spec.NewKey {
		return nil
	}
	return verifyExisting(ctx, k)
}
