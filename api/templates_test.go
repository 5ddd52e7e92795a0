package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// driveTemplates gets each answer of the calls on templates.
func driveTemplates(s *server) {
	s.offer("main", frozen("plain-1", time.Hour, ""))
	s.ask("GET", "/templates", "")
	s.ask("GET", "/templates", "", bearer(signer)...)
	s.ask("GET", "/templates", "", bearer(reader)...)
	keyed := append(bearer(operator), "Idempotency-Key", "build")
	s.ask("POST", "/templates", "{}")
	s.ask("POST", "/templates", "{}", bearer(reader)...)
	s.ask("POST", "/templates", `{"template":"gold"}`, bearer(operator)...)
	s.ask("POST", "/templates", `{"bench":"nowhere"}`, bearer(operator)...)
	s.ask("POST", "/templates", "{}", append(bearer(operator), "Content-Type", "text/plain")...)
	s.ask("POST", "/templates", "{}", keyed...)
	s.ask("POST", "/templates", "{}", bearer(operator)...)                                   // busy
	s.ask("POST", "/templates", "{}", append(bearer(operator), "Idempotency-Key", "big")...) // used for a tenant
}

// offer announces a bench and writes its templates, as a worker does.
func (s *server) offer(bench string, list ...nexus.Template) {
	s.t.Helper()
	err := s.store.AnnounceBench(s.t.Context(), bench)
	if err == nil {
		err = s.store.OfferTemplates(s.t.Context(), bench, list)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

var frost = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

// frozen is a template for signups of this API, made some time ago.
func frozen(name nexus.SiteName, ago time.Duration, problem string) nexus.Template {
	return nexus.Template{Name: name, DB: "nx1", Job: nexus.JobID(strings.Repeat("a", 32)), Spec: nexus.TemplatePlain, Apps: []string{"erpnext"},
		MadeAt: frost.Add(-ago), Version: 1, Problem: problem}
}

// TestTemplatesAreListed: the templates of all benches, those that are not frozen first and
// then the newest ones.
func TestTemplatesAreListed(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	if status, _, body := s.ask("GET", "/templates", "", bearer(reader)...); status != 200 || fmt.Sprint(body) != "map[templates:[]]" {
		t.Errorf("before there are any: %d %v", status, body)
	}
	left := nexus.Template{Name: "plain-left", Problem: "It was not finished."}
	s.offer("main", frozen("plain-old", 3*time.Hour, "Its apps were upgraded."), frozen("plain-new", time.Hour, ""), left)
	aged := frozen("plain-other", 2*time.Hour, "")
	aged.Renew = true
	s.offer("other", aged)
	_, _, body := s.ask("GET", "/templates", "", bearer(reader)...)
	one := func(name, bench string, offered bool, hours int, problem string) map[string]any {
		out := map[string]any{"name": name, "bench": bench, "template": "plain", "apps": []any{"erpnext"}, "job": strings.Repeat("a", 32),
			"offered": offered, "renew": name == "plain-other", "madeAt": frost.Add(-time.Duration(hours) * time.Hour).Format(time.RFC3339)}
		if problem != "" {
			out["problem"] = problem
		}
		return out
	}
	want := []any{
		map[string]any{"name": "plain-left", "bench": "main", "template": "", "apps": []any{}, "job": "", "offered": false, "renew": false, "problem": "It was not finished."},
		one("plain-new", "main", true, 1, ""), one("plain-other", "other", true, 2, ""), one("plain-old", "main", false, 3, "Its apps were upgraded."),
	}
	if diff := cmp.Diff(want, body["templates"]); diff != "" {
		t.Error(diff)
	}
}

// TestBuildTemplate: the job that is recorded has what the bench needs, and the key that
// signups ask for.
func TestBuildTemplate(t *testing.T) {
	t.Parallel()
	apps := []string{"erpnext", "hrms?"}
	s := newServer(t, func(o *api.Options) { o.Apps = apps })
	keyed := append(bearer(operator), "Idempotency-Key", "once")
	status, header, body := s.ask("POST", "/templates", `{"template":"plain"}`, keyed...)
	id, _ := body["jobId"].(string)
	if status != 202 || header.Get("Location") != "/jobs/"+id || body["kind"] != "template" || body["url"] != "" || body["actor"] != "op" ||
		body["site"] != "plain-"+id[:8] || body["claimToken"] != nil {
		t.Fatalf("%d %v", status, body)
	}
	job, err := s.store.Job(t.Context(), nexus.JobID(id))
	if err != nil || job.Spec.Template != nexus.TemplatePlain || !cmp.Equal(job.Spec.Apps, apps) || len(job.Steps) != len(tasks.Steps(nexus.KindTemplate)) ||
		job.GiveUpAt.Sub(job.CreatedAt) != 24*time.Hour {
		t.Errorf("recorded %+v, %v", job, err)
	}
	for _, same := range []string{"{}", `{"template":null}`, `{"template":""}`} { // the default
		if _, _, again := s.ask("POST", "/templates", same, keyed...); again["jobId"] != id {
			t.Errorf("the same call as %s: %v", same, again)
		}
	}
	status, _, body = s.ask("POST", "/templates", "{}", bearer(operator)...)
	if status != 409 || body["reason"] != "busy" || body["detail"] != "A job builds this template already; wait for its end, or cancel it first." {
		t.Errorf("while it is built: %d %v", status, body)
	}
	if status, _, _ := s.ask("POST", "/jobs/"+id+"/cancel", "", bearer(operator)...); status != 202 {
		t.Errorf("canceled: %d", status)
	}
	if status, _, body := s.ask("POST", "/templates", "{}", bearer(operator)...); status != 202 || body["jobId"] == id {
		t.Errorf("after a cancel: %d %v", status, body)
	}
	_, _, body = s.ask("GET", "/jobs?kind=template&state=canceled", "", bearer(reader)...)
	if jobs, _ := body["jobs"].([]any); len(jobs) != 1 {
		t.Errorf("listed %v", body)
	}
	if _, _, rows := s.ask("GET", "/tenants", "", bearer(reader)...); fmt.Sprint(rows["tenants"]) != "[]" {
		t.Errorf("a template is a tenant: %v", rows)
	}
}

// TestBuildTemplateOfACountry: the spec is recorded with the country in capitals, whatever was
// sent, and another one does not wait for its job.
func TestBuildTemplateOfACountry(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, tc := range []struct {
		sent   string
		status int
		want   nexus.TemplateSpec
		site   string
	}{
		{"US", 202, "US", "us-"},
		{"us", 409, "", ""},
		{"de", 202, "DE", "de-"},
		{"de:SKR04", 202, "DE:SKR04", "de-skr04-"},
		{"DE:SKR04", 409, "", ""},
		{"DE:SKR03", 202, "DE:SKR03", "de-skr03-"},
		{"PLAIN", 202, nexus.TemplatePlain, "plain-"},
		{"plain", 409, "", ""},
	} {
		status, _, body := s.ask("POST", "/templates", `{"template":"`+tc.sent+`"}`, bearer(operator)...)
		if status != tc.status {
			t.Errorf("%s: %d %v", tc.sent, status, body)
		}
		if document(t).Components.Schemas["WishedTemplate"].Value.VisitJSON(tc.sent) != nil {
			t.Errorf("%q: the contract refuses it", tc.sent)
		}
		if id, _ := body["jobId"].(string); status == 202 {
			if job, err := s.store.Job(t.Context(), nexus.JobID(id)); err != nil || job.Spec.Template != tc.want || string(job.Site) != tc.site+id[:8] {
				t.Errorf("%s: recorded %+v, %v", tc.sent, job, err)
			}
		}
	}
}

// TestBuildTemplateOnABench: a template is built on the bench that is named, or on the only
// one.
func TestBuildTemplateOnABench(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	built := func(text string) (bench string) {
		t.Helper()
		status, _, body := s.ask("POST", "/templates", text, bearer(operator)...)
		id, _ := body["jobId"].(string)
		job, err := s.store.Job(t.Context(), nexus.JobID(id))
		if status != 202 || err != nil {
			t.Fatalf("%s: %d %v, %v", text, status, body, err)
		}
		return job.Bench
	}
	unknown := func(text string) {
		t.Helper()
		status, _, body := s.ask("POST", "/templates", text, bearer(operator)...)
		if status != 404 || !strings.Contains(fmt.Sprint(body["detail"]), "No worker has served") {
			t.Errorf("%s: %d %v", text, status, body)
		}
	}
	announce := func(name string) {
		t.Helper()
		if err := s.store.AnnounceBench(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	unknown(`{"bench":"main"}`)
	if bench := built("{}"); bench != "" {
		t.Errorf("without a bench: on %q", bench)
	}
	announce("main")
	if bench := built("{}"); bench != "main" {
		t.Errorf("on the only bench: on %q", bench)
	}
	announce("north")
	unknown(`{"bench":"south"}`)
	status, _, body := s.ask("POST", "/templates", "{}", bearer(operator)...)
	if errors := fmt.Sprint(body["errors"]); status != 400 || !strings.Contains(errors, "field:bench") || !strings.Contains(errors, "main, north") {
		t.Errorf("no bench is named: %d %v", status, body)
	}
	if bench := built(`{"bench":"north"}`); bench != "north" {
		t.Errorf("on the bench north: on %q", bench)
	}
}

// TestBuildTemplateRefused: a template that is not known, and any in single-tenant mode.
func TestBuildTemplateRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, spec := range []string{"gold", " plain", "USA", "D", "DE:", "DE:SKR 04", "DE:SKR04:x", ":SKR04", "plain:SKR04", "DE:" + strings.Repeat("x", 21), "Ü1"} {
		status, _, body := s.ask("POST", "/templates", `{"template":"`+spec+`"}`, bearer(operator)...)
		if text := fmt.Sprint(body["errors"]); status != 400 || !strings.Contains(text, "field:template") || !strings.Contains(text, "Write plain, or the ISO code of a country") {
			t.Errorf("%q: %d %v", spec, status, body)
		}
		if document(t).Components.Schemas["WishedTemplate"].Value.VisitJSON(spec) == nil {
			t.Errorf("%q: the contract takes it", spec)
		}
	}
	bare := newServer(t, func(o *api.Options) { o.Apps = []string{"hrms", "erpnext?"} })
	if status, _, body := bare.ask("POST", "/templates", `{"template":"DE"}`, bearer(operator)...); status != 400 || !strings.Contains(fmt.Sprint(body["errors"]), "do not have the app erpnext") {
		t.Errorf("without the app of companies: %d %v", status, body)
	}
	single := newServer(t, func(o *api.Options) { o.Single, o.Master = true, "erp.example.com" })
	if status, _, body := single.ask("POST", "/templates", "{}", bearer(operator)...); status != 403 || !strings.Contains(fmt.Sprint(body["detail"]), "no templates") {
		t.Errorf("in single-tenant mode: %d %v", status, body)
	}
}

// TestRoadIsShown: operators see by which road a site was made, on the tenant and on the
// job; whoever has only the job's id does not.
func TestRoadIsShown(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.offer("main", frozen("plain-1", time.Hour, ""))
	id := s.signup("copied")
	lease, job, taken, err := s.store.Take(t.Context(), nexus.JobID(id), 1, nil)
	if err != nil || taken != store.TakeOK {
		t.Fatal(taken, err)
	}
	if _, err := lease.Reserve(t.Context(), "main", "nx1", nexus.TemplatePlain.Key(job.Spec.Apps)); err != nil {
		t.Fatal(err)
	}
	for path, token := range map[string]string{"/jobs/" + id: reader, "/tenants/copied.example.com": reader} {
		if _, _, body := s.ask("GET", path, "", bearer(token)...); body["road"] != "clone" || body["template"] != "plain-1" {
			t.Errorf("%s: %v", path, body)
		}
	}
	single := newServer(t, func(o *api.Options) { o.Single, o.Master = true, "erp.example.com" })
	id2 := single.signup("joined")
	lease, _, _, err = single.store.Take(t.Context(), nexus.JobID(id2), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if way, err := lease.Reserve(t.Context(), "master", "x", nexus.TemplatePlain.Key(nil)); err != nil || way.Road == "" {
		t.Fatalf("reserved as %+v, %v", way, err)
	}
	if _, _, body := single.ask("GET", "/jobs/"+id2, "", bearer(reader)...); body["road"] != nil {
		t.Errorf("a user of the master site: %v", body)
	}
	if _, _, body := s.ask("GET", "/jobs/"+id, ""); body["road"] != nil || body["template"] != nil || body["actor"] != nil {
		t.Errorf("without a token: %v", body)
	}
}

// TestStandbyJobHasNoAddress: no request reaches what a standby's job makes.
func TestStandbyJobHasNoAddress(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	sub := store.MakeStandby("main", frozen("plain-1", time.Hour, ""), "9f3c", 1, tasks.Steps(nexus.KindStandby), time.Hour)
	if _, _, err := s.store.Submit(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if _, _, body := s.ask("GET", "/jobs/"+string(sub.ID), "", bearer(reader)...); body["kind"] != "standby" || body["site"] != string(sub.Site) || body["url"] != "" {
		t.Errorf("%v", body)
	}
}
