package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// CleanupOptions say what to remove.
type CleanupOptions struct {
	Globs []string // patterns of path.Match for the subdomain or the full name
	Max   int      // the most that may be removed; 0: a fifth of all
}

// CleanupPlan is what a cleanup removes, and what matches and is kept.
type CleanupPlan struct {
	Items  []CleanupItem
	Spared []string // sentences that say why
}

// CleanupItem is one thing to remove: a tenant, or what a job has left.
type CleanupItem struct {
	Site   nexus.SiteName
	Name   string      // of the site, or of the database if there is no site
	What   string      // a few words
	Tenant bool        // it has a row, and is removed by a job
	MadeBy nexus.JobID // of a tenant
	Live   nexus.JobID // the job that is making it, to be canceled first

	finding tasks.Finding // if it is not a tenant
}

// Cleaner carries out a plan.
type Cleaner struct{ tools }

var errUnwise = &nexus.Error{Code: nexus.Invalid, Op: "app.cleanup", Msg: "A pattern that matches everything needs --max N, the most that may be removed."}

// Cleanup plans the removal of what matches on the configured bench, and calls use with
// the plan.
func Cleanup(ctx context.Context, environ []string, o CleanupOptions, use func(CleanupPlan, Cleaner) error) error {
	if err := o.check(); err != nil {
		return err
	}
	return withTools(ctx, environ, func(t tools) error {
		if err := t.sameInstall(ctx); err != nil {
			return err
		}
		s, err := t.survey(ctx)
		if err != nil {
			return err
		}
		plan, err := planCleanup(s, o, t.c.Domain)
		if err != nil {
			return err
		}
		return t.withListen(ctx, func() error { return use(plan, Cleaner{t}) })
	})
}

// withListen calls a function while the store is subscribed to changes of jobs, so that a
// Watch returns at once.
func (t tools) withListen(ctx context.Context, do func() error) error {
	ctx, stop := context.WithCancel(ctx)
	var listener sync.WaitGroup
	listener.Go(func() { _ = t.store.Listen(ctx) }) // if it fails, Watch polls
	defer listener.Wait()
	defer stop()
	return do()
}

func (o CleanupOptions) check() error {
	if len(o.Globs) == 0 {
		return &nexus.Error{Code: nexus.Invalid, Op: "app.cleanup", Msg: "Give a pattern of what to remove, such as: nexus cleanup 'test-*'"}
	}
	for _, glob := range o.Globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return &nexus.Error{Code: nexus.Invalid, Op: "app.cleanup", Msg: fmt.Sprintf("%q is not a pattern such as 'test-*'.", glob), Err: err}
		}
		if strings.Trim(glob, "*?.") == "" && o.Max <= 0 {
			return errUnwise
		}
	}
	return nil
}

// matches reports whether a pattern matches the full name or the subdomain.
func (o CleanupOptions) matches(site nexus.SiteName, domain string) bool {
	for _, glob := range o.Globs {
		for _, name := range []string{string(site), strings.TrimSuffix(string(site), "."+domain)} {
			if ok, _ := path.Match(strings.ToLower(glob), name); ok && name != "" { // the pattern was checked
				return true
			}
		}
	}
	return false
}

// planCleanup plans the removal of tenants, and of what belongs to this install and to no
// tenant. It refuses to remove more than a fifth of all, or more than Max.
func planCleanup(s tasks.Survey, o CleanupOptions, domain string) (plan CleanupPlan, err error) {
	p := planner{Survey: s, o: o, domain: domain, decided: map[nexus.SiteName]bool{}, mentioned: map[nexus.SiteName]bool{}}
	for _, f := range tasks.Diagnose(s) {
		p.leftover(f)
	}
	for _, t := range s.Tenants {
		p.tenant(t)
	}
	for _, site := range s.Inventory.Sites {
		p.foreign(site)
	}
	slices.SortFunc(p.plan.Items, func(a, b CleanupItem) int { return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Name, b.Name)) })
	going, all := len(p.plan.Items), len(s.Tenants)
	for _, item := range p.plan.Items {
		if !item.Tenant {
			all++
		}
	}
	if going > 3 && going*5 > all && o.Max <= 0 || o.Max > 0 && going > o.Max {
		return p.plan, &nexus.Error{Code: nexus.Forbidden, Op: "app.cleanup",
			Msg: fmt.Sprintf("That would remove %d of %d, which is more than allowed. To remove them all the same: --max %d", going, all, going)}
	}
	return p.plan, nil
}

type planner struct {
	tasks.Survey
	o         CleanupOptions
	domain    string
	decided   map[nexus.SiteName]bool // sites whose row is in the plan already
	mentioned map[nexus.SiteName]bool // sites that are in the plan already
	plan      CleanupPlan
}

func (p *planner) spare(site nexus.SiteName, format string, args ...any) {
	p.decided[site], p.mentioned[site] = true, true
	p.plan.Spared = append(p.plan.Spared, fmt.Sprintf("%s %s", site, fmt.Sprintf(format, args...)))
}

func (p *planner) take(item CleanupItem) {
	if item.Name == "" {
		item.Name = string(item.Site)
		p.mentioned[item.Site] = true
	}
	p.plan.Items = append(p.plan.Items, item)
}

// leftover plans what to do about a finding of the doctor. What may be in use is kept.
func (p *planner) leftover(f tasks.Finding) {
	if f.Room != "" || !p.o.matches(f.Site, p.domain) { // templates and standbys are no sites
		return
	}
	switch f.Kind {
	case tasks.UnrecordedSite:
		p.spare(f.Site, "is %s on the bench and not in the registry; nexus doctor --rebuild makes its row.", f.State)
	case tasks.OrphanAdoption:
		p.spare(f.Site, "was adopted and not made by Nexus; nexus doctor --fix gives it back.")
	case tasks.OtherOwner:
		p.spare(f.Site, "is on the bench, but is not the one in the registry; find out which is right.")
	case tasks.StuckTenant:
		p.decided[f.Site] = true
		if f.State == nexus.TenantMaking && !f.Safe && p.opened(f.Site) {
			p.spare(f.Site, "was opened on the bench and may be in use, although the job that made it is not over; look who uses it.")
			return
		}
		p.take(CleanupItem{Site: f.Site, What: "a tenant whose job is over", finding: f})
	case tasks.OrphanSite, tasks.HalfMadeSite, tasks.StaleIntent, tasks.OrphanDatabase, tasks.StaleTrash:
		if f.State != "" && f.Kind == tasks.StaleIntent || !f.Made || !f.Job.Valid() {
			return
		}
		item := CleanupItem{Site: f.Site, What: strings.ReplaceAll(string(f.Kind), "_", " "), finding: f}
		if f.Kind == tasks.OrphanDatabase || f.Kind == tasks.StaleTrash { // another site may have the name now
			item.Name = f.DB
			item.What += fmt.Sprintf(", once of %s", f.Site)
		}
		p.take(item)
	default: // it is about a tenant, or needs an operator
	}
}

func (p *planner) opened(site nexus.SiteName) bool {
	return slices.ContainsFunc(p.Inventory.Sites, func(s nexus.SiteInfo) bool {
		return s.Site == site && s.State != "" && s.State != string(nexus.TenantMaking)
	})
}

func (p *planner) tenant(t nexus.Tenant) {
	if p.decided[t.Site] || !p.o.matches(t.Site, p.domain) {
		return
	}
	item := CleanupItem{Site: t.Site, What: fmt.Sprintf("tenant, %s", t.State), Tenant: true, MadeBy: t.MadeBy}
	switch job := p.Jobs[t.Job]; {
	case t.Site == p.Master:
		p.spare(t.Site, "is the master site.")
		return
	case job.State == nexus.RollbackFailed:
		p.spare(t.Site, "has a parked job; first: nexus jobs resume %s", t.Job)
		return
	case t.State == nexus.TenantDeleting:
		p.spare(t.Site, "is being removed already.")
		return
	case t.State == nexus.TenantMaking:
		item.Live = t.Job
	}
	p.take(item)
}

// foreign spares a site that matches and does not belong to this install.
func (p *planner) foreign(site nexus.SiteInfo) {
	switch {
	case p.mentioned[site.Site] || !p.o.matches(site.Site, p.domain):
	case site.Site == p.Master:
		p.spare(site.Site, "is the master site.")
	case site.Install == "":
		p.spare(site.Site, "was not made by Nexus.")
	case site.Install != p.Install:
		p.spare(site.Site, "belongs to another install of Nexus (%s).", site.Install)
	}
}

// Remove removes one item and waits until it is gone: a tenant by a job, anything else by
// an operation on the bench.
func (c Cleaner) Remove(ctx context.Context, item CleanupItem) error {
	if !item.Tenant {
		if f := item.finding; f.Kind != tasks.StuckTenant {
			return c.onBench(ctx, f, nexus.DropSite{})
		} else if f.State == nexus.TenantMaking {
			return c.mend(ctx, f)
		}
		// The row is suspended now, so the tenant can be removed by a job.
		if err := c.mend(ctx, item.finding); err != nil {
			return err
		}
	}
	if item.Live != "" {
		job, err := c.store.Cancel(ctx, item.Live, "cleanup")
		if err == nil {
			job, err = c.await(ctx, job.ID)
		}
		if err != nil || job.State != nexus.Succeeded {
			return errors.Join(err, wantEnd(job, nexus.Canceled, nexus.Failed))
		}
	}
	if row, err := c.store.Tenant(ctx, item.Site); err != nil || item.Tenant && row.MadeBy != item.MadeBy {
		return cmp.Or(err, error(&nexus.Error{Code: nexus.Conflict, Op: "app.cleanup", Msg: "Another tenant has this name now, and was not removed."}))
	}
	job, _, err := c.store.Submit(ctx, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindTeardown, Site: item.Site, Actor: "cleanup",
		Steps: tasks.Steps(nexus.KindTeardown), GiveUpAfter: c.c.ProvisionTimeout})
	if err != nil {
		return err
	}
	if job, err = c.await(ctx, job.ID); err != nil {
		return err
	}
	return wantEnd(job, nexus.Succeeded)
}

// wantEnd returns an error unless a job ended in one of these states.
func wantEnd(job nexus.Job, states ...nexus.State) error {
	if slices.Contains(states, job.State) {
		return nil
	}
	text := fmt.Sprintf("The job %s is %s.", job.ID, job.State)
	if job.Error != nil {
		text = job.Error.Message
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "app.cleanup", Msg: text}
}
