package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// templateBytes is what a template's database is said to take.
const templateBytes = 1 << 20

// frozen is what Freeze keeps with a template.
type frozen struct {
	Spec    nexus.TemplateSpec
	Apps    []string // as asked for
	MadeAt  time.Time
	Version int
	Bench   []string // the apps that the bench had; see fingerprint
}

// admit refuses an operation in a room where it is not done. The lists are of operations that
// may pass, so a new one is refused until it is added.
func admit(op nexus.Op) error {
	name := op.Args.Op()
	switch op.Args.(type) {
	case nexus.Hello, nexus.Inventory, nexus.Templates, nexus.Standbys: // of the whole bench
		return nil
	}
	switch op.Room {
	case "":
		switch name {
		case nexus.OpSetUp, nexus.OpFreeze:
			return fail(nexus.Invalid, name, "The site %s was not made as a template, so it cannot become one.", op.Site)
		case nexus.OpShelve, nexus.OpWarm:
			return fail(nexus.Invalid, name, "The site %s was not made as a standby, so it cannot become one.", op.Site)
		}
		return nil
	case nexus.RoomTemplates:
		switch op.Args.(type) {
		case nexus.NewSite, nexus.InstallApp, nexus.SetUp, nexus.Freeze, nexus.DropSite, nexus.Inspect, nexus.Stop:
			return nil
		}
		return fail(nexus.Invalid, name, "This cannot be done with the template %s.", op.Site)
	case nexus.RoomStandby:
		switch op.Args.(type) {
		case nexus.Clone, nexus.Shelve, nexus.Warm, nexus.DropSite, nexus.Inspect, nexus.Stop:
			return nil
		}
		return fail(nexus.Invalid, name, "This cannot be done with the standby %s.", op.Site)
	}
	return fail(nexus.Invalid, name, "The sandbox has no place for sites that is named %s.", op.Room)
}

// fingerprint lists the bench's apps with their versions, sorted.
func (s *Sandbox) fingerprint() (apps []string) {
	for _, name := range slices.Sorted(maps.Keys(s.o.Apps)) {
		apps = append(apps, name+" "+s.o.Apps[name])
	}
	return apps
}

// freeze makes a template of a complete site.
func (s *Sandbox) freeze(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.Freeze)
	unclean := site.SetUp.unlike(args.Spec)
	if site.User != nil {
		unclean = errors.New("the site has a user")
	}
	switch {
	case site.Frozen != nil:
		return nexus.Result{}, nil
	case unclean != nil:
		return nexus.Result{}, &nexus.Error{Code: nexus.Internal, Op: "bench." + string(args.Op()),
			Msg: "The template is not clean, so no site is copied from it.", Err: unclean}
	case !slices.Equal(site.MadeOf, s.fingerprint()):
		return nexus.Result{}, fail(nexus.Conflict, args.Op(), "The bench's apps changed while the template was built; build it again.")
	}
	site.Frozen = &frozen{Spec: args.Spec, Apps: args.Apps, MadeAt: time.Now().UTC().Truncate(time.Millisecond), Version: nexus.TemplateVersion, Bench: s.fingerprint()}
	return nexus.Result{Changed: true}, nil
}

// clone makes a site with the apps of a template. They are read before the site's lock is
// taken: a template that is dropped meanwhile has been copied already.
func (s *Sandbox) clone(ctx context.Context, op nexus.Op, args nexus.Clone) (nexus.Result, error) {
	template, err := s.folder.room(nexus.RoomTemplates).site(args.Template)
	if err != nil {
		return nexus.Result{}, err
	}
	if template == nil || template.Frozen == nil {
		return s.makeSite(ctx, op, siteState{}, fmt.Sprintf("There is no template %s on this bench.", args.Template))
	}
	site := siteState{Apps: template.Apps, SetUp: template.SetUp, Copy: true}
	if op.Room == nexus.RoomStandby {
		site.Copied = &copied{Template: template.Site, frozen: *template.Frozen}
	}
	return s.makeSite(ctx, op, site, s.problem(template))
}

// problem says why no site is copied from a template; empty: sites are.
func (s *Sandbox) problem(template *siteState) string {
	if template.Frozen == nil {
		return unfinished
	}
	if why := s.outOfDate("template", template.Site, *template.Frozen); why != "" || !template.SetUp.over() {
		return why
	}
	return "Its last fiscal year is over."
}

// unfinished is the problem of a template or standby that is not frozen or shelved.
const unfinished = "It is not finished."

// outOfDate says why a template or standby is not used any more; empty: it is used.
func (s *Sandbox) outOfDate(what string, name nexus.SiteName, f frozen) string {
	switch {
	case f.Version != nexus.TemplateVersion:
		return fmt.Sprintf("The %s %s was made by another version of Nexus.", what, name)
	case !slices.Equal(f.Bench, s.fingerprint()):
		return fmt.Sprintf("The bench's apps have changed since the %s %s was made.", what, name)
	}
	return ""
}

// templates lists what is in the room of templates.
func (s *Sandbox) templates() (nexus.Result, error) {
	var out []nexus.Template
	sites, err := s.sitesIn(nexus.RoomTemplates)
	for _, site := range sites {
		template := nexus.Template{Name: site.Site, DB: site.DB, Job: site.Job, MadeAt: site.MadeAt, Problem: s.problem(site)}
		if f := site.Frozen; f != nil {
			template.Spec, template.Apps, template.MadeAt, template.Version = f.Spec, f.Apps, f.MadeAt, f.Version
			template.Stale, template.Bytes = !slices.Equal(f.Bench, s.fingerprint()), templateBytes
			template.Renew = site.SetUp.renew()
		}
		out = append(out, template)
	}
	return nexus.Result{Templates: out}, err
}

// sitesIn returns the sites in a room, and those of which there is only the intent.
func (s *Sandbox) sitesIn(name nexus.Room) (sites []*siteState, err error) {
	room := s.folder.room(name)
	made, err := room.list("sites")
	if err != nil {
		return nil, err
	}
	begun, err := room.list("intent")
	if err != nil {
		return nil, err
	}
	names := slices.Concat(made, begun)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		site, err := room.site(nexus.SiteName(name))
		if err != nil {
			return nil, err
		}
		if site == nil {
			intent, err := room.intent(nexus.SiteName(name))
			if err != nil {
				return nil, err
			}
			if intent == nil { // dropped since it was listed
				continue
			}
			site = &siteState{Site: intent.Site, DB: intent.DB, Job: intent.Job}
		}
		sites = append(sites, site)
	}
	return sites, nil
}
