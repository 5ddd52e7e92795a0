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

// mend does what a safe finding needs. The bench looks once more whose all of it is.
func (t tools) mend(ctx context.Context, f tasks.Finding) error {
	adopted := f.DB != f.Job.Database(t.install)
	switch {
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
			if err := t.onBench(ctx, f, remover(adopted)); err != nil {
				return err
			}
		}
		return t.store.Unstick(ctx, f.Site, f.Job)
	default:
		return t.onBench(ctx, f, remover(f.Kind == tasks.OrphanAdoption))
	}
}

// remover takes away what a job made; what it had only adopted is given back.
func remover(adopted bool) nexus.Args {
	if adopted {
		return nexus.Disown{}
	}
	return nexus.DropSite{}
}

// decide makes a tenant open or closed on both sides. The row is written first where
// it closes, so that no purge of a former date comes in between, and last where it
// opens. A closed tenant's grace begins anew: the two have just disagreed.
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
		if f.Safe && row.PurgeAt.IsZero() { // it had no purge date, and nobody asked for one
			grace = 0
		}
		if err := t.run(ctx, f, gen, nexus.Stop{}); err != nil { // refused as too old before the row is written
			return err
		}
		if err := t.store.Restate(ctx, row, want, grace, gen); err != nil {
			return err
		}
		return t.run(ctx, f, gen, nexus.Mark{State: want})
	})
}

// unchanged reads a tenant's row again: it must be as the finding has it, and no job
// on it. To be called after the token was minted: a job that begins later has a higher
// one, and the bench refuses ours.
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

var errChanged = &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Msg: "It changed meanwhile; look again."}

// onBench runs an operation for a finding.
func (t tools) onBench(ctx context.Context, f tasks.Finding, args nexus.Args) error {
	return t.fenced(ctx, f, func(gen nexus.Gen) error { return t.run(ctx, f, gen, args) })
}

func (t tools) run(ctx context.Context, f tasks.Finding, gen nexus.Gen, args nexus.Args) error {
	_, err := t.bench.Run(ctx, nexus.Op{Site: f.Site, DB: f.DB, Owner: f.Job, Gen: gen, Submitted: gen, Args: args})
	return err
}

// fenced does something with a token of its own, which beats those of whatever may
// still run. Refused as too old (a job began meanwhile, or Redis was restored from an
// older copy), it goes on only if registry and bench, looked at anew, still have the
// very finding.
func (t tools) fenced(ctx context.Context, f tasks.Finding, do func(nexus.Gen) error) error {
	above := nexus.Gen(0)
	for range 3 {
		gen, err := t.store.MintGen(ctx, above)
		if err != nil {
			return err
		}
		if above > 0 {
			if err := t.still(ctx, f); err != nil {
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
	return &nexus.Error{Code: nexus.Fenced, Op: "app.doctor", Msg: "Others keep working on this site."}
}

func (t tools) still(ctx context.Context, f tasks.Finding) error {
	s, err := t.survey(ctx)
	if err == nil && !slices.Contains(tasks.Diagnose(s), f) {
		err = errChanged
	}
	return err
}

// inFull completes subdomains to the names of sites.
func (t tools) inFull(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		if out[i] = strings.ToLower(name); !strings.Contains(name, ".") {
			out[i] += "." + t.c.Domain
		}
	}
	return out
}

// unknown says of which named tenants there is nothing to decide.
func (o DoctorOptions) unknown(found []tasks.Finding) (out []string) {
	for _, site := range slices.Concat(o.Open, o.Close) {
		if !slices.ContainsFunc(found, func(f tasks.Finding) bool { return f.Kind == tasks.OtherState && string(f.Site) == site }) {
			out = append(out, fmt.Sprintf("%s: registry and bench do not differ on whether it is open; use nexus tenants restore or rm.", site))
		}
	}
	return out
}
