package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// SandboxOptions describe a sandbox. Dir is required.
type SandboxOptions struct {
	Dir        string          // state; several processes may share it
	Delay      time.Duration   // time each changing operation takes
	Real       bool            // operations take the times of a real bench instead; see realTimes
	Install    nexus.InstallID // of this control plane
	VerifyAddr string          // host:port where Handler is served
	Apps       map[string]string
	// Before and After let a test fail an operation before and after its effect;
	// After simulates lost answers. Nil: no faults but those by e-mail.
	Before, After func(nexus.Op) error
}

// Sandbox is a bench without Frappe: the same operations over one folder, with
// the same fences, owners and leftovers. Safe for use by several processes.
type Sandbox struct {
	o       SandboxOptions
	folder  folder
	verify  *verifier
	changes map[nexus.OpName]change
	lists   func() (*nexus.Knows, error)
}

var _ nexus.Bench = (*Sandbox)(nil)

// change is the second half of an operation, done under the site's lock and after the
// delay. It edits the state in place.
type change func(s *Sandbox, op nexus.Op, site *siteState) (nexus.Result, error)

// NewSandbox opens the folder, making it if needed.
func NewSandbox(o SandboxOptions) (*Sandbox, error) {
	if o.Dir == "" {
		return nil, errors.New("sandbox: no folder given")
	}
	if o.Apps == nil {
		o.Apps = map[string]string{"frappe": "15.72.4", "erpnext": "15.71.1", "hrms": "15.40.0"}
	}
	s := &Sandbox{o: o, folder: newFolder(o.Dir), verify: newVerifier(o.VerifyAddr), lists: sync.OnceValues(knows)}
	s.changes = map[nexus.OpName]change{
		nexus.OpInstallApp: (*Sandbox).installApp, nexus.OpEnsureUser: (*Sandbox).ensureUser,
		nexus.OpApplyPlan: (*Sandbox).applyPlan, nexus.OpIssueKey: (*Sandbox).issueKey, nexus.OpMark: (*Sandbox).mark,
		nexus.OpFreeze: (*Sandbox).freeze, nexus.OpShelve: (*Sandbox).shelve, nexus.OpWarm: (*Sandbox).warm, nexus.OpCompany: (*Sandbox).company,
	}
	return s, s.folder.make()
}

// Run does one operation; see nexus.Bench.
func (s *Sandbox) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	if err := admit(op); err != nil {
		return nexus.Result{}, err
	}
	if err := s.faults(ctx, op, s.o.Before); err != nil {
		return nexus.Result{}, err
	}
	var result nexus.Result
	var err error
	switch args := op.Args.(type) {
	case nexus.Hello:
		result, err = s.hello()
	case nexus.Inventory:
		result, err = s.inventory(args)
	case nexus.Init:
		result, err = s.init(args)
	case nexus.Inspect:
		result, err = s.inspect(op)
	case nexus.Stop:
		err = s.fenced(op, func(*siteState) error { return nil })
	case nexus.NewSite:
		result, err = s.newSite(ctx, op)
	case nexus.SetUp:
		result, err = s.setUp(ctx, op, args)
	case nexus.Clone:
		result, err = s.clone(ctx, op, args)
	case nexus.Claim:
		result, err = s.claim(ctx, op, args)
	case nexus.DropSite:
		result, err = s.dropSite(ctx, op)
	case nexus.Templates:
		result, err = s.templates()
	case nexus.Standbys:
		result, err = s.standbys()
	case nexus.Register:
		result, err = s.register(op)
	case nexus.Adopt:
		result, err = s.locked(op, s.adopt)
	case nexus.Disown:
		result, err = s.locked(op, s.disown)
	case nexus.Verify:
		if err = s.pause(ctx, op, s.delay(op, nil)); err == nil {
			result, err = s.verify.run(ctx, op.Site, args)
		}
	default:
		work := s.changes[args.Op()]
		if work == nil {
			return nexus.Result{}, fail(nexus.Invalid, args.Op(), "The sandbox does not know this operation.")
		}
		result, err = s.change(ctx, op, work)
	}
	if err == nil && s.o.After != nil {
		err = s.o.After(op)
	}
	return result, err
}

// fenced runs a short function on a site, nil if there is none, under the site's lock. It
// refuses a token lower than the highest seen, and an outdated job. No lock is held during a
// delay, since a stopped process would never release it.
func (s *Sandbox) fenced(op nexus.Op, do func(*siteState) error) error {
	if err := implausible(op); err != nil {
		return err
	}
	room := s.folder.room(op.Room)
	return room.locked(op.Site, func() error {
		site, err := room.site(op.Site)
		if err != nil {
			return err
		}
		var late error
		if site != nil && site.Job == op.Owner {
			late = outdated(op, site.Gen)
		}
		seen, err := room.fence(op.DB, op.Gen, late == nil)
		switch {
		case err != nil:
			return err
		case op.Gen < seen && op.Args.Op() != nexus.OpWarm:
			return &nexus.Error{Code: nexus.Fenced, Op: "sandbox." + string(op.Args.Op()), Seen: seen,
				Msg: "A newer run works on this site.", Err: fmt.Errorf("gen %d below %d", op.Gen, seen)}
		case late != nil:
			return late
		}
		return do(site)
	})
}

// change does an operation on a complete site of the owner's.
func (s *Sandbox) change(ctx context.Context, op nexus.Op, work change) (result nexus.Result, err error) {
	if s.o.Delay > 0 || s.o.Real { // without a delay the second half looks at once anyway
		var delay time.Duration
		err := s.fenced(op, func(site *siteState) error {
			if err := own(op, site); err != nil {
				return err
			}
			delay = s.delay(op, site)
			return nil
		})
		if err != nil {
			return result, err
		}
		if err := s.pause(ctx, op, delay); err != nil {
			return result, err
		}
	}
	err = s.fenced(op, func(site *siteState) error {
		if err := own(op, site); err != nil {
			return err
		}
		result, err = work(s, op, site)
		if err != nil || !result.Changed {
			return err
		}
		return s.folder.room(op.Room).saveSite(site)
	})
	return result, err
}

// own checks that a site is complete and belongs to the operation's owner.
func own(op nexus.Op, site *siteState) error {
	switch {
	case site == nil || !site.Made:
		return fail(nexus.NotFound, op.Args.Op(), "There is no site %s on this bench.", op.Site)
	case site.Job != op.Owner || site.DB != op.DB:
		return foreign(op)
	}
	return nil
}

func (s *Sandbox) installApp(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.InstallApp)
	switch {
	case s.o.Apps[args.App] == "" && args.Optional:
		return nexus.Result{Skipped: true}, nil
	case s.o.Apps[args.App] == "":
		return nexus.Result{}, fail(nexus.NotFound, op.Args.Op(), "The app %s is not on this bench.", args.App)
	case slices.Contains(site.Apps, args.App):
		return nexus.Result{}, nil
	case site.Frozen != nil: // new sites are to be what was frozen
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The template %s is frozen; build another one that has the app %s.", op.Site, args.App)
	}
	site.Apps = append(site.Apps, args.App)
	return nexus.Result{Changed: true}, nil
}

func (s *Sandbox) ensureUser(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.EnsureUser)
	if len(args.Email) > nexus.MaxData || nexus.DataLength(args.FullName) > nexus.MaxData {
		return nexus.Result{}, fail(nexus.Invalid, args.Op(), "Frappe refused the data.")
	}
	if site.User != nil && strings.EqualFold(site.User.Email, args.Email) && site.User.password(args.Password) &&
		slices.Equal(site.User.Roles, args.Roles) {
		return nexus.Result{}, nil
	}
	keys := site.User
	site.User = newUser(args)
	if keys != nil {
		site.User.pair = keys.pair
	}
	return nexus.Result{Changed: true}, nil
}

func (s *Sandbox) applyPlan(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.ApplyPlan)
	lists, err := s.lists()
	if err != nil {
		return nexus.Result{}, err
	}
	args, note := fitPlan(*lists, args)
	changed := site.Plan != args
	site.Plan = args
	return nexus.Result{Changed: changed, Note: note}, nil
}

func (s *Sandbox) issueKey(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.IssueKey)
	if site.User == nil || !strings.EqualFold(site.User.Email, args.Email) {
		return nexus.Result{}, fail(nexus.NotFound, op.Args.Op(), "There is no user %s on %s.", args.Email, op.Site)
	}
	fresh := pair{digest(args.Key.Reveal()), digest(args.Secret.Reveal())}
	if site.User.pair == fresh {
		return nexus.Result{}, nil
	}
	site.keepKey(fresh)
	site.User.pair = fresh
	return nexus.Result{Changed: true}, nil
}

func (s *Sandbox) mark(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.Mark)
	settled := cmp.Or(op.Submitted, op.Gen)
	if site.State == string(args.State) {
		if site.Gen == settled {
			return nexus.Result{}, nil
		}
		site.Gen = settled
		return nexus.Result{}, s.folder.saveSite(site)
	}
	if site.State == string(nexus.TenantActive) { // only now the adoption cannot be undone any more
		site.Kept = nil
	}
	site.State, site.Gen = string(args.State), settled
	return nexus.Result{Changed: true}, nil
}

// Close closes idle connections; the folder stays.
func (s *Sandbox) Close() error {
	s.verify.close()
	return nil
}

func (s *Sandbox) hello() (nexus.Result, error) {
	lists, err := s.lists()
	if err != nil {
		return nexus.Result{}, err
	}
	install, err := s.folder.install()
	return nexus.Result{Hello: &nexus.HelloResult{Protocol: 1, Frappe: s.o.Apps["frappe"], Apps: maps.Clone(s.o.Apps), Install: install, Knows: lists,
		Problems: s.folder.problems()}}, err
}

func (s *Sandbox) init(args nexus.Init) (result nexus.Result, err error) {
	err = s.folder.locked("install", func() error {
		have, err := s.folder.install()
		if err != nil {
			return err
		}
		if have != "" && have != args.Install {
			return fail(nexus.Conflict, nexus.OpInit, "This bench belongs to the install %s, not to %s.", have, args.Install)
		}
		result.Changed = have == ""
		return s.folder.setInstall(args.Install)
	})
	return result, err
}
