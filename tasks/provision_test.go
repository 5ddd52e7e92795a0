package tasks_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestNoOrganization: the bench is asked to name a company also if none was named at signup,
// since a copy must not keep the template's.
func TestNoOrganization(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nexus.KindProvision)
	f.kit.Job.Spec.Organization = " "
	if err := f.do("company"); err != nil || len(f.notes) != 1 {
		t.Errorf("answered %v, noted %q", err, f.notes)
	}
	f.wantArgs(nexus.Company{Abbr: "ACM"})
}

// TestProvision checks the whole process: the operations on the bench, their order, their
// arguments and their owner.
func TestProvision(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nexus.KindProvision)
	for _, name := range tasks.Steps(nexus.KindProvision) {
		if err := f.do(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if f.reserved != [2]string{"main", "nx9f3c3eb1bd439947eb762998"} {
		t.Errorf("reserved %q", f.reserved)
	}
	pair := f.pair()
	key, secret := nexus.Secret(pair.APIKey), nexus.Secret(pair.APISecret)
	f.wantArgs(
		nexus.NewSite{AdminPassword: "Admin-Pass-1"},
		nexus.InstallApp{App: "erpnext"},
		nexus.InstallApp{App: "nexus_core", Optional: true},
		nexus.Company{Name: "Acme", Abbr: "ACM"},
		nexus.EnsureUser{Email: "jane@example.com", FullName: "Jane Doe", Roles: []string{"System Manager"}, Language: "de",
			TimeZone: "Europe/Berlin", Password: "Secret-Horse-7"},
		nexus.ApplyPlan{Plan: "starter", Users: 15, StorageBytes: 10 << 30, HostName: "https://acme.example.com", Country: "Germany",
			Language: "de", TimeZone: "Europe/Berlin", Currency: "EUR"},
		nexus.IssueKey{Email: "jane@example.com", Key: key, Secret: secret},
		nexus.Verify{Email: "jane@example.com", PublicURL: "https://acme.example.com", DocType: "Customer", Key: key, Secret: secret},
		nexus.Mark{State: nexus.TenantActive},
	)
	for _, op := range f.ops {
		if op.Site != "acme.example.com" || op.DB != f.reserved[1] || op.Owner != job || op.Gen != gen || op.Email != "jane@example.com" || op.Progress == nil {
			t.Errorf("%s in the envelope %+v", op.Args.Op(), op)
		}
	}
	if f.notes != nil {
		t.Errorf("noted %q", f.notes)
	}
}

// TestTimeZone: a new site never gets Frappe's default time zone; an adopted site keeps
// its own.
func TestTimeZone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                string
		kind                nexus.Kind
		asked, setting, got string
	}{
		{"asked for", nexus.KindProvision, "Europe/Berlin", "UTC", "Europe/Berlin"},
		{"not asked for", nexus.KindProvision, "", "America/Chicago", "America/Chicago"},
		{"the master site's", nexus.KindProvision, "", "", ""},
		{"adopted", nexus.KindAdopt, "", "UTC", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tc.kind)
			f.kit.Job.Spec.TimeZone, f.kit.Settings.TimeZone = tc.asked, tc.setting
			steps := []nexus.StepName{"user", "plan"}
			if tc.kind == nexus.KindAdopt {
				steps = steps[1:]
			}
			for _, name := range steps {
				if err := f.do(name); err != nil {
					t.Fatal(err)
				}
			}
			for _, op := range f.ops {
				got := ""
				switch args := op.Args.(type) {
				case nexus.EnsureUser:
					got = args.TimeZone
				case nexus.ApplyPlan:
					got = args.TimeZone
				}
				if got != tc.got {
					t.Errorf("%s: time zone %q, want %q", op.Args.Op(), got, tc.got)
				}
			}
		})
	}
}

// TestProvisionFails: a step returns an error of bench or records unchanged, and does
// nothing more.
func TestProvisionFails(t *testing.T) {
	t.Parallel()
	benchErr := &nexus.Error{Code: nexus.Unavailable, Op: "bench", Msg: "Away.", Wait: nexus.WaitBench}
	recordsErr := &nexus.Error{Code: nexus.Limit, Op: "store", Msg: "No room."}
	for _, tc := range []struct {
		step           nexus.StepName
		bench, records error
		ops            int
	}{
		{step: "reserve", records: recordsErr},
		{step: "site", bench: benchErr, ops: 1},
		{step: "apps", bench: benchErr, ops: 1},
		{step: "user", bench: benchErr, ops: 1},
		{step: "plan", bench: benchErr, ops: 1},
		{step: "api_key", bench: benchErr, ops: 1},
		{step: "verify", bench: benchErr, ops: 1},
		{step: "activate", bench: benchErr, ops: 1},
	} {
		name := string(tc.step) + " without bench"
		if tc.records != nil {
			name = string(tc.step) + " without records"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.recordsFail = tc.records
			f.answer = func(nexus.Op) (nexus.Result, error) { return nexus.Result{Note: "half done"}, tc.bench }
			err := f.do(tc.step)
			if want := errors.Join(tc.bench, tc.records); err == nil || want == nil || !errors.Is(want, err) {
				t.Errorf("answered %v, want %v", err, want)
			}
			if len(f.ops) != tc.ops || f.notes != nil {
				t.Errorf("asked %d times, noted %q", len(f.ops), f.notes)
			}
		})
	}
}

func TestSiteUndo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		db   string
		want []nexus.Args
	}{
		{"never reserved", "", nil},
		{"reserved", "nx9f3c", []nexus.Args{nexus.DropSite{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.DB = tc.db
			for range 2 { // it may run twice
				f.ops = nil
				if err := f.step("site").Undo(t.Context(), &f.kit); err != nil {
					t.Fatal(err)
				}
				f.wantArgs(tc.want...)
			}
			away := errors.New("away")
			f.answer = func(nexus.Op) (nexus.Result, error) { return nexus.Result{}, away }
			if err := f.step("site").Undo(t.Context(), &f.kit); tc.want != nil && !errors.Is(err, away) {
				t.Errorf("answered %v", err)
			}
		})
	}
}

func TestApps(t *testing.T) {
	t.Parallel()
	missing := &nexus.Error{Code: nexus.NotFound, Op: "bench", Msg: "The app is not on this bench."}
	lacking := func(apps ...string) func(nexus.Op) (nexus.Result, error) {
		return func(op nexus.Op) (nexus.Result, error) {
			args := op.Args.(nexus.InstallApp)
			switch has := !strings.Contains(strings.Join(apps, " "), args.App); {
			case has:
				return nexus.Result{Changed: true}, nil
			case args.Optional:
				return nexus.Result{Skipped: true}, nil
			}
			return nexus.Result{}, missing
		}
	}
	for _, tc := range []struct {
		name   string
		apps   []string
		again  bool
		answer func(nexus.Op) (nexus.Result, error)
		want   []nexus.Args
		notes  []string
		err    error
	}{
		{name: "none"},
		{name: "in their order", apps: []string{"erpnext", "hrms"}, want: []nexus.Args{nexus.InstallApp{App: "erpnext"}, nexus.InstallApp{App: "hrms"}}},
		{name: "by force after a journalled attempt", apps: []string{"erpnext", "nexus_core?"}, again: true,
			want: []nexus.Args{nexus.InstallApp{App: "erpnext", Force: true}, nexus.InstallApp{App: "nexus_core", Optional: true, Force: true}}},
		{name: "optional ones may be missing", apps: []string{"nexus_core?", "erpnext", "hrms?"}, answer: lacking("nexus_core", "hrms"),
			want:  []nexus.Args{nexus.InstallApp{App: "nexus_core", Optional: true}, nexus.InstallApp{App: "erpnext"}, nexus.InstallApp{App: "hrms", Optional: true}},
			notes: []string{"This bench does not have nexus_core, hrms; the site goes without."}},
		{name: "others may not", apps: []string{"hrms", "erpnext"}, answer: lacking("hrms"), want: []nexus.Args{nexus.InstallApp{App: "hrms"}}, err: missing},
		{name: "the bench's own remark", apps: []string{"erpnext"}, want: []nexus.Args{nexus.InstallApp{App: "erpnext"}}, notes: []string{"Slow today."},
			answer: func(nexus.Op) (nexus.Result, error) { return nexus.Result{Note: "Slow today."}, nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.Spec.Apps, f.kit.Again, f.answer = tc.apps, tc.again, tc.answer
			if err := f.do("apps"); !errors.Is(err, tc.err) {
				t.Errorf("answered %v, want %v", err, tc.err)
			}
			f.wantArgs(tc.want...)
			if diff := cmp.Diff(tc.notes, f.notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKeyPair: the step sets the same pair however often it runs, on any worker.
func TestKeyPair(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nexus.KindProvision)
	f.answer = func(nexus.Op) (nexus.Result, error) { return nexus.Result{}, errors.New("the answer was lost") }
	if err := f.do("api_key"); err == nil {
		t.Fatal("the lost answer was not told")
	}
	f.answer = nil
	for _, name := range []nexus.StepName{"api_key", "verify"} {
		if err := f.do(name); err != nil {
			t.Fatal(err)
		}
	}
	pair := f.pair()
	set := nexus.IssueKey{Email: "jane@example.com", Key: nexus.Secret(pair.APIKey), Secret: nexus.Secret(pair.APISecret)}
	f.wantArgs(set, set, nexus.Verify{Email: "jane@example.com", PublicURL: "https://acme.example.com", DocType: "Customer", Key: set.Key, Secret: set.Secret})

	if p := regexp.MustCompile(`^[0-9a-f]{64}$`); !p.MatchString(pair.APIKey) || !p.MatchString(pair.APISecret) || pair.APIKey == pair.APISecret {
		t.Errorf("the pair is %+v", pair)
	}
	if strings.Contains(f.kit.Sealed, pair.APIKey) {
		t.Error("it was stored in the open")
	}
	other := newFixture(t, nexus.KindProvision)
	if err := other.do("api_key"); err != nil || other.pair() == pair {
		t.Errorf("another job has the same pair, %v", err)
	}
}

// TestSealed: sealed data that cannot be opened is an error with the right code, and the
// bench is not asked.
func TestSealed(t *testing.T) {
	t.Parallel()
	_, text := nexus.NewKeyring()
	for _, tc := range []struct {
		name string
		step nexus.StepName
		set  func(*fixture)
		want nexus.Code
	}{
		{"the input gone", "user", func(f *fixture) { f.kit.Input = "" }, nexus.Invalid},
		{"the input of a key not held here", "user", func(f *fixture) { f.kit.Input = "k9:AAAA" }, nexus.Unavailable},
		{"the input broken", "user", func(f *fixture) { f.kit.Input = f.kit.Input[:len(f.kit.Input)-4] }, nexus.Internal},
		{"the credentials in place of the input", "user", func(f *fixture) { f.kit.Input = f.seal(nexus.PurposeCredentials, tasks.Input{}) }, nexus.Internal},
		{"the input not an object", "user", func(f *fixture) { f.kit.Input = f.seal(nexus.PurposeInput, "text") }, nexus.Internal},
		{"the pair under another key", "api_key", func(f *fixture) {
			f.kit.Sealed = f.seal(nexus.PurposeCredentials, tasks.Credentials{})
			keys, err := nexus.ParseKeyring(text)
			if err != nil {
				f.t.Fatal(err)
			}
			f.kit.Keys = keys
		}, nexus.Internal},
		{"the pair broken", "verify", func(f *fixture) { f.kit.Sealed = "k1:AAAA" }, nexus.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			tc.set(f)
			if err := f.do(tc.step); nexus.CodeOf(err) != tc.want {
				t.Errorf("answered %v, want %s", err, tc.want)
			}
			f.wantArgs()
		})
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, plan := range nexus.Plans() {
		t.Run(string(plan.Name), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.Spec = nexus.Spec{Plan: plan.Name}
			if err := f.do("plan"); err != nil {
				t.Fatal(err)
			}
			f.wantArgs(nexus.ApplyPlan{Plan: plan.Name, Users: plan.Users, StorageBytes: plan.StorageBytes})
		})
	}
	t.Run("one that is no more", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, nexus.KindProvision)
		f.kit.Job.Spec.Plan = "gold"
		if err := f.do("plan"); nexus.CodeOf(err) != nexus.Invalid {
			t.Errorf("answered %v", err)
		}
		f.wantArgs()
	})
}

// TestVerifyList: the list that verify reads must exist on every site with these apps,
// since a missing list looks like a site that is not up yet.
func TestVerifyList(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		apps []string
		want string
	}{
		{"ERPNext", []string{"hrms", "erpnext"}, "Customer"},
		{"no app", nil, "User"},
		{"others", []string{"erpnext_extras", "hrms"}, "User"},
		{"ERPNext, if the bench has it", []string{"erpnext?"}, "User"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.Spec.Apps = tc.apps
			if err := f.do("verify"); err != nil {
				t.Fatal(err)
			}
			if got := f.ops[0].Args.(nexus.Verify).DocType; got != tc.want {
				t.Errorf("reads the list of %s, want %s", got, tc.want)
			}
		})
	}
}
