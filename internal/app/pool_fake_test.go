package app_test

import (
	"context"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// temporary: until the sandbox has standbys.
func (s *shop) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have == nil {
		s.have = map[nexus.SiteName]nexus.Standby{}
	}
	hello, _ := s.bench.Run(ctx, nexus.Op{Args: nexus.Hello{}})
	version := hello.Hello.Frappe
	switch args := op.Args.(type) {
	case nexus.Clone:
		s.have[op.Site] = nexus.Standby{Name: op.Site, DB: op.DB, Job: op.Owner, Template: args.Template, Spec: "plain", Apps: []string{"erpnext"}}
		s.of = version
		return nexus.Result{Changed: true}, nil
	case nexus.Shelve:
		return nexus.Result{Changed: true}, nil
	case nexus.Standbys:
		var out []nexus.Standby
		for _, each := range s.have {
			if s.of != version {
				each.Problem = "Apps changed."
			}
			out = append(out, each)
		}
		return nexus.Result{Standbys: out}, nil
	case nexus.DropSite:
		if op.Room == nexus.RoomStandby {
			s.drops = append(s.drops, op)
			if s.meet != nil {
				if err := s.meet(); err != nil {
					return nexus.Result{}, err
				}
			}
			delete(s.have, op.Site)
			return nexus.Result{}, nil
		}
	}
	result, err := s.stock.Run(ctx, op)
	for i := range result.Templates {
		result.Templates[i].Bytes = s.sized
	}
	return result, err
}
