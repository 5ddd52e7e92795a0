package bench

import (
	"slices"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// register only checks that the site is there: a sandbox has no database to register.
func (s *Sandbox) register(op nexus.Op) (nexus.Result, error) {
	site, err := s.folder.site(op.Site)
	switch {
	case err != nil:
		return nexus.Result{}, err
	case site == nil || !site.Made:
		return nexus.Result{}, fail(nexus.NotFound, op.Args.Op(), "There is no site %s on this bench.", op.Site)
	case site.Install != "" && site.Install != s.o.Install:
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The site %s belongs to another install of Nexus.", op.Site)
	}
	info := site.info()
	return nexus.Result{Changed: site.Job == "", Site: &info}, nil
}

// locked runs a short function under the site's lock and fence.
func (s *Sandbox) locked(op nexus.Op, do func(nexus.Op, *siteState) (nexus.Result, error)) (result nexus.Result, err error) {
	err = s.fenced(op, func(site *siteState) error {
		result, err = do(op, site)
		return err
	})
	return result, err
}

// adopt takes over a site without an owner, as 1.0 made them.
func (s *Sandbox) adopt(op nexus.Op, site *siteState) (nexus.Result, error) {
	switch {
	case site == nil || !site.Made:
		return nexus.Result{}, fail(nexus.NotFound, op.Args.Op(), "There is no site %s on this bench.", op.Site)
	case site.Job == op.Owner && site.DB == op.DB:
		return nexus.Result{}, nil
	case site.Job != "" || site.DB != op.DB:
		return nexus.Result{}, foreign(op)
	}
	site.Job, site.Install, site.State, site.Adopted = op.Owner, s.o.Install, string(nexus.TenantMaking), true
	return nexus.Result{Changed: true}, s.folder.saveSite(site)
}

// disown gives an adopted site back; if it is not the owner's it does nothing.
func (s *Sandbox) disown(op nexus.Op, site *siteState) (nexus.Result, error) {
	switch {
	case site == nil || site.Job != op.Owner:
		return nexus.Result{}, nil
	case !site.Adopted:
		return nexus.Result{}, fail(nexus.Conflict, op.Args.Op(), "The site %s was made by Nexus; it can be removed, not given back.", op.Site)
	}
	if site.Kept != nil && slices.Contains(site.Kept.Given, site.User.pair) {
		site.User.pair = site.Kept.Before
	}
	site.Job, site.Install, site.State, site.Gen = "", "", "", 0
	site.Plan, site.Adopted, site.Kept = nexus.ApplyPlan{}, false, nil
	return nexus.Result{Changed: true}, s.folder.saveSite(site)
}

// keptKey is the admin's key from before an adoption, and those that replaced it.
type keptKey struct {
	Before pair
	Given  []pair
}

// keepKey keeps the admin's key before an adoption replaces it.
func (s *siteState) keepKey(fresh pair) {
	if !s.Adopted || s.State != string(nexus.TenantMaking) {
		return
	}
	if s.Kept == nil {
		s.Kept = &keptKey{Before: s.User.pair}
	}
	s.Kept.Given = append(s.Kept.Given, fresh)
}
