package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// removeAll removes the sites of all signups, also after ctx has ended. It returns those that
// may be left, with the reason.
func (m *measuring) removeAll(ctx context.Context) (left map[string]string) {
	if len(m.samples) > 0 {
		fmt.Fprintln(m.log, "Removing the sites; a second interrupt would leave them.")
	}
	left = map[string]string{}
	var mu sync.Mutex
	someAtOnce(m.samples, func(s *sample) {
		if err := m.remove(ctx, s); err != nil {
			why := refuse(err)
			mu.Lock()
			defer mu.Unlock()
			left[cmp.Or(s.site, s.name)] = join(why.Message, why.Action)
		}
	})
	return left
}

// remove removes what a signup has made. A job that failed or was canceled has left nothing.
func (m *measuring) remove(ctx context.Context, s *sample) error {
	switch {
	case s.jobID == "":
		return m.removeUnanswered(ctx, s)
	case s.job.State == gen.StateSucceeded:
		return remove(ctx, m.c, s.site)
	case s.job.State == gen.StateRollbackFailed:
		return s.failed
	case s.ended():
		return nil
	}
	return m.cancel(ctx, s.jobID, s.site)
}

// cancel ends a job that makes a site, and waits until nothing of the site is left.
func (m *measuring) cancel(ctx context.Context, id, site string) error {
	if err := abandon(ctx, m.c, id, site); err != nil {
		return err
	}
	ctx, stop := cleanupContext(ctx)
	defer stop()
	job, err := followJob(ctx, m.c, id, io.Discard)
	if err == nil && job.State == gen.StateRollbackFailed {
		err = failedJob{job}
	}
	return err
}

// removeUnanswered removes what a signup has made whose request was not answered: it may be
// recorded.
func (m *measuring) removeUnanswered(ctx context.Context, s *sample) error {
	short, stop := cleanupContext(ctx)
	defer stop()
	site, err := fullName(short, m.c, s.name)
	if err != nil {
		return err
	}
	tenant, err := m.c.Tenant(short, site)
	switch {
	case nexus.CodeOf(err) == nexus.NotFound:
		return nil
	case err != nil:
		return err
	case !strings.HasPrefix(site, s.name+"."): // the one site of an installation for one
		return nil
	case tenant.Job != nil:
		return m.cancel(ctx, *tenant.Job, site)
	}
	return remove(ctx, m.c, site)
}
