package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/api/gen"
)

// fakeAPI answers calls about templates.
type fakeAPI struct {
	list gen.TemplateList
	end  gen.State // of the job that builds a template
	sent []string  // bodies of the calls that build one
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, record any) {
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(record)
	}
	job := gen.Job{Id: "7c1f0a5e2b9d4c38a6e1f0d2b3c4a596", Kind: gen.KindTemplate, Site: "plain-7c1f0a5e", State: gen.StateQueued, Steps: []gen.Step{}}
	switch r.Method + " " + r.URL.Path {
	case "GET /templates":
		answer(http.StatusOK, f.list)
	case "POST /templates":
		body, _ := io.ReadAll(r.Body)
		f.sent = append(f.sent, string(body))
		answer(http.StatusAccepted, job)
	case "GET /jobs/" + job.Id:
		if job.State = f.end; f.end == gen.StateFailed {
			job.Error = &gen.JobError{Code: "internal", Message: "It broke."}
		}
		answer(http.StatusOK, job)
	default:
		answer(http.StatusNotFound, gen.Problem{Code: "not_found"})
	}
}

func TestTemplatesList(t *testing.T) {
	t.Parallel()
	why := "The bench's apps have changed."
	f := &fakeAPI{list: gen.TemplateList{Templates: []gen.Template{
		{Name: "plain-new", Bench: "main", Template: "plain", Apps: []string{"erpnext", "hrms?"}, Offered: true},
		{Name: "us-aged", Bench: "main", Template: "US", Apps: []string{"erpnext"}, Offered: true, Renew: true},
		{Name: "de-old", Bench: "main", Template: "DE:SKR04", Apps: []string{"erpnext"}, Renew: true, Problem: &why},
		{Name: "plain-old", Bench: "main", Template: "plain", Apps: []string{"erpnext"}, Problem: &why}}}}
	out, _, err := called(t.Context(), f, "templates", "list")
	const want = "TEMPLATE   BENCH  FOR       APPS           MADE  OFFERED  PROBLEM\n" +
		"plain-new  main   plain     erpnext,hrms?        yes\n" +
		"us-aged    main   US        erpnext              yes      Its last fiscal year has begun; build another one.\n" +
		"de-old     main   DE:SKR04  erpnext              no       The bench's apps have changed.\n" +
		"plain-old  main   plain     erpnext              no       The bench's apps have changed.\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err := called(t.Context(), f, "templates", "list", "--jq", ".templates[].name"); err != nil || out != "plain-new\nus-aged\nde-old\nplain-old\n" {
		t.Errorf("--jq: %v\n%s", err, out)
	}
	if out, _, err := called(t.Context(), &fakeAPI{}, "templates", "list"); err != nil || out != "" {
		t.Errorf("none: %v\n%s", err, out)
	}
	if out, _, err := called(t.Context(), f, "__complete", "templates", "drop", ""); err != nil || !strings.HasPrefix(out, "plain-new\tmain\nus-aged\tmain\nde-old\tmain The bench's apps have changed.\nplain-old\tmain The bench's apps have changed.\n:") {
		t.Errorf("completion: %v\n%s", err, out)
	}
}

// TestTemplatesBuild: the command follows the job to its end, which is its exit code.
func TestTemplatesBuild(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		end  gen.State
		sent []string
		out  string
		code int
	}{
		{name: "the default", end: gen.StateSucceeded, sent: []string{"{}"}, out: "plain-7c1f0a5e is built; new sites are copied from it.\n"},
		{name: "by its name", args: []string{"plain", "--jq", ".state"}, end: gen.StateSucceeded, sent: []string{`{"template":"plain"}`}, out: "succeeded\n"},
		{name: "of a country", args: []string{"DE:SKR04", "--jq", ".state"}, end: gen.StateSucceeded, sent: []string{`{"template":"DE:SKR04"}`}, out: "succeeded\n"},
		{name: "one that fails", end: gen.StateFailed, sent: []string{"{}"}, code: exitFailed},
		{name: "called wrongly", args: []string{"plain", "gold"}, code: exitUsage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeAPI{end: tc.end}
			out, _, err := called(t.Context(), f, append([]string{"templates", "build"}, tc.args...)...)
			if code := codeOf(err); code != tc.code || out != tc.out {
				t.Errorf("%v\n%s", err, out)
			}
			if !slices.Equal(f.sent, tc.sent) {
				t.Errorf("sent %q", f.sent)
			}
		})
	}
	if out, _, err := called(t.Context(), &fakeAPI{}, "__complete", "templates", "build", ""); err != nil || !strings.HasPrefix(out, "plain\nUS\nDE:SKR03\nDE:SKR04\nIN\nGB\nFR\nBR\n:") {
		t.Errorf("completion: %v\n%s", err, out)
	}
}

// TestRoadOfAJob: a job's rows tell how its site was made, and no address of a template.
func TestRoadOfAJob(t *testing.T) {
	t.Parallel()
	clone, from, long := "clone", "plain-1", "new-site"
	for want, job := range map[string]gen.Job{
		"clone of plain-1": {Url: "https://acme.example.com", Road: &clone, Template: &from},
		"new-site":         {Url: "https://acme.example.com", Road: &long},
		"":                 {Kind: gen.KindTemplate},
	} {
		rows := map[string]string{}
		for _, row := range jobRows(job) {
			rows[row[0]] = row[1]
		}
		if _, addressed := rows["url"]; rows["road"] != want || addressed != (job.Url != "") {
			t.Errorf("want %q: %v", want, rows)
		}
	}
}
