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

// CleanupOptions say what shall go.
type CleanupOptions struct {
	Globs []string // of the subdomain or of the full name, as path.Match has it
	Max   int      // as many may go at most, however large a part that is; 0: not said
}

// CleanupPlan is what goes, and what is spared though it matches.
type CleanupPlan struct {
	Items  []CleanupItem
	Spared []string // sentences
}

// CleanupItem is one thing that goes: a tenant, or what a dead job left.
type CleanupItem struct {
	Site   nexus.SiteName
	Name   string      // the site's, or the database's of what is no site
	What   string      // in a few words
	Tenant bool        // has a row: goes by a job
	MadeBy nexus.JobID // of a tenant
	Live   nexus.JobID // the job that makes it at this moment, to be canceled first

	finding tasks.Finding // of what is no tenant
}

// Cleaner carries a plan out.
type Cleaner struct{ tools }

// errUnwise is a cleanup that is refused before anything is looked at.
var errUnwise = &nexus.Error{Code: nexus.Invalid, Op: "app.cleanup", Msg: "A pattern that matches everything needs --max N: so many may go at most."}

// Cleanup plans the removal of what matches on the bench of the environment, and
// hands the plan to use, which decides.
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
		return t.listening(ctx, func() error { return use(plan, Cleaner{t}) })
	})
}

// listening does something while the ends of jobs are heard of at once.
func (t tools) listening(ctx context.Context, do func() error) error {
	ctx, stop := context.WithCancel(ctx)
	var ears sync.WaitGroup
	ears.Go(func() { _ = t.store.Listen(ctx) }) // without, Watch is only slower
	defer ears.Wait()
	defer stop()
	return do()
}

func (o CleanupOptions) check() error {
	if len(o.Globs) == 0 {
		return &nexus.Error{Code: nexus.Invalid, Op: "app.cleanup", Msg: "Say what shall go, such as: nexus cleanup 'test-*'"}
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

// matches tells whether a name is meant: in full, or without the domain.
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

// planCleanup says what goes: tenants of the registry, and what is ours and
// without one. Too large a part of all is refused.
func planCleanup(s tasks.Survey, o CleanupOptions, domain string) (plan CleanupPlan, err error) {
	p := planner{Survey: s, o: o, domain: domain, settled: map[nexus.SiteName]bool{}, told: map[nexus.SiteName]bool{}}
	for _, f := range tasks.Diagnose(s) {
		p.leftover(f)
	}
	for _, t := range s.Tenants {
		p.tenant(t)
	}
	for _, site := range s.Inventory.Sites {
		p.stranger(site)
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
			Msg: fmt.Sprintf("That would remove %d of %d, which is more than was allowed. If that is meant: --max %d", going, all, going)}
	}
	return p.plan, nil
}

type planner struct {
	tasks.Survey
	o       CleanupOptions
	domain  string
	settled map[nexus.SiteName]bool // what becomes of the tenant of this name
	told    map[nexus.SiteName]bool // whether anything of this name goes or stays
	plan    CleanupPlan
}

func (p *planner) spare(site nexus.SiteName, format string, args ...any) {
	p.settled[site], p.told[site] = true, true
	p.plan.Spared = append(p.plan.Spared, fmt.Sprintf("%s %s", site, fmt.Sprintf(format, args...)))
}

func (p *planner) take(item CleanupItem) {
	if item.Name == "" {
		item.Name = string(item.Site)
		p.told[item.Site] = true
	}
	p.plan.Items = append(p.plan.Items, item)
}

// leftover is a finding of the doctor; what may be somebody's is left to him.
func (p *planner) leftover(f tasks.Finding) {
	if !p.o.matches(f.Site, p.domain) {
		return
	}
	switch f.Kind {
	case tasks.UnrecordedSite:
		p.spare(f.Site, "is %s on the bench and has no record; bring it back with nexus doctor --rebuild.", f.State)
	case tasks.OrphanAdoption:
		p.spare(f.Site, "was only adopted; nexus doctor --fix gives it back.")
	case tasks.OtherOwner:
		p.spare(f.Site, "is on the bench, and not the one that the registry knows; an operator has to decide.")
	case tasks.StuckTenant:
		p.settled[f.Site] = true
		if f.State == nexus.TenantMaking && !f.Safe && p.opened(f.Site) {
			p.spare(f.Site, "was opened on the bench and may be in use, though its making never ended; an operator has to decide.")
			return
		}
		p.take(CleanupItem{Site: f.Site, What: "a tenant whose job is over", finding: f})
	case tasks.OrphanSite, tasks.HalfMadeSite, tasks.StaleIntent, tasks.OrphanDatabase, tasks.StaleTrash:
		if f.State != "" && f.Kind == tasks.StaleIntent || f.DB != f.Job.Database(p.Install) || !f.Job.Valid() {
			return
		}
		item := CleanupItem{Site: f.Site, What: strings.ReplaceAll(string(f.Kind), "_", " "), finding: f}
		if f.Kind == tasks.OrphanDatabase || f.Kind == tasks.StaleTrash { // another site may have the name by now
			item.Name = f.DB
			item.What += fmt.Sprintf(", once for %s", f.Site)
		}
		p.take(item)
	default: // a tenant's, or for people
	}
}

func (p *planner) opened(site nexus.SiteName) bool {
	return slices.ContainsFunc(p.Inventory.Sites, func(s nexus.SiteInfo) bool {
		return s.Site == site && s.State != "" && s.State != string(nexus.TenantMaking)
	})
}

func (p *planner) tenant(t nexus.Tenant) {
	if p.settled[t.Site] || !p.o.matches(t.Site, p.domain) {
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

// stranger says why a site that matches stays.
func (p *planner) stranger(site nexus.SiteInfo) {
	switch {
	case p.told[site.Site] || !p.o.matches(site.Site, p.domain):
	case site.Site == p.Master:
		p.spare(site.Site, "is the master site.")
	case site.Install == "":
		p.spare(site.Site, "was not made by Nexus.")
	case site.Install != p.Install:
		p.spare(site.Site, "belongs to another install of Nexus (%s).", site.Install)
	}
}

// Remove removes one item and waits for its end: a tenant by a job of the
// workers, anything else on the bench itself.
func (c Cleaner) Remove(ctx context.Context, item CleanupItem) error {
	if !item.Tenant {
		if f := item.finding; f.Kind != tasks.StuckTenant {
			return c.onBench(ctx, f, nexus.DropSite{})
		} else if f.State == nexus.TenantMaking {
			return c.mend(ctx, f)
		}
		// Suspended from here on, it goes as any tenant does.
		if err := c.mend(ctx, item.finding); err != nil {
			return err
		}
	}
	if item.Live != "" {
		job, err := c.store.Cancel(ctx, item.Live, "cleanup")
		if err == nil {
			job, err = c.ended(ctx, job.ID)
		}
		if err != nil || job.State != nexus.Succeeded {
			return errors.Join(err, unless(job, nexus.Canceled, nexus.Failed))
		}
	}
	if row, err := c.store.Tenant(ctx, item.Site); err != nil || item.Tenant && row.MadeBy != item.MadeBy {
		return cmp.Or(err, error(&nexus.Error{Code: nexus.Conflict, Op: "app.cleanup", Msg: "Another tenant has this name by now; it was left alone."}))
	}
	job, _, err := c.store.Submit(ctx, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindTeardown, Site: item.Site, Actor: "cleanup",
		Steps: tasks.Steps(nexus.KindTeardown), GiveUpAfter: c.c.ProvisionTimeout})
	if err != nil {
		return err
	}
	if job, err = c.ended(ctx, job.ID); err != nil {
		return err
	}
	return unless(job, nexus.Succeeded)
}

// unless is an error in words, if a job ended in none of these states.
func unless(job nexus.Job, well ...nexus.State) error {
	if slices.Contains(well, job.State) {
		return nil
	}
	text := fmt.Sprintf("The job %s is %s.", job.ID, job.State)
	if job.Error != nil {
		text = job.Error.Message
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "app.cleanup", Msg: text}
}
