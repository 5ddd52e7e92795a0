package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// The mark is a row of the user's Social Logins. That standard child table can be read
// and filtered over REST, is kept when the user is renamed, and is read-only in the
// administrators' forms. The other standard fields (bio, interest) can be edited in the
// user's profile. Through the API the user may edit this one too, so a missing mark does
// not prove that the user is gone: see ours.
const (
	markTable    = "User Social Login"
	markProvider = "nexus"
	userPath     = "/api/resource/User/"
)

// mark says which job of which install made a user.
type mark struct {
	install nexus.InstallID
	job     nexus.JobID
	state   nexus.TenantState
	gen     nexus.Gen // of the last write
	changed nexus.Gen // Submitted of the job that last changed the state; zero: none has
}

// row is a row of a child table, as in Frappe's JSON.
type row = map[string]any

func (k mark) row() row {
	return row{"provider": markProvider, "userid": k.owner(), "username": fmt.Sprintf("%s %d %d", k.state, k.gen, k.changed)}
}

// owner returns the part of a mark that never changes.
func (k mark) owner() string { return string(k.install) + "-" + string(k.job) }

func parseMark(userid, username string) (mark, bool) {
	install, job, owned := strings.Cut(userid, "-")
	state, tokens, ok := strings.Cut(username, " ")
	text, last, _ := strings.Cut(tokens, " ")
	gen, err := strconv.ParseInt(text, 10, 64)
	changed, _ := strconv.ParseInt(last, 10, 64) // absent: 0
	return mark{install: nexus.InstallID(install), job: nexus.JobID(job), state: nexus.TenantState(state), gen: nexus.Gen(gen), changed: nexus.Gen(changed)},
		owned && ok && err == nil
}

// sign returns the mark that an operation writes.
func (m *Master) sign(op nexus.Op, state nexus.TenantState) mark {
	return mark{install: m.o.Install, job: op.Owner, state: state, gen: op.Gen}
}

// masterUser holds the fields of a User document that are used here.
type masterUser struct {
	Name      string `json:"name"`
	Enabled   int    `json:"enabled"`
	Modified  string `json:"modified"`
	FirstName string `json:"first_name"`
	APIKey    string `json:"api_key"`
	Roles     []struct {
		Role string `json:"role"`
	} `json:"roles"`
	SocialLogins []row `json:"social_logins"`
}

func (u masterUser) mark() (kept mark, ok bool) {
	for _, r := range u.SocialLogins {
		if r["provider"] == markProvider {
			kept, ok = parseMark(fmt.Sprint(r["userid"]), fmt.Sprint(r["username"]))
			kept.gen, kept.changed = plausibleGen(kept.gen), plausibleGen(kept.changed) // the user may have written this row
			return kept, ok
		}
	}
	return mark{}, false
}

func (u masterUser) roles() []string {
	names := make([]string, len(u.Roles))
	for i, r := range u.Roles {
		names[i] = r.Role
	}
	return names
}

func (u masterUser) has(role string) bool { return slices.Contains(u.roles(), role) }

func roleRows(roles []string) []row {
	rows := make([]row, len(roles))
	for i, role := range roles {
		rows[i] = row{"role": role}
	}
	return rows
}

// load reads one user.
func (m *Master) load(ctx context.Context, name string) (user masterUser, found bool, err error) {
	var out struct{ Data masterUser }
	err = m.ask(ctx, call{method: http.MethodGet, path: userPath + url.PathEscape(name)}, &out)
	if nexus.CodeOf(err) == nexus.NotFound {
		return user, false, nil
	}
	return out.Data, err == nil, err
}

// otherName returns a note if the site stores another full name than was asked for:
// Frappe escapes names on each save, and over REST there is no way around that.
func (m *Master) otherName(ctx context.Context, args nexus.EnsureUser) (note string) {
	if !strings.ContainsAny(args.FullName, "&<>\u00a0") {
		return ""
	}
	user, found, err := m.load(ctx, strings.ToLower(args.Email))
	if err != nil || !found || user.FirstName == args.FullName { // an error is ignored: the user is made, and this is only a note
		return ""
	}
	return "The site keeps the name as: " + user.FirstName
}

// filter is one condition of a list: DocType, field, operator, value.
type filter [4]string

type found struct{ Name, Userid, Username string }

// find lists all users that match; by itself Frappe stops at twenty.
func (m *Master) find(ctx context.Context, fields []string, filters ...filter) ([]found, error) {
	query := url.Values{"limit_page_length": {"0"}}
	if filters == nil {
		filters = []filter{}
	}
	for name, value := range map[string]any{"fields": fields, "filters": filters} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		query.Set(name, string(text))
	}
	var out struct{ Data []found }
	err := m.ask(ctx, call{method: http.MethodGet, path: "/api/resource/User?" + query.Encode()}, &out)
	return out.Data, err
}

// ours finds the user that the operation's job made, by its mark. An operation with a
// lower token than the mark's is fenced.
func (m *Master) ours(ctx context.Context, op nexus.Op) (user masterUser, ok bool, err error) {
	rows, err := m.find(ctx, []string{"name"}, filter{markTable, "provider", "=", markProvider}, filter{markTable, "userid", "=", m.sign(op, "").owner()})
	if err != nil {
		return user, false, err
	}
	switch len(rows) {
	case 0:
		return user, false, m.unmarked(ctx, op)
	case 1:
	default:
		return user, false, fail(nexus.Conflict, op.Args.Op(), "More than one user of the master site carries the mark of this account; an operator must look at them.")
	}
	if user, ok, err = m.load(ctx, rows[0].Name); err != nil || !ok {
		return user, false, err
	}
	kept, ok := user.mark()
	if !ok || kept.owner() != m.sign(op, "").owner() { // the mark was removed since the list was read
		return user, false, m.unmarked(ctx, op)
	}
	if kept.gen > op.Gen {
		return user, false, &nexus.Error{Code: nexus.Fenced, Op: "master." + string(op.Args.Op()), Seen: kept.gen,
			Msg: "A newer run works on this account.", Err: fmt.Errorf("gen %d below %d", op.Gen, kept.gen)}
	}
	return user, true, nil // whatever kept.changed says: else a user could write himself out of his suspension
}

// unmarked tells, for a tenant that was handed out (its later jobs carry no e-mail),
// whether the user is there but has lost its mark. Such a user is not touched, since
// nothing proves that it is ours, and not reported as gone either.
func (m *Master) unmarked(ctx context.Context, op nexus.Op) error {
	if op.Email != "" {
		return nil
	}
	rows, err := m.find(ctx, []string{"name"})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rows, func(r found) bool { return m.o.Name(r.Name) == op.Site }) {
		return fail(nexus.Conflict, op.Args.Op(), "The user of this account is on the master site, but no longer carries our mark (a row \"nexus\" in its Social Logins); an operator must disable or delete it there.")
	}
	return nil
}

// need returns what ours does, and a not_found error if there is no such user.
func (m *Master) need(ctx context.Context, op nexus.Op) (masterUser, error) {
	user, ok, err := m.ours(ctx, op)
	if err == nil && !ok {
		err = fail(nexus.NotFound, op.Args.Op(), "The user of this account is not on the master site.")
	}
	return user, err
}

// put writes some of a user's fields, and the mark. Frappe refuses it if the user changed
// since it was read.
func (m *Master) put(ctx context.Context, op nexus.Op, user masterUser, state nexus.TenantState, fields map[string]any) error {
	logins := slices.Clone(user.SocialLogins)
	i := slices.IndexFunc(logins, func(r row) bool { return r["provider"] == markProvider })
	kept, _ := user.mark()
	next := m.sign(op, state)
	if next.changed = kept.changed; op.Args.Op() == nexus.OpMark {
		next.changed = max(kept.changed, op.Submitted)
	}
	logins[i] = next.row() // it is there: ours found the user by it
	body := map[string]any{"modified": user.Modified, "social_logins": logins}
	var hide []string
	for name, value := range fields {
		body[name] = value
		if text, ok := value.(string); ok && (name == "new_password" || strings.HasPrefix(name, "api_")) {
			hide = append(hide, text)
		}
	}
	return m.ask(ctx, call{method: http.MethodPut, path: userPath + url.PathEscape(user.Name), body: body, hide: hide}, nil)
}
