package bench

import "github.com/nexus-erp/provisioner/internal/nexus"

func (s *Sandbox) company(op nexus.Op, site *siteState) (nexus.Result, error) {
	args, _ := op.Args.(nexus.Company)
	changed := site.Company != args.Name
	site.Company = args.Name
	return nexus.Result{Changed: changed}, nil
}
