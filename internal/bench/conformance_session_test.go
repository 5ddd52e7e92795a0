//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// holder is what the bench has noted of the last operation on a database: its process, and
// whether that ended well. After one that did not, the next operation ends the tenant's own
// connections.
type holder struct {
	PID   int  `json:"pid"`
	Clean bool `json:"clean"`
}

func (n *tenant) holder(t *testing.T, b *standin.Box) (h holder) {
	t.Helper()
	if err := json.Unmarshal([]byte(b.Sh(t, "cat sites/.nexus/fence/"+n.op(nil).DB+".gen")), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// testSession looks at what the process of a signup's operations leaves: once the site is
// made, and once no operation follows, nothing of it is running.
func testSession(t *testing.T, b *standin.Box, s *shelf) {
	k := s.keep(t)
	n := k.taker("session")
	n.gen++
	n.run(t, k.claim(n))
	first := n.holder(t, b)
	standin.Await(t, "the process exits, since no operation follows", func() bool {
		return n.holder(t, b).Clean && b.Sh(t, fmt.Sprintf("test -d /proc/%d && echo lives || true", first.PID)) == ""
	})
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	for _, args := range []nexus.Args{nexus.Mark{State: nexus.TenantActive}, n.key(7, "a"), nexus.Mark{State: nexus.TenantSuspended}} {
		n.run(t, args)
		if now := n.holder(t, b); !now.Clean || now.PID == first.PID {
			t.Errorf("after %s of a site that is made: %+v", args.Op(), now)
		}
	}
	testDrop(t, n)
}
