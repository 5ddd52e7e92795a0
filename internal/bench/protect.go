package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// protected refuses operations on the operator's own site.
type protected struct {
	master nexus.SiteName
	bench  nexus.Bench
}

var _ nexus.Bench = protected{}

// Protect refuses, as forbidden, all operations that would change the master site: it
// holds the operator's own data, and no record of ours, however wrong, may lead to it.
// Operations that only read pass. An empty name protects nothing.
func Protect(master nexus.SiteName, bench nexus.Bench) nexus.Bench {
	if master == "" {
		return bench
	}
	return protected{master: master, bench: bench}
}

// Run refuses such an operation and hands on any other. The list is of operations that
// may pass, so a new one is refused until it is added.
func (p protected) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	// Host names ignore case and a last dot.
	if strings.EqualFold(strings.TrimSuffix(string(op.Site), "."), string(p.master)) {
		switch op.Args.(type) {
		case nexus.Hello, nexus.Inventory, nexus.Inspect, nexus.Verify, nexus.Templates, nexus.Standbys:
		default:
			return nexus.Result{}, &nexus.Error{Code: nexus.Forbidden, Op: "bench." + string(op.Args.Op()),
				Msg: fmt.Sprintf("%s is the master site; nothing here makes, changes or removes it.", p.master)}
		}
	}
	return p.bench.Run(ctx, op)
}
