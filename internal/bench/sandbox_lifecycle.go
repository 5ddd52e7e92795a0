package bench

import (
	"context"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func (s *Sandbox) newSite(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	made := siteState{Apps: []string{"frappe"}}
	if op.Room == nexus.RoomTemplates {
		made.MadeOf = s.fingerprint()
	}
	return s.makeSite(ctx, op, made, "")
}

// makeSite makes a site, with what is set in site already, unless it is there. Skip says why
// it cannot be made; empty: it can.
func (s *Sandbox) makeSite(ctx context.Context, op nexus.Op, site siteState, skip string) (result nexus.Result, err error) {
	room := s.folder.room(op.Room)
	made := func(*siteState) error {
		if err := room.saveSite(s.complete(op, site)); err != nil {
			return err
		}
		return room.removeIntent(op.Site)
	}
	delay := s.delay(op, nil)
	atOnce := delay <= 0 // nothing comes between the two halves
	begun := func(site *siteState) error {
		before, err := room.intent(op.Site)
		if err != nil {
			return err
		}
		if taken(op, site, before) {
			return foreign(op)
		}
		if err := s.dropClaimed(op, before); err != nil {
			return err
		}
		if site != nil && site.Made {
			// Made by a former attempt, which may have been killed before it removed the
			// intent; a half-made site is simply made again.
			return room.removeIntent(op.Site)
		}
		if skip != "" {
			result.Skipped, result.Note = true, skip
			return nil
		}
		result.Changed = true
		if atOnce {
			return made(site)
		}
		if err := room.saveIntent(intent{Intent: nexus.Intent{Site: op.Site, Job: op.Owner, DB: op.DB}}); err != nil {
			return err
		}
		return room.saveSite(&siteState{Site: op.Site, DB: op.DB, Job: op.Owner, Install: s.o.Install})
	}
	if err := s.fenced(op, begun); err != nil || !result.Changed || atOnce {
		return result, err
	}
	if err := s.pause(ctx, op, delay); err != nil {
		return result, err
	}
	return result, s.fenced(op, made)
}

// taken reports whether the name is another owner's, by its site or by the intent to make it;
// nil: there is none.
func taken(op nexus.Op, site *siteState, before *intent) bool {
	return site != nil && (site.Job != op.Owner || site.DB != op.DB) || before != nil && before.Job != op.Owner
}

// complete returns a site as the owner's, with what is set in it already.
func (s *Sandbox) complete(op nexus.Op, site siteState) *siteState {
	site.Site, site.DB, site.Job, site.Install, site.Made = op.Site, op.DB, op.Owner, s.o.Install, true
	site.State, site.MadeAt = string(nexus.TenantMaking), time.Now().UTC().Truncate(time.Second)
	return &site
}

// dropSite removes what the owner has under this name, and no other owner's.
func (s *Sandbox) dropSite(ctx context.Context, op nexus.Op) (result nexus.Result, err error) {
	if given, err := s.handedOver(op); given || err != nil {
		return result, err
	}
	if err := s.fenced(op, func(*siteState) error { return nil }); err != nil {
		return result, err
	}
	if err := s.pause(ctx, op, s.delay(op, nil)); err != nil {
		return result, err
	}
	room := s.folder.room(op.Room)
	return result, s.fenced(op, func(site *siteState) error {
		before, err := room.intent(op.Site)
		if err != nil {
			return err
		}
		if err := s.dropClaimed(op, before); err != nil {
			return err
		}
		if site == nil || site.Job == op.Owner {
			result.Changed = site != nil
			if err := room.removeSite(op.Site); err != nil {
				return err
			}
		}
		if before != nil && before.Job != op.Owner {
			return nil
		}
		result.Changed = result.Changed || before != nil
		return room.removeIntent(op.Site)
	})
}
