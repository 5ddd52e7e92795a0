package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// kept is a stock that workers keep.
type kept struct {
	*stock
	t       *testing.T
	c       app.Config
	failing *nexus.Failure       // of the next build that is done
	pause   func() time.Duration // of the last worker
}

func newKept(t *testing.T, wanted ...string) *kept {
	t.Helper()
	return &kept{stock: newStock(t), t: t, c: app.Config{Bench: "sandbox", Templates: wanted, Apps: []string{"erpnext"}, ProvisionTimeout: time.Hour}}
}

// worker returns the rounds of another worker.
func (k *kept) worker() (round func()) {
	var one func(context.Context) error
	one, k.pause = app.Keeper(k.c, k.store, k, install)
	return func() {
		k.t.Helper()
		if err := one(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
}

// builds returns the live jobs that build a template.
func (k *kept) builds() (live []nexus.Job) {
	k.t.Helper()
	all, _, err := k.store.Jobs(k.t.Context(), store.JobFilter{Kind: nexus.KindTemplate})
	if err != nil {
		k.t.Fatal(err)
	}
	for _, job := range all {
		if !job.State.Terminal() {
			live = append(live, job)
		}
	}
	return live
}

func (k *kept) want(builds, templates int) {
	k.t.Helper()
	if jobs, there := k.builds(), k.onBench(k.t); len(jobs) != builds || len(there) != templates {
		k.t.Errorf("%d builds and %d templates, want %d and %d", len(jobs), len(there), builds, templates)
	}
}

// done does a build as its job would, or fails it.
func (k *kept) done(job nexus.Job, as nexus.State) {
	k.t.Helper()
	lease, job, _, err := k.store.Take(k.t.Context(), job.ID, job.Dispatch, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	spec := job.Spec.Template
	for _, args := range []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext"}, nexus.SetUp{Country: spec.Country(), Chart: spec.Chart()},
		nexus.Freeze{Spec: spec, Apps: job.Spec.Apps}} {
		if args.Op() == nexus.OpSetUp && spec == nexus.TemplatePlain {
			continue
		}
		if as != nexus.Succeeded {
			break
		}
		if _, err := k.bench.Run(k.t.Context(), nexus.Op{Site: job.Site, Room: nexus.RoomTemplates, DB: job.ID.Database(install), Owner: job.ID, Gen: job.Gen, Args: args}); err != nil {
			k.t.Fatal(err)
		}
	}
	job.State, job.Error = as, k.failing
	if err := lease.Finish(k.t.Context(), &job, "", nexus.Event{}); err != nil {
		k.t.Fatal(err)
	}
}

// TestKeeperBuilds: what is wanted and missing is built, by one job whoever asks; a build
// that failed is tried again after an hour.
func TestKeeperBuilds(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	k.c.Apps = []string{"erpnext", "hrms?"} // the template is for others
	one, two := k.worker(), k.worker()
	one()
	two()
	one()
	k.want(1, 1)
	job := k.builds()[0]
	if job.Actor != "templates" || job.Spec.Template != nexus.TemplatePlain || len(job.Steps) != len(tasks.Steps(nexus.KindTemplate)) || job.Site != nexus.TemplateName(nexus.TemplatePlain, job.ID) {
		t.Errorf("the job: %+v", job)
	}
	k.done(job, nexus.Failed)
	one()
	k.want(0, 1)
	k.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), "updatedAt", time.Now().Add(-61*time.Minute).UnixMilli())
	two()
	one()
	k.want(1, 1)
	k.done(k.builds()[0], nexus.Succeeded)
	one()
	one()
	k.want(0, 2) // the other is nobody's to drop: it has another key
	if got := listed(t.Context(), t, k.store); len(got) != 2 {
		t.Errorf("listed: %v", got)
	}
}

// TestKeeperSoon: a keeper that waits for the bench to be announced, or for a build, looks
// again within seconds, and within a minute when there is nothing to wait for.
func TestKeeperSoon(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	k.c.Apps = []string{"erpnext", "hrms?"} // the template that is there is for others
	wants := func(when string, want time.Duration, round func()) {
		t.Helper()
		if round(); k.pause() != want {
			t.Errorf("%s: the next round is after %s", when, k.pause())
		}
	}
	mode := func(mode nexus.BenchMode) {
		t.Helper()
		if err := k.store.SetBench(t.Context(), "main", mode, "op"); err != nil {
			t.Fatal(err)
		}
	}
	one := k.worker()
	k.rdb.SRem(t.Context(), "{nexus}:benches", "main")
	wants("before the bench is announced", 5*time.Second, one)
	if err := k.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	mode(nexus.BenchPaused)
	wants("on a paused bench", time.Minute, one)
	mode(nexus.BenchOpen)
	wants("after it has begun a build", 5*time.Second, one)
	two := k.worker()
	wants("while another worker's build goes on", 5*time.Second, two)
	job := k.builds()[0]
	k.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), "state", "rollback_failed")
	wants("while it waits for an operator", time.Minute, two)
	k.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), "state", "queued")
	k.done(job, nexus.Succeeded)
	wants("when there is a template", time.Minute, two)
	k.c.Templates = nil
	k.rdb.SRem(t.Context(), "{nexus}:benches", "main")
	wants("of a worker that builds nothing", time.Minute, k.worker())
}

// TestKeeperBuildsOnce: a build that ends while a keeper looks is not done once more.
func TestKeeperBuildsOnce(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	k.c.Apps = []string{"erpnext", "hrms?"} // the template that is there is for others
	round := k.worker()
	round()
	job := k.builds()[0]
	k.then = func() { k.done(job, nexus.Succeeded) }
	round()
	round()
	k.want(0, 2)
}

// TestKeeperRenews: a template that the bench's new apps make useless is offered no more at
// once, and dropped in the next round; another is built.
func TestKeeperRenews(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	round := k.worker()
	round()
	k.want(0, 1)
	k.open(t, "16.2.0")
	round()
	k.want(1, 1)
	if got := listed(t.Context(), t, k.store); len(got) != 1 || got[0] != string(frozen) {
		t.Errorf("listed: %v", got)
	}
	round() // within seconds, since there is a build; the upgrade may still be taken back
	k.want(1, 1)
	k.done(k.builds()[0], nexus.Succeeded)
	round()
	k.want(0, 2)
	round()
	k.want(0, 1)
	if got := listed(t.Context(), t, k.store); len(got) != 1 || got[0] == string(frozen) || got[0][len(got[0])-1] != '*' {
		t.Errorf("listed: %v", got)
	}
}

// TestKeeperDropsLate: a template is dropped when it has had the same problem in two rounds. An
// upgrade that was taken back between them does not count.
func TestKeeperDropsLate(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	round := k.worker()
	for _, version := range []string{"16.2.0", "16.1.0", "16.2.0"} {
		k.open(t, version)
		round()
		k.want(0, 1)
	}
	round()
	k.want(0, 0)
}

// TestKeeperOfCountries: each template that is wanted is built. One whose last fiscal year has
// begun is offered until another one is there, and then dropped.
func TestKeeperOfCountries(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain", "us", "DE:SKR04")
	round := k.worker()
	round()
	k.want(2, 1)
	built := map[nexus.TemplateSpec]nexus.Job{}
	for _, job := range k.builds() {
		built[job.Spec.Template] = job
		k.done(job, nexus.Succeeded)
	}
	aged, other := built["US"], built["DE:SKR04"]
	if aged.ID == "" || other.ID == "" {
		t.Fatalf("built: %v", built)
	}
	round()
	round()
	k.want(0, 3)
	path := filepath.Join(k.dir, "templates", "sites", string(aged.Site))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	year := time.Now().UTC().Year()
	begun := strings.Replace(string(text), fmt.Sprintf(`"Year":%d`, year+1), fmt.Sprintf(`"Year":%d`, year), 1)
	if err := os.WriteFile(path, []byte(begun), 0o600); err != nil || begun == string(text) {
		t.Fatalf("%v: %s", err, text)
	}
	k.rdb.HSet(t.Context(), "{nexus}:job:"+string(aged.ID), "updatedAt", time.Now().Add(-61*time.Minute).UnixMilli())
	round()
	round()
	k.want(1, 3)
	if got := listed(t.Context(), t, k.store); !slices.Contains(got, string(aged.Site)+"*") {
		t.Errorf("while another is built: %v", got)
	}
	renewed := k.builds()[0]
	if renewed.Spec.Template != "US" {
		t.Errorf("built again: %+v", renewed.Spec)
	}
	k.done(renewed, nexus.Succeeded)
	for range 3 { // the first of them only sees that the build is over
		round()
	}
	k.want(0, 3)
	got := listed(t.Context(), t, k.store)
	slices.Sort(got)
	want := []string{string(frozen) + "*", string(other.Site) + "*", string(renewed.Site) + "*"}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestKeeperReplaces: of two templates of one key the older one is dropped, whoever built
// the newer.
func TestKeeperReplaces(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	round := k.worker()
	job, _, err := k.store.Submit(t.Context(), store.BuildTemplate("main", nexus.TemplatePlain, k.c.Apps, "op", tasks.Steps(nexus.KindTemplate), time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	round()
	round()
	k.want(1, 1)
	k.done(job, nexus.Succeeded)
	round()
	k.want(0, 2)
	round()
	k.want(0, 1)
	if got := listed(t.Context(), t, k.store); len(got) != 1 || got[0] != string(job.Site)+"*" {
		t.Errorf("listed: %v", got)
	}
}

// TestKeeperWaits: nothing is built or dropped on a bench that is not open, and what a live
// job makes is left alone.
func TestKeeperWaits(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	k.open(t, "16.2.0")
	for _, mode := range []nexus.BenchMode{nexus.BenchPaused, nexus.BenchDrained} {
		if err := k.store.SetBench(t.Context(), "main", mode, "op"); err != nil {
			t.Fatal(err)
		}
		round := k.worker()
		round()
		round()
		k.want(0, 1)
	}
	if err := k.store.SetBench(t.Context(), "main", nexus.BenchOpen, "op"); err != nil {
		t.Fatal(err)
	}
	k.job(t, nexus.Queued) // that built the template is not over
	round := k.worker()
	round()
	round()
	k.want(1, 1)
	if len(k.drops) > 0 {
		t.Errorf("dropped: %+v", k.drops)
	}
}

// TestKeeperPauses: after a build, whatever became of it, there is a pause: short if the
// bench's apps have changed.
func TestKeeperPauses(t *testing.T) {
	t.Parallel()
	k := newKept(t, "plain")
	round := k.worker()
	for _, row := range []struct {
		name  string
		state nexus.State
		code  nexus.Code
		drop  bool // the template is dropped by hand; else the bench is upgraded
		pause time.Duration
	}{
		{"dropped by hand", nexus.Succeeded, "", true, time.Hour},
		{"upgraded again", nexus.Succeeded, "", false, 10 * time.Minute},
		{"failed", nexus.Failed, nexus.Internal, false, time.Hour},
		{"upgraded while it was built", nexus.Failed, nexus.Conflict, false, 10 * time.Minute},
	} {
		for _, each := range k.onBench(t) {
			if err := k.drop(t, each.Name); err != nil {
				t.Fatal(err)
			}
		}
		k.rdb.Del(t.Context(), "{nexus}:builds:main")
		round()
		job := k.builds()[0]
		if k.failing = nil; row.code != "" {
			k.failing = &nexus.Failure{Code: row.code, Message: "It broke."}
		}
		k.done(job, row.state)
		if row.drop {
			if err := k.drop(t, job.Site); err != nil {
				t.Fatal(err)
			}
		} else {
			k.open(t, "16."+string(job.ID[:4]))
		}
		for _, at := range []struct {
			ago    time.Duration
			builds int
		}{{row.pause - time.Minute, 0}, {row.pause + time.Minute, 1}} {
			k.rdb.HSet(t.Context(), "{nexus}:job:"+string(job.ID), "updatedAt", time.Now().Add(-at.ago).UnixMilli())
			round()
			if n := len(k.builds()); n != at.builds {
				t.Errorf("%s: %d builds %s after", row.name, n, at.ago)
			}
		}
		for _, live := range k.builds() {
			if _, err := k.store.Cancel(t.Context(), live.ID, "op"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
