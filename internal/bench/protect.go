package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// protected keeps operations off the operator's own site.
type protected struct {
	master nexus.SiteName
	hands  nexus.Bench
}

var _ nexus.Bench = protected{}

// Protect refuses, as forbidden, whatever would change the master site: it was
// there before us and holds the operator's books, so no record of ours, however
// wrong, may lead to it. Questions pass. An empty name protects nothing.
func Protect(master nexus.SiteName, hands nexus.Bench) nexus.Bench {
	if master == "" {
		return hands
	}
	return protected{master: master, hands: hands}
}

// Run lets the operation through unless it is one of those. What may pass is
// listed, not what may not: an operation yet to come is refused by itself.
func (p protected) Run(ctx context.Context, op nexus.Op) (nexus.Result, error) {
	// Host names ignore case and a last dot.
	if strings.EqualFold(strings.TrimSuffix(string(op.Site), "."), string(p.master)) {
		switch op.Args.(type) {
		case nexus.Hello, nexus.Inventory, nexus.Inspect, nexus.Verify:
		default:
			return nexus.Result{}, &nexus.Error{Code: nexus.Forbidden, Op: "bench." + string(op.Args.Op()),
				Msg: fmt.Sprintf("%s is the master site; nothing here makes, changes or removes it.", p.master)}
		}
	}
	return p.hands.Run(ctx, op)
}
