package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// DoctorReport is what the doctor found and mended.
type DoctorReport struct {
	Findings []tasks.Finding `json:"findings"`         // not mended
	Mended   []tasks.Finding `json:"mended,omitempty"` // found and mended
	Failed   []string        `json:"failed,omitempty"` // sentences on what could not be mended
	Tenants  int             `json:"tenants"`
	Foreign  int             `json:"foreign"` // sites on the bench of others; they are no findings
}

// DoctorOptions say what the doctor may change.
type DoctorOptions struct {
	Fix     bool // mend the safe findings
	Rebuild bool // make rows from the markers of sites that the registry does not know
	// Open and Close are the tenants, by subdomain or full name, to open and to close on
	// both sides, of those that are open on one side only.
	Open, Close []string
}

// fixRounds is how often the doctor looks again after it has mended something: that may
// lead to another safe finding.
const fixRounds = 3

// Doctor compares the registry with the configured bench.
func Doctor(ctx context.Context, environ []string, o DoctorOptions) (report DoctorReport, err error) {
	err = withTools(ctx, environ, func(t tools) error {
		if err := t.sameInstall(ctx); err != nil {
			return err
		}
		report, err = t.doctor(ctx, o)
		return err
	})
	if report.Findings == nil {
		report.Findings = []tasks.Finding{}
	}
	return report, err
}

func (t tools) doctor(ctx context.Context, o DoctorOptions) (report DoctorReport, err error) {
	if report, err = t.diagnose(ctx); err != nil {
		return report, err
	}
	o.Open, o.Close = t.fullNames(o.Open), t.fullNames(o.Close)
	unknown := o.unknown(report.Findings)
	for range fixRounds {
		mended, failed := t.mendAll(ctx, o, report.Findings)
		if len(mended) == 0 && len(failed) == 0 {
			break
		}
		next, err := t.diagnose(ctx)
		if err != nil {
			return report, err
		}
		next.Mended, next.Failed = append(report.Mended, mended...), failed
		if report = next; len(mended) == 0 {
			break
		}
	}
	report.Failed = append(unknown, report.Failed...)
	return report, ctx.Err()
}

// sameInstall refuses a bench that was set up with another registry: none of its sites
// would be this install's.
func (t tools) sameInstall(ctx context.Context) error {
	hello, err := t.hello(ctx)
	if err != nil || hello.Install == t.install || hello.Install == "" && t.c.Bench != "docker" {
		return err
	}
	if hello.Install == "" {
		return &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Msg: "The bench is not set up for Nexus; run: nexus bench init"}
	}
	return &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Err: fmt.Errorf("bench %s, registry %s", hello.Install, t.install),
		Msg: fmt.Sprintf("The bench belongs to the install %[1]s, and this registry to another one. If the registry was lost, give the new one the old id "+
			"(redis-cli SET {nexus}:install %[1]s), restart all processes, and run: nexus doctor --rebuild", hello.Install)}
}

// diagnose looks twice if the first look finds anything, and returns what both find: a job
// may have worked between the reads of registry and bench.
func (t tools) diagnose(ctx context.Context) (DoctorReport, error) {
	s, err := t.survey(ctx)
	if err != nil {
		return DoctorReport{}, err
	}
	hello, err := t.hello(ctx)
	if err != nil {
		return DoctorReport{}, err
	}
	found := tasks.Diagnose(s)
	if len(found) > 0 {
		if s, err = t.survey(ctx); err != nil {
			return DoctorReport{}, err
		}
		again := tasks.Diagnose(s)
		found = slices.DeleteFunc(found, func(f tasks.Finding) bool { return !slices.Contains(again, f) })
	}
	for _, p := range hello.Problems {
		found = append(found, tasks.Finding{Kind: tasks.BenchProblem, What: p.What, Mend: p.Mend})
	}
	return DoctorReport{Findings: found, Tenants: len(s.Tenants), Foreign: s.Foreign()}, nil
}

// survey reads the bench, all rows, and every job that one of them names.
func (t tools) survey(ctx context.Context) (tasks.Survey, error) {
	s := tasks.Survey{Install: t.install, Master: nexus.SiteName(t.c.MasterSite)}
	var err error
	if s.Inventory, err = t.inventory(ctx); err != nil {
		return s, err
	}
	if s.Templates, _, err = t.templates(ctx); err != nil {
		return s, err
	}
	if s.Standbys, _, err = t.standbys(ctx); err != nil {
		return s, err
	}
	if s.Shelves, err = t.store.Shelves(ctx, t.name); err != nil {
		return s, err
	}
	if s.Tenants, err = t.store.TenantRows(ctx); err != nil {
		return s, err
	}
	s.Tenants = slices.DeleteFunc(s.Tenants, t.onOtherBench)
	s.Jobs, s.Unseen, err = t.store.JobsByID(ctx, namedJobs(s))
	return s, err
}

// onOtherBench reports whether a tenant is on another bench.
func (t tools) onOtherBench(row nexus.Tenant) bool {
	return t.name != "" && row.Bench != "" && row.Bench != t.name
}

func (t tools) inventory(ctx context.Context) (all nexus.InventoryResult, err error) {
	for after := ""; ; {
		result, err := t.bench.Run(ctx, nexus.Op{Args: nexus.Inventory{After: after}})
		if err != nil {
			return all, err
		}
		page := result.Inventory
		if page == nil {
			return all, errors.New("the bench answered without an inventory")
		}
		all.Sites, all.Intents = append(all.Sites, page.Sites...), append(all.Intents, page.Intents...)
		all.Databases, all.Folders = append(all.Databases, page.Databases...), append(all.Folders, page.Folders...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// namedJobs lists the jobs that rows and bench name.
func namedJobs(s tasks.Survey) []nexus.JobID {
	ids := map[nexus.JobID]bool{}
	for _, row := range s.Tenants {
		ids[row.Job], ids[row.MadeBy] = true, true
	}
	for _, site := range s.Inventory.Sites {
		ids[site.Job] = true
	}
	for _, intent := range s.Inventory.Intents {
		ids[intent.Job] = true
	}
	for _, db := range s.Inventory.Databases {
		ids[db.Job] = true
	}
	for _, folder := range s.Inventory.Folders {
		ids[folder.Job] = true
	}
	for _, template := range s.Templates {
		ids[template.Job] = true
	}
	for _, id := range slices.Concat(standbyJobs(s.Standbys), shelfJobs(s.Shelves)) {
		ids[id] = true
	}
	delete(ids, "")
	return slices.Collect(maps.Keys(ids))
}

// mendAll mends the findings that the options allow.
func (t tools) mendAll(ctx context.Context, o DoctorOptions, found []tasks.Finding) (mended []tasks.Finding, failed []string) {
	for _, f := range found {
		var err error
		switch {
		case o.Rebuild && f.Kind == tasks.UnrecordedSite:
			err = t.rebuild(ctx, f)
		case f.Kind == tasks.OtherState && slices.Contains(o.Open, string(f.Site)):
			err = t.decide(ctx, f, nexus.TenantActive)
		case f.Kind == tasks.OtherState && slices.Contains(o.Close, string(f.Site)):
			err = t.decide(ctx, f, nexus.TenantSuspended)
		case o.Fix && f.Safe:
			err = t.mend(ctx, f)
		default:
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %s", f.Site, nexus.MessageOf(err)))
			continue
		}
		mended = append(mended, f)
	}
	return mended, failed
}

// rebuild makes a tenant's row from the site's marker.
func (t tools) rebuild(ctx context.Context, f tasks.Finding) error {
	result, err := t.bench.Run(ctx, nexus.Op{Site: f.Site, Args: nexus.Inspect{}})
	if err != nil {
		return err
	}
	site := result.Site
	if site == nil || site.Install != t.install || !site.Job.Valid() || site.DB == "" {
		return &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Msg: "Its marker is gone or incomplete, so its row cannot be made; restore its site_config.json."}
	}
	state := nexus.TenantState(site.State)
	switch state {
	case nexus.TenantActive, nexus.TenantSuspended:
	case nexus.TenantDeleting:
		state = nexus.TenantSuspended // so that it can be removed again
	default:
		return &nexus.Error{Code: nexus.Conflict, Op: "app.doctor", Msg: "Its marker says " + site.State + ": it was never finished, so it gets no row."}
	}
	plan := site.Plan
	if plan == "" {
		plan = nexus.DefaultPlan
	}
	return t.store.Rebuild(ctx, nexus.Tenant{Site: site.Site, State: state, Plan: plan, Email: site.Email, Bench: t.name, DB: site.DB,
		MadeBy: site.Job, StateGen: site.StateGen, CreatedAt: site.MadeAt})
}

// How often the findings are counted, and how soon after a worker's start.
const (
	doctorEvery = 10 * time.Minute
	doctorFirst = time.Minute
)

// watchDoctor counts the findings every ten minutes until the context ends; of a bench's
// workers one does it. Nothing is mended.
func (a *app) watchDoctor(ctx context.Context, st *store.Store, driver nexus.Bench) error {
	if a.c.single() { // the master site is no bench of ours
		return nil
	}
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "nexus_doctor_findings",
		Help: "Differences between registry and bench, by kind; nexus doctor tells them. One worker of each bench counts, the others say nothing."}, []string{"kind"})
	a.registry.MustRegister(gauge)
	t := tools{c: a.c, install: a.install, bench: driver, name: a.c.benchName(), store: st}
	timer := time.NewTimer(doctorFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := t.count(ctx, gauge); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "bench and registry not compared", nexus.LogErr, err)
		}
		timer.Reset(doctorEvery)
	}
}

// count sets the gauge, if it is this worker's turn; else it has none.
func (t tools) count(ctx context.Context, gauge *prometheus.GaugeVec) error {
	mine, err := t.store.Turn(ctx, "doctor:"+t.name, doctorEvery-5*time.Second)
	if err != nil || !mine {
		gauge.Reset()
		return err
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	report, err := t.diagnose(short)
	if err != nil {
		gauge.Reset()
		return err
	}
	for _, kind := range tasks.Troubles() {
		gauge.WithLabelValues(string(kind)).Set(0)
	}
	for _, f := range report.Findings {
		gauge.WithLabelValues(string(f.Kind)).Inc()
	}
	return nil
}
