package tasks

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// provision makes a tenant. After the last step the store commits job, tenant and
// credentials in one script.
func provision() Process {
	return Process{Kind: nexus.KindProvision, Steps: []Step{
		{Name: "reserve", Do: reserve, Timeout: 5 * time.Second, Attempts: Forever, RecordOnly: true}, // the end of the job frees the slot
		{Name: "site", Do: makeSite, Undo: dropSite, Timeout: 10 * time.Minute, Attempts: 3},
		{Name: "apps", Do: installApps, Timeout: 10 * time.Minute, Attempts: 2},
		{Name: "company", Do: nameCompany, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "user", Do: makeUser, Timeout: 60 * time.Second, Attempts: 4},
		{Name: "plan", Do: applyPlan, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "api_key", Do: issueKey, Seal: newPair, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "verify", Do: verify, Seal: newPair, Timeout: 15 * time.Second, Attempts: Forever},
		{Name: "activate", Do: activate, Timeout: 10 * time.Second, Attempts: Forever, Proven: true},
	}}
}

// Input is the part of a signup that is stored sealed until the job ends.
type Input struct {
	Password string `json:"password"`
}

// Credentials are handed out once after a provision has succeeded.
type Credentials struct {
	APIKey    string `json:"apiKey"`
	APISecret string `json:"apiSecret"`
}

// reserve takes a slot on the bench, and records the road and the database's name before
// anything is made, so that a cleanup knows it.
func reserve(ctx context.Context, k *Kit) error {
	return k.Records.Reserve(ctx, k.Settings.Bench, ownDatabase(k), templateKeys(k)...)
}

func dropSite(ctx context.Context, k *Kit) error {
	if k.Job.DB == "" { // nothing was made
		return nil
	}
	if err := refuseOpened(ctx, k); err != nil {
		return err
	}
	_, err := k.Run(ctx, nexus.DropSite{})
	return err
}

// refuseOpened refuses to undo a job whose site is open although the journal has not
// reached activate. The registry was restored from a backup, and the site may be in use.
func refuseOpened(ctx context.Context, k *Kit) error {
	activate := k.Job.Step("activate")
	if activate == nil || activate.Starts > 0 {
		return nil
	}
	look, err := k.Run(ctx, nexus.Inspect{})
	if err != nil {
		return err
	}
	s := look.Site
	switch {
	case s == nil || s.Job != k.Job.Owner || s.State == "" || s.State == string(nexus.TenantMaking):
		return nil
	case s.StateGen > k.Job.Submitted && k.Job.Submitted > 0:
		return &nexus.Error{Code: nexus.Conflict, Op: "tasks.undo", Outdated: true, Msg: "A job that was submitted later has changed the site's state."}
	default:
		return &nexus.Error{Code: nexus.Internal, Op: "tasks.undo",
			Msg: "The site was opened on the bench and may be in use, so it is not removed; an operator has to look at it."}
	}
}

// installApps installs what the site lacks. A copy has the apps already, unless a worker of
// a former version, which knows no roads, has made the site instead. Such a worker leaves a
// job that takes a standby alone, so nothing is asked then.
func installApps(ctx context.Context, k *Kit) error {
	const came = "They came with the template."
	if k.Job.Road == nexus.RoadStandby {
		k.Note(came)
		return nil
	}
	var skipped []string
	copied := k.Job.Road == nexus.RoadClone
	for _, name := range k.Job.Spec.Apps {
		app, optional := strings.CutSuffix(name, "?")
		result, err := k.Run(ctx, nexus.InstallApp{App: app, Optional: optional, Force: k.Again})
		if err != nil {
			return err
		}
		if result.Skipped {
			skipped = append(skipped, app)
		}
		copied = copied && !result.Changed
	}
	switch {
	case len(skipped) > 0:
		k.Note("This bench does not have " + strings.Join(skipped, ", ") + "; the site goes without.")
	case copied:
		k.Note(came)
	}
	return nil
}

// nameCompany gives the site's company its name. On a site without one Frappe's set-up wizard
// suggests the name at the first login.
func nameCompany(ctx context.Context, k *Kit) error {
	name := strings.TrimSpace(k.Job.Spec.Organization)
	if name == "" {
		k.Note("No company was named at signup.") // a copy with a company must not keep the template's name
	}
	_, err := k.Run(ctx, nexus.Company{Name: name, Abbr: k.Job.Spec.Abbreviation})
	return err
}

func makeUser(ctx context.Context, k *Kit) error {
	if k.Input == "" {
		return &nexus.Error{Code: nexus.Invalid, Op: "tasks.user", Msg: "What was entered at signup is no longer kept. Please sign up again."}
	}
	var in Input
	if err := open(k, nexus.PurposeInput, k.Input, &in); err != nil {
		return err
	}
	spec := k.Job.Spec
	_, err := k.Run(ctx, nexus.EnsureUser{Email: spec.Email, FullName: spec.FullName, Roles: spec.Roles,
		Language: spec.Language, TimeZone: timeZone(k), Password: nexus.Secret(in.Password)})
	return err
}

func applyPlan(ctx context.Context, k *Kit) error {
	args, err := planOf(k)
	if err == nil {
		_, err = k.Run(ctx, args)
	}
	return err
}

// planOf returns the plan and the regional settings of the job's site.
func planOf(k *Kit) (nexus.ApplyPlan, error) {
	spec := k.Job.Spec
	plan, ok := nexus.FindPlan(spec.Plan)
	if !ok {
		return nexus.ApplyPlan{}, &nexus.Error{Code: nexus.Invalid, Op: "tasks.plan", Msg: fmt.Sprintf("There is no plan %q.", spec.Plan)}
	}
	args := nexus.ApplyPlan{Plan: plan.Name, Users: plan.Users, StorageBytes: plan.StorageBytes,
		HostName: spec.URL, Country: spec.Country, Language: spec.Language, TimeZone: timeZone(k)}
	if k.Job.Kind == nexus.KindProvision { // the undo of an adoption could not restore the former one
		args.Currency = spec.Currency
	}
	return args, nil
}

// timeZone returns the time zone of a new site; Frappe's default would be India's. An
// adopted site keeps its own.
func timeZone(k *Kit) string {
	if k.Job.Kind != nexus.KindProvision {
		return k.Job.Spec.TimeZone
	}
	return cmp.Or(k.Job.Spec.TimeZone, k.Settings.TimeZone)
}

// issueKey sets a pair that was stored before, so that another attempt, also of another
// worker, sets the same pair.
func issueKey(ctx context.Context, k *Kit) error {
	pair, err := credentials(k)
	if err != nil {
		return err
	}
	_, err = k.Run(ctx, nexus.IssueKey{Email: k.Job.Spec.Email,
		Key: nexus.Secret(pair.APIKey), Secret: nexus.Secret(pair.APISecret)})
	return err
}

// verify asks the new site as its user would. An outage is retried and never rolls the job
// back; a wrong answer is a failure.
func verify(ctx context.Context, k *Kit) error {
	list := "User"
	if slices.Contains(k.Job.Spec.Apps, "erpnext") { // not "erpnext?", which may have been skipped
		list = "Customer"
	}
	return verifyList(ctx, k, list)
}

func verifyList(ctx context.Context, k *Kit, list string) error {
	pair, err := credentials(k)
	if err != nil {
		return err
	}
	_, err = k.Run(ctx, nexus.Verify{Email: k.Job.Spec.Email, PublicURL: k.Job.Spec.URL, DocType: list,
		Key: nexus.Secret(pair.APIKey), Secret: nexus.Secret(pair.APISecret)})
	return err
}

func activate(ctx context.Context, k *Kit) error {
	_, err := k.Run(ctx, nexus.Mark{State: nexus.TenantActive})
	return err
}

// newPair makes a pair of key and secret, 32 random bytes each.
func newPair(k *Kit) (string, error) {
	pair, err := json.Marshal(Credentials{APIKey: token(), APISecret: token()})
	if err != nil {
		return "", err
	}
	return k.Keys.Seal(k.Job.ID, nexus.PurposeCredentials, pair)
}

// credentials returns the job's pair of key and secret.
func credentials(k *Kit) (pair Credentials, err error) {
	err = open(k, nexus.PurposeCredentials, k.Sealed, &pair)
	return pair, err
}

func open(k *Kit, purpose nexus.Purpose, sealed string, into any) error {
	plain, err := k.Keys.Open(k.Job.ID, purpose, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return &nexus.Error{Code: nexus.Internal, Op: "tasks.open", Msg: "The sealed data of this job cannot be read.", Err: err}
	}
	return nil
}

func token() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}
