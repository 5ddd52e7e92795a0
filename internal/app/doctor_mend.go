package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// mend mends a safe finding. The bench checks the owner again before it changes anything.
func (t tools) mend(ctx context.Context, f tasks.Finding) error {
	switch {
	case f.Shelve:
		return t.shelve(ctx, f)
	case f.Kind == tasks.UnusableStandby || f.Kind == tasks.MissingStandby:
		return t.dropStandby(ctx, f.Job, f.DB)
	case f.Kind == tasks.OtherState:
		return t.decide(ctx, f, f.Want)
	case f.Kind == tasks.StaleIntent && f.State != "":
		return t.fenced(ctx, f, func(gen nexus.Gen) error {
			if _, err := t.unchanged(ctx, f); err != nil {
				return err
			}
			return t.run(ctx, f, gen, nexus.Mark{State: f.State})
		})
	case f.Kind == tasks.UnseenJob:
		return t.store.Look(ctx, f.Job)
	case f.Kind == tasks.StuckTenant:
		if f.State == nexus.TenantMaking && f.DB != "" {
			if err := t.onBench(ctx, f, remover(!f.Made)); err != nil {
				return err
			}
		}
		return t.store.Unstick(ctx, f.Site, f.Job)
	default:
		return t.onBench(ctx, f, remover(f.Kind == tasks.OrphanAdoption))
	}
}

// shelve puts a standby that the registry does not know on its shelf.
func (t tools) shelve(ctx context.Context, f tasks.Finding) error {
	list, _, err := t.standbys(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s nexus.Standby) bool { return s.Job == f.Job })
	if i < 0 || list[i].Problem != "" {
		return errChanged
	}
	return t.store.Reshelve(ctx, t.name, list[i])
}

// remover is the operation that removes a job's site: an adopted one is given back.
func remover(adopted bool) nexus.Args {
	if adopted {
		return nexus.Disown{}
	}
	return nexus.DropSite{}
}

// decide opens or closes a tenant on both sides. To close it, the row is written before
// the bench, so that no worker purges the tenant by its old date in between; to open it,
// after the bench. A closed tenant gets a new grace period.
func (t tools) decide(ctx context.Context, f tasks.Finding, want nexus.TenantState) error {
	return t.fenced(ctx, f, func(gen nexus.Gen) error {
		row, err := t.unchanged(ctx, f)
		if err != nil {
			return err
		}
		if want == nexus.TenantActive {
			if err := t.run(ctx, f, gen, nexus.Mark{State: want}); err != nil {
				return err
			}
			return t.store.Restate(ctx, row, want, 0, gen)
		}
		grace := t.c.DeleteGrace
		if f.Safe && row.PurgeAt.IsZero() { // it had no purge date, and no operator asked for one
			grace = 0
		}
		if err := t.run(ctx, f, gen, nexus.Stop{}); err != nil { // so that a token that is too low is refused before the row is written
			return err
		}
		if err := t.store.Restate(ctx, row, want, grace, gen); err != nil {
			return err
		}
		return t.run(ctx, f, gen, nexus.Mark{State: want})
	})
}

// unchanged reads a tenant's row again: it must be as in the finding, and without a job.
// It must be called after the token was minted: a job that begins later has a higher token,
// so the bench refuses the doctor's.
func (t tools) unchanged(ctx context.Context, f tasks.Finding) (nexus.Tenant, error) {
	row, err := t.store.Tenant(ctx, f.Site)
	if err != nil {
		return row, err
	}
	if row.Job != "" || row.State != f.State || row.MadeBy != f.Job || !row.PurgeAt.Equal(f.PurgeAt) && f.Kind == tasks.OtherState {
		return row, errChanged
	}
	return row, nil
}

var errChanged = &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Msg: "It has changed meanwhile; run nexus doctor again."}

// onBench runs an operation for a finding.
func (t tools) onBench(ctx context.Context, f tasks.Finding, args nexus.Args) error {
	return t.fenced(ctx, f, func(gen nexus.Gen) error { return t.run(ctx, f, gen, args) })
}

func (t tools) run(ctx context.Context, f tasks.Finding, gen nexus.Gen, args nexus.Args) error {
	_, err := t.bench.Run(ctx, nexus.Op{Site: f.Site, Room: f.Room, DB: f.DB, Owner: f.Job, Gen: gen, Submitted: gen, Args: args})
	return err
}

// fenced calls do with a new token, which is above those of all jobs before. If the bench
// refuses the token as too low (a job has begun since, or Redis was restored from an older
// backup), it looks again, and tries a higher token only if the finding is still there.
func (t tools) fenced(ctx context.Context, f tasks.Finding, do func(nexus.Gen) error) error {
	return t.fencedWhile(ctx, func() error { return t.still(ctx, f) }, do)
}

// fencedWhile is fenced; still returns an error if what do is for has changed meanwhile.
func (t tools) fencedWhile(ctx context.Context, still func() error, do func(nexus.Gen) error) error {
	above := nexus.Gen(0)
	for range 3 {
		gen, err := t.store.MintGen(ctx, above)
		if err != nil {
			return err
		}
		if above > 0 {
			if err := still(); err != nil {
				return err
			}
		}
		err = do(gen)
		refused, ok := errors.AsType[*nexus.Error](err)
		if !ok || refused.Code != nexus.Fenced {
			return err
		}
		above = refused.Seen
	}
	return &nexus.Error{Code: nexus.Fenced, Op: "app.doctor", Msg: "Jobs keep working on this site; run nexus doctor again when they are over."}
}

func (t tools) still(ctx context.Context, f tasks.Finding) error {
	s, err := t.survey(ctx)
	if err == nil && !slices.Contains(tasks.Diagnose(s), f) {
		err = errChanged
	}
	return err
}

// fullNames completes subdomains to names of sites.
func (t tools) fullNames(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		if out[i] = strings.ToLower(name); !strings.Contains(name, ".") {
			out[i] += "." + t.c.Domain
		}
	}
	return out
}

// unknown returns a sentence for each tenant in Open and Close whose state is the same on
// both sides.
func (o DoctorOptions) unknown(found []tasks.Finding) (out []string) {
	for _, site := range slices.Concat(o.Open, o.Close) {
		if !slices.ContainsFunc(found, func(f tasks.Finding) bool { return f.Kind == tasks.OtherState && string(f.Site) == site }) {
			out = append(out, fmt.Sprintf("%s: its state is the same in the registry and on the bench; use nexus tenants restore or rm.", site))
		}
	}
	return out
}
