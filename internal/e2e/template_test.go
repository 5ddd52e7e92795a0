//go:build service

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// buildTemplate builds a template and returns it, as it is listed.
func (s *stack) buildTemplate() gen.Template {
	s.t.Helper()
	job, err := s.client.BuildTemplate(s.t.Context(), "", "", string(nexus.NewJobID()))
	if err != nil {
		s.t.Fatal(err)
	}
	if end := s.end(job.Id, time.Minute); end.State != gen.StateSucceeded {
		s.t.Fatalf("the template is %s: %+v", end.State, end.Error)
	}
	for _, template := range s.templates() {
		if template.Name == job.Site && template.Offered && template.Job == job.Id {
			return template
		}
	}
	s.t.Fatalf("%s is not offered: %+v", job.Site, s.templates())
	return gen.Template{}
}

func (s *stack) templates() []gen.Template {
	s.t.Helper()
	list, err := s.client.Templates(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return list.Templates
}

// road signs up, waits for the site, checks its key, and returns the road, the template, and
// the note of the step site.
func (s *stack) road(name string) (road, template, note string) {
	s.t.Helper()
	accepted := s.signup(name, "jane@example.com")
	job := s.end(accepted.JobId, time.Minute)
	if job.State != gen.StateSucceeded {
		s.t.Fatalf("%s is %s: %+v", name, job.State, job.Error)
	}
	s.keysOpenTheirOwn([]gen.Accepted{accepted})
	tenant, err := s.client.Tenant(s.t.Context(), accepted.Site)
	if err != nil {
		s.t.Fatal(err)
	}
	get := func(text *string) string {
		if text == nil {
			return ""
		}
		return *text
	}
	if get(tenant.Road) != get(job.Road) || get(tenant.Template) != get(job.Template) {
		s.t.Errorf("%s: the job says %s %s, the tenant %s %s", name, get(job.Road), get(job.Template), get(tenant.Road), get(tenant.Template))
	}
	for _, step := range job.Steps {
		if step.Name == "site" {
			note = get(step.Note)
		}
	}
	return get(job.Road), get(job.Template), note
}

// TestTemplates: a site signed up for after a template was built is a copy of it. After the
// template was dropped, or is gone from the bench without a word, sites are made the long
// way, and a detour is noted and counted.
func TestTemplates(t *testing.T) {
	t.Parallel()
	s := newStack(t, 0)
	addr := freeAddr(t)
	s.worker("NEXUS_METRICS_ADDR=" + addr)
	if road, template, _ := s.road("before"); road != "new-site" || template != "" {
		t.Errorf("before there is one: %s %s", road, template)
	}

	built := s.buildTemplate()
	if road, template, note := s.road("copied"); road != "clone" || template != built.Name || note != "Copied from the template "+built.Name+"." {
		t.Errorf("with a template: %s %s, %q", road, template, note)
	}
	s.sound()

	if out, errs, code := s.nexus("", "templates", "drop", built.Name, "--yes"); code != 0 || len(s.templates()) > 0 {
		t.Errorf("drop: exit %d, left %+v\n%s%s", code, s.templates(), out, errs)
	}
	if road, template, _ := s.road("dropped"); road != "new-site" || template != "" {
		t.Errorf("after it was dropped: %s %s", road, template)
	}
	if n := s.metric(addr, "nexus_road_detours_total", `road="clone"`); n != 0 {
		t.Errorf("%v detours were counted", n)
	}

	gone := s.buildTemplate()
	if err := os.Remove(filepath.Join(s.dir, "sandbox", "templates", "sites", gone.Name)); err != nil {
		t.Fatal(err)
	}
	key := nexus.TemplateSpec(gone.Template).Key(gone.Apps)
	detour := false
	for _, name := range []string{"late-1", "late-2", "late-3"} { // the worker may have listed the templates just now
		if err := s.rdb.HSet(t.Context(), "{nexus}:offers:sandbox", key, gone.Name).Err(); err != nil {
			t.Fatal(err)
		}
		road, template, note := s.road(name)
		if road != "new-site" || template != "" {
			t.Fatalf("after it is gone: %s %s, %q", road, template, note)
		}
		if detour = strings.HasPrefix(note, "The template "+gone.Name+" could not be copied, so this takes longer. "); detour {
			break
		}
	}
	if n := s.metric(addr, "nexus_road_detours_total", `road="clone"`); n != 1 || !detour {
		t.Errorf("a detour noted: %t, and %v counted", detour, n)
	}
	s.sound()
}

// TestCLITemplates runs the commands on templates.
func TestCLITemplates(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1)
	s.golden("templates",
		call{args: words("templates list")},
		call{args: words("templates build")},
		call{args: words("templates build de:SKR04")},
		call{args: words("templates build DE:SKR05"), code: 1},
		call{args: words("templates build gold"), code: 1},
		call{args: words("templates build plain extra"), code: 2},
		call{args: words("templates build"), env: []string{"NEXUS_API_TOKEN="}, code: 1},
		call{args: words("templates list --jq .templates[].offered")},
		call{args: words("jobs list --kind template")},
	)
	name := s.templates()[0].Name
	s.golden("templates-drop",
		call{args: words("__complete templates drop ")},
		call{args: words("templates drop"), code: 2},
		call{args: words("templates drop " + name + " --yes"), code: 2}, // without the environment of a worker
	)
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"plain-0 --yes", 1, "The bench sandbox has no template plain-0; nexus templates list shows them."},
		{name, 2, "To remove " + name + " without a terminal, add --yes."},
		{name + " --yes", 0, name + " is removed from sandbox.\n"},
		{name + " --yes", 1, "The bench sandbox has no template " + name},
	} {
		if out, errs, code := s.nexus("", append(words("templates drop"), words(tc.args)...)...); code != tc.code || !strings.Contains(out+errs, tc.says) {
			t.Errorf("drop %s: exit %d\n%s%s", tc.args, code, out, errs)
		}
	}
}

// TestCLITemplateBuilt: a template that a job is building is not dropped; the job can be
// canceled, and leaves nothing.
func TestCLITemplateBuilt(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, "NEXUS_SANDBOX_DELAY=20s")
	job, err := s.client.BuildTemplate(t.Context(), "", "", "one")
	if err != nil {
		t.Fatal(err)
	}
	drop := func() (string, int) {
		_, errs, code := s.nexus("", "templates", "drop", job.Site, "--yes")
		return errs, code
	}
	eventually(t, 20*time.Second, "the bench lists what is built", func() bool {
		errs, code := drop()
		return code == 1 && strings.Contains(errs, "A job is building "+job.Site+"; cancel it instead: nexus jobs cancel "+job.Id)
	})
	if _, err := s.client.Cancel(t.Context(), job.Id, operator); err != nil {
		t.Fatal(err)
	}
	if end := s.end(job.Id, time.Minute); end.State != gen.StateCanceled || end.Error == nil || end.Error.Action == nil || !strings.Contains(*end.Error.Action, "ask for it again") {
		t.Errorf("%s: %+v", end.State, end.Error)
	}
	if errs, code := drop(); code != 1 || !strings.Contains(errs, "has no template") {
		t.Errorf("after the cancel: exit %d\n%s", code, errs)
	}
	s.sound()
}
