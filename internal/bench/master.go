package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// MasterOptions describe the operator's own site.
type MasterOptions struct {
	URL     string          // where it answers: http or https
	Site    nexus.SiteName  // its name, sent as Host
	Key     nexus.Secret    // of a user with the role System Manager
	Secret  nexus.Secret    //
	Install nexus.InstallID // of this control plane
	// Name is the registry's name for the person with this address.
	Name func(email string) nexus.SiteName
}

// Master is the bench of single-tenant mode: all tenants are users of one existing
// site, reached over REST only. The operations are those of a bench, with "site" read
// as "user": each looks at the site first and may run twice.
//
// There are no locks on such a site. Instead, the registry has one name per e-mail and
// one live job on it; Frappe has one user per e-mail; and every write carries the user's
// mark with the run's fencing token, and is refused by Frappe if the user changed since
// it was read. One gap is left: an insert that is delayed until its job was undone leaves
// a user that nobody was told of. The next signup with this address removes it (see
// unmade).
type Master struct {
	o      MasterOptions
	client *http.Client
}

var _ nexus.Bench = (*Master)(nil)

// NewMaster makes the driver; it sends no request yet.
func NewMaster(o MasterOptions) *Master {
	o.URL = strings.TrimSuffix(o.URL, "/")
	// Deleting a user looks for links in every table: 3 s on an idle site.
	transport := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, DialContext: dial}
	return &Master{o: o, client: &http.Client{Transport: transport,
		// A redirect would carry the key to another address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Close closes idle connections.
func (m *Master) Close() error {
	m.client.CloseIdleConnections()
	return nil
}

// Run does one operation; see nexus.Bench.
func (m *Master) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if err := implausible(op); err != nil {
		return nexus.Result{}, err
	}
	switch args := op.Args.(type) {
	case nexus.Hello:
		return m.hello(ctx)
	case nexus.Inventory:
		return m.inventory(ctx)
	case nexus.NewSite:
		return nexus.Result{}, patient(m.Check(ctx))
	case nexus.EnsureUser:
		result, err := m.ensureUser(ctx, op, args)
		if err == nil {
			result.Note = m.otherName(ctx, args)
		}
		return result, err
	case nexus.IssueKey:
		return m.issueKey(ctx, op, args)
	case nexus.Mark:
		return m.mark(ctx, op, args.State)
	case nexus.DropSite:
		return m.dropUser(ctx, op)
	case nexus.Inspect:
		return m.inspect(ctx, op)
	case nexus.Verify:
		return nexus.Result{}, m.verify(ctx, args)
	case nexus.InstallApp:
		return nexus.Result{Skipped: true, Note: "The apps of the master site are its operator's."}, nil
	case nexus.ApplyPlan:
		note := "The plan is recorded; on the master site it sets no limits."
		if args.Country+args.Currency != "" {
			note += " Country and currency are the master site's."
		}
		return nexus.Result{Note: note}, nil
	case nexus.Company:
		return nexus.Result{Skipped: true, Note: "The companies of the master site are its operator's."}, nil
	case nexus.Stop, nexus.Init: // nothing of ours runs there, and nothing has to be prepared
		return nexus.Result{}, nil
	}
	return nexus.Result{}, fail(nexus.Invalid, op.Args.Op(), "In single-tenant mode there is no such operation: all users share the master site.")
}

// Check tells whether the master site answers and whether the key may make users. The
// error is a message that tells users what to do.
func (m *Master) Check(ctx context.Context) error {
	var pong struct{ Message string }
	if err := m.ask(ctx, call{method: http.MethodGet, path: "/api/method/ping", open: true}, &pong); err != nil {
		return err
	}
	if pong.Message != "pong" {
		return misled("What answers at ERP_NEXT_URL is no Frappe site: its ping was not answered with a pong.")
	}
	var me struct{ Message string }
	if err := m.ask(ctx, call{method: http.MethodGet, path: "/api/method/frappe.auth.get_logged_user"}, &me); err != nil {
		return err
	}
	user, found, err := m.load(ctx, me.Message)
	able := found && (me.Message == "Administrator" || user.has("System Manager"))
	if nexus.CodeOf(err) == nexus.Forbidden || err == nil && !able {
		return powerless(fmt.Errorf("the key's user has the roles %v", user.roles()))
	}
	return err
}

// patient turns an outage into a wait that counts no attempt. Before the user is made
// there is nothing to undo, so a signup waits for the site, or for its operator, instead
// of failing.
func patient(err error) error {
	e, ok := errors.AsType[*nexus.Error](err)
	if !ok || e.Code != nexus.Unavailable && e.Code != nexus.Forbidden {
		return err
	}
	out := *e
	out.Code = nexus.Limit
	if e.Code == nexus.Forbidden {
		out.Wait, out.RetryAfter = nexus.WaitOperator, time.Minute
	}
	return &out
}

func (m *Master) hello(ctx context.Context) (nexus.Result, error) {
	hello := &nexus.HelloResult{Protocol: 1, Install: m.o.Install, Host: string(m.o.Site)}
	if err := m.Check(ctx); err != nil {
		e, ok := errors.AsType[*nexus.Error](err)
		if !ok || e.Code == nexus.CodeCanceled {
			return nexus.Result{}, err
		}
		hello.Problems = []nexus.Problem{{What: e.Msg, Mend: "Check ERP_NEXT_URL, FRAPPE_SITE_NAME, ERP_API_KEY and ERP_API_SECRET."}}
	}
	return nexus.Result{Hello: hello}, nil
}

// ensureUser makes the user, or gives this job's user this password and these roles.
// Without roles the user gets none: all of them, as an admin gets on a site of its own,
// would make every signup an administrator of the master site.
func (m *Master) ensureUser(ctx context.Context, op nexus.Op, args nexus.EnsureUser) (nexus.Result, error) {
	fields := map[string]any{"first_name": args.FullName, "enabled": 1, "roles": roleRows(args.Roles), "new_password": args.Password.Reveal()}
	for name, value := range map[string]string{"language": args.Language, "time_zone": args.TimeZone} {
		if value != "" {
			fields[name] = value
		}
	}
	again := func() (done bool, err error) {
		user, found, err := m.ours(ctx, op)
		if err == nil && found {
			err = m.put(ctx, op, user, nexus.TenantMaking, fields)
		}
		return found || err != nil, err
	}
	if done, err := again(); done {
		return nexus.Result{Changed: true}, err
	}
	err := m.insert(ctx, op, args, fields)
	if nexus.CodeOf(err) != nexus.Conflict {
		return nexus.Result{Changed: true}, err
	}
	// The conflict may be with an earlier insert of this job that arrived late.
	if done, err := again(); done {
		return nexus.Result{Changed: true}, err
	}
	if gone, removeErr := m.unmade(ctx, op, args.Email); removeErr != nil {
		err = removeErr
	} else if gone {
		err = m.insert(ctx, op, args, fields)
	}
	return nexus.Result{Changed: true}, err
}

func (m *Master) insert(ctx context.Context, op nexus.Op, args nexus.EnsureUser, fields map[string]any) error {
	doc := maps.Clone(fields)
	doc["doctype"], doc["email"], doc["send_welcome_email"] = "User", strings.ToLower(args.Email), 0
	doc["social_logins"] = []row{m.sign(op, nexus.TenantMaking).row()}
	return m.ask(ctx, call{method: http.MethodPost, path: "/api/method/frappe.client.insert", body: map[string]any{"doc": doc},
		hide: []string{args.Password.Reveal()}}, nil)
}

// unmade removes a user that another job of this install left after it was undone. The
// registry has given the e-mail to the present job, so no other job has it now, and the
// state "making" tells that nobody was told of the user. Any other user with this
// address is kept.
func (m *Master) unmade(ctx context.Context, op nexus.Op, email string) (gone bool, err error) {
	user, found, err := m.load(ctx, strings.ToLower(email))
	if err != nil || !found {
		return found, err // removed meanwhile, by somebody else
	}
	left, marked := user.mark()
	if !marked || left.state != nexus.TenantMaking || left.install != m.o.Install || left.gen > op.Gen {
		return false, nil
	}
	return true, m.remove(ctx, user)
}

// issueKey sets the pair. Setting the same pair again is safe, so a lost answer is too.
func (m *Master) issueKey(ctx context.Context, op nexus.Op, args nexus.IssueKey) (nexus.Result, error) {
	user, err := m.need(ctx, op)
	if err != nil {
		return nexus.Result{}, err
	}
	kept, _ := user.mark()
	return nexus.Result{Changed: user.APIKey != args.Key.Reveal()}, m.put(ctx, op, user, kept.state,
		map[string]any{"api_key": args.Key.Reveal(), "api_secret": args.Secret.Reveal()})
}

// mark writes the state into the user's mark, and enables or disables the user: Frappe
// refuses key, password and sessions of a disabled one.
func (m *Master) mark(ctx context.Context, op nexus.Op, state nexus.TenantState) (nexus.Result, error) {
	user, err := m.need(ctx, op)
	if err != nil {
		return nexus.Result{}, err
	}
	enabled := 0
	if state == nexus.TenantActive || state == nexus.TenantMaking {
		enabled = 1
	}
	if kept, _ := user.mark(); kept.state == state && user.Enabled == enabled {
		return nexus.Result{}, nil
	}
	return nexus.Result{Changed: true}, m.put(ctx, op, user, state, map[string]any{"enabled": enabled})
}

// dropUser deletes the user that this job made, and no other; the address is free
// afterwards.
func (m *Master) dropUser(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	user, found, err := m.ours(ctx, op)
	if err != nil || !found {
		return nexus.Result{}, err
	}
	return nexus.Result{Changed: true}, m.remove(ctx, user)
}

func (m *Master) inspect(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	info := &nexus.SiteInfo{Site: op.Site}
	if op.DB == "" { // asked by an adoption, which does not exist here
		return nexus.Result{Site: info}, nil
	}
	user, found, err := m.ours(ctx, op)
	if err != nil || !found {
		return nexus.Result{Site: info}, err
	}
	kept, _ := user.mark()
	*info = m.info(user.Name, kept)
	info.Site, info.Email = op.Site, user.Name
	return nexus.Result{Site: info}, nil
}

// inventory lists the users that carry a mark of this install.
func (m *Master) inventory(ctx context.Context) (nexus.Result, error) {
	rows, err := m.find(ctx, []string{"name", "`tab" + markTable + "`.userid", "`tab" + markTable + "`.username"},
		filter{markTable, "provider", "=", markProvider}, filter{markTable, "userid", "like", string(m.o.Install) + "-%"})
	if err != nil {
		return nexus.Result{}, err
	}
	list := &nexus.InventoryResult{Sites: make([]nexus.SiteInfo, len(rows))}
	for i, r := range rows {
		kept, _ := parseMark(r.Userid, r.Username)
		list.Sites[i] = m.info(r.Name, kept)
	}
	slices.SortFunc(list.Sites, func(a, b nexus.SiteInfo) int { return strings.Compare(string(a.Site), string(b.Site)) })
	return nexus.Result{Inventory: list}, nil
}

func (m *Master) info(email string, kept mark) nexus.SiteInfo {
	return nexus.SiteInfo{Site: m.o.Name(email), Folder: true, DB: kept.job.Database(kept.install), Database: true,
		Install: kept.install, Job: kept.job, State: string(kept.state), StateGen: cmp.Or(kept.changed, kept.gen), Users: 1}
}

// verify checks the key by a request with it.
func (m *Master) verify(ctx context.Context, args nexus.Verify) error {
	status, body, _, err := m.send(ctx, call{method: http.MethodGet, path: "/api/method/frappe.auth.get_logged_user",
		token: token(args.Key, args.Secret)})
	switch {
	case err != nil:
		return err
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusNotFound:
		return m.away(ctx, fmt.Errorf("status %d", status))
	case status != http.StatusOK:
		return wrong("the new key was answered with status %d", status)
	}
	var who struct{ Message string }
	if err := decode(body, &who); err != nil {
		return wrong("the new key was not answered in JSON: %w", err)
	}
	if !strings.EqualFold(who.Message, args.Email) {
		return wrong("the new key belongs to somebody else")
	}
	return nil
}
