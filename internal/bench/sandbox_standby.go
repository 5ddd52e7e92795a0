package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// copied is what a standby keeps of its template.
type copied struct {
	Template nexus.SiteName
	frozen
}

// shelve ends the making of a standby.
func (s *Sandbox) shelve(op nexus.Op, site *siteState) (nexus.Result, error) {
	switch {
	case site.Shelved:
		return nexus.Result{}, nil
	case site.Copied == nil || !slices.Equal(site.Copied.Bench, s.fingerprint()):
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The bench's apps have changed since the standby %s was copied; make another one.", op.Site)
	}
	site.Shelved = true
	return nexus.Result{Changed: true}, nil
}

// warm marks a standby as warm, which it stays.
func (s *Sandbox) warm(op nexus.Op, site *siteState) (nexus.Result, error) {
	switch {
	case site.Copied == nil || !site.Shelved:
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The standby %s is not finished.", op.Site)
	case !slices.Equal(site.Copied.Bench, s.fingerprint()):
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The bench's apps have changed since the standby %s was copied.", op.Site)
	case site.Warm:
		return nexus.Result{}, nil
	}
	site.Warm = true
	return nexus.Result{Changed: true}, nil
}

// standbyProblem says why no signup gets a standby; empty: one may.
func (s *Sandbox) standbyProblem(standby *siteState) string {
	switch {
	case standby.Maker != "":
		return "A signup has taken it and is not done with it."
	case !standby.Shelved:
		return unfinished
	}
	return s.outOfDate("standby", standby.Site, standby.Copied.frozen)
}

// standbys lists what is in the room of standbys.
func (s *Sandbox) standbys() (nexus.Result, error) {
	var out []nexus.Standby
	sites, err := s.sitesIn(nexus.RoomStandby)
	for _, site := range sites {
		standby := nexus.Standby{Name: site.Site, DB: site.DB, Job: cmp.Or(site.Maker, site.Job), MadeAt: site.MadeAt, Problem: s.standbyProblem(site)}
		standby.Warm = site.Warm && standby.Problem == ""
		if c := site.Copied; c != nil {
			standby.Template, standby.Spec, standby.Apps = c.Template, c.Spec, c.Apps
		}
		out = append(out, standby)
	}
	return nexus.Result{Standbys: out}, err
}

// addRooms adds the databases of templates and standbys to an inventory. One that a claim has
// under both names is listed once.
func (s *Sandbox) addRooms(out *nexus.InventoryResult) error {
	for _, room := range []nexus.Room{nexus.RoomTemplates, nexus.RoomStandby} {
		sites, err := s.sitesIn(room)
		if err != nil {
			return err
		}
		kind := map[nexus.Room]string{nexus.RoomTemplates: "template", nexus.RoomStandby: "standby"}[room]
		for _, site := range sites {
			info := site.database(kind)
			if site.Maker != "" {
				info.Kind = "site"
			}
			listed := site.Maker != "" && slices.ContainsFunc(out.Databases, func(d nexus.DatabaseInfo) bool { return d.Name == site.DB })
			if site.Install == s.o.Install && !listed {
				out.Databases = append(out.Databases, info)
			}
		}
	}
	return nil
}

// claim makes a site from a standby. The standby's file is the register: the job that it
// names owns the database. So the claim writes the intent, then the owner into that file,
// then the site's file; then it removes the standby's, and the intent.
func (s *Sandbox) claim(ctx context.Context, op nexus.Op, args nexus.Claim) (result nexus.Result, err error) {
	delay := s.delay(op, nil)
	atOnce := delay <= 0
	err = s.fenced(op, func(site *siteState) error {
		if result, err = s.takeStandby(op, args, site); err != nil || !result.Changed || !atOnce {
			return err
		}
		return s.nameStandby(op, args)
	})
	if err != nil || !result.Changed || atOnce {
		return result, err
	}
	if err := s.pause(ctx, op, delay); err != nil {
		return result, err
	}
	return result, s.fenced(op, func(*siteState) error { return s.nameStandby(op, args) })
}

// takeStandby hands a standby over to the owner, unless the site is there. Two jobs that want
// one standby, or a job and the drop of the standby, meet here under its lock.
func (s *Sandbox) takeStandby(op nexus.Op, args nexus.Claim, site *siteState) (result nexus.Result, err error) {
	before, err := s.folder.intent(op.Site)
	switch {
	case err != nil:
		return result, err
	case taken(op, site, before):
		return result, foreign(op)
	case site != nil && site.Made: // a former attempt was ended before it had removed the rest
		if err := s.dropClaimed(op, before); err != nil {
			return result, err
		}
		return result, s.folder.removeIntent(op.Site)
	case before != nil && before.Standby != args.Standby:
		if err := s.dropClaimed(op, before); err != nil {
			return result, err
		}
	}
	if args.Standby == "" || strings.ContainsAny(string(args.Standby), "/.") { // no standby has such a name; a file may
		result.Skipped, result.Note = true, fmt.Sprintf("There is no standby %q on this bench.", args.Standby)
		return result, s.folder.removeIntent(op.Site)
	}
	room := s.folder.room(nexus.RoomStandby)
	return result, room.locked(args.Standby, func() error {
		standby, err := room.site(args.Standby)
		if err != nil {
			return err
		}
		why := s.refusal(op, args, standby)
		handed := standby != nil && standby.Job == op.Owner && standby.DB == op.DB
		switch {
		case why != "" && handed: // Skipped would say that the owner has got nothing
			return fail(nexus.Internal, op.Args.Op(), "%s", why)
		case why != "":
			result.Skipped, result.Note = true, why
			return s.folder.removeIntent(op.Site)
		case !handed:
			if err := s.folder.saveIntent(intent{nexus.Intent{Site: op.Site, Job: op.Owner, DB: op.DB}, args.Standby, args.Maker}); err != nil {
				return err
			}
			standby.Job, standby.Maker = op.Owner, args.Maker
			if err := room.saveSite(standby); err != nil {
				return err
			}
		}
		result.Changed = true
		return nil
	})
}

// refusal says why a job does not get a standby; empty: it does, or has it.
func (s *Sandbox) refusal(op nexus.Op, args nexus.Claim, standby *siteState) string {
	handed := standby != nil && standby.Job == op.Owner && standby.Maker == args.Maker
	switch {
	case standby == nil:
		return fmt.Sprintf("There is no standby %s on this bench.", args.Standby)
	case standby.DB != op.DB || !handed && standby.Job != args.Maker:
		return fmt.Sprintf("The standby %s belongs to another job.", args.Standby)
	case !standby.Shelved:
		return fmt.Sprintf("The standby %s is not finished.", args.Standby)
	}
	return s.outOfDate("standby", standby.Site, standby.Copied.frozen)
}

// nameStandby gives the owner's standby the site's name. Of the plan it has what a real
// bench keeps in the site's config; the rest comes with ApplyPlan.
func (s *Sandbox) nameStandby(op nexus.Op, args nexus.Claim) error {
	room := s.folder.room(nexus.RoomStandby)
	return room.locked(args.Standby, func() error {
		standby, err := room.site(args.Standby)
		if err != nil {
			return err
		}
		if standby == nil || standby.Job != op.Owner || standby.DB != op.DB {
			return fail(nexus.Internal, op.Args.Op(), "The standby %s was removed while it was claimed.", args.Standby)
		}
		plan := nexus.ApplyPlan{Plan: args.Plan.Plan, Users: args.Plan.Users, StorageBytes: args.Plan.StorageBytes, HostName: args.Plan.HostName}
		if err := s.folder.saveSite(s.complete(op, siteState{Apps: standby.Apps, SetUp: standby.SetUp, Copy: true, Plan: plan})); err != nil {
			return err
		}
		if err := room.removeSite(args.Standby); err != nil {
			return err
		}
		return s.folder.removeIntent(op.Site)
	})
}

// dropClaimed removes the standby that an intent of the owner's names, unless it is another
// job's by now. One that is its maker's still is the owner's with that, as by a hand-over.
func (s *Sandbox) dropClaimed(op nexus.Op, i *intent) error {
	if i == nil || i.Job != op.Owner || i.Standby == "" {
		return nil
	}
	room := s.folder.room(nexus.RoomStandby)
	return room.locked(i.Standby, func() error {
		standby, err := room.site(i.Standby)
		if err != nil || standby == nil || standby.DB != i.DB || (standby.Job != op.Owner && standby.Job != i.Maker) {
			return err
		}
		return room.removeSite(i.Standby)
	})
}

// handedOver tells whether a standby that is to be dropped is another job's by now. Its
// database's fence is that job's too, and stays as it is.
func (s *Sandbox) handedOver(op nexus.Op) (bool, error) {
	if op.Room != nexus.RoomStandby {
		return false, nil
	}
	standby, err := s.folder.room(op.Room).site(op.Site)
	return standby != nil && standby.Job != op.Owner, err
}
