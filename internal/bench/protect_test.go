package bench_test

import (
	"context"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// passed counts what came through.
type passed struct{ n int }

func (p *passed) Run(context.Context, nexus.Op) (nexus.Result, error) {
	p.n++
	return nexus.Result{}, nil
}

func TestProtect(t *testing.T) {
	t.Parallel()
	hands := &passed{}
	guarded := bench.Protect("erp.example.com", hands)
	reads := []nexus.Args{nexus.Hello{}, nexus.Inventory{}, nexus.Inspect{}, nexus.Verify{}, nexus.Templates{}, nexus.Standbys{}}
	writes := []nexus.Args{nexus.NewSite{}, nexus.DropSite{}, nexus.Mark{State: nexus.TenantDeleting}, nexus.Mark{State: nexus.TenantSuspended},
		nexus.Mark{State: nexus.TenantActive}, nexus.Adopt{}, nexus.Disown{}, nexus.InstallApp{}, nexus.EnsureUser{}, nexus.ApplyPlan{},
		nexus.IssueKey{}, nexus.Stop{}, nexus.Clone{}, nexus.Freeze{}, nexus.Shelve{}, nexus.Warm{}, nexus.Claim{}, nexus.Company{}}
	for _, site := range []nexus.SiteName{"erp.example.com", "ERP.example.com", "erp.example.com."} {
		for _, args := range writes {
			if _, err := guarded.Run(t.Context(), nexus.Op{Site: site, Args: args}); nexus.CodeOf(err) != nexus.Forbidden {
				t.Errorf("%s on %s: %v", args.Op(), site, err)
			}
		}
	}
	if hands.n != 0 {
		t.Fatalf("%d operations came through", hands.n)
	}
	for _, args := range reads {
		if _, err := guarded.Run(t.Context(), nexus.Op{Site: "erp.example.com", Args: args}); err != nil {
			t.Errorf("%s: %v", args.Op(), err)
		}
	}
	for _, site := range []nexus.SiteName{"acme.example.com", "acme.erp.example.com", ""} {
		for _, args := range writes {
			if _, err := guarded.Run(t.Context(), nexus.Op{Site: site, Args: args}); err != nil {
				t.Errorf("%s on %s: %v", args.Op(), site, err)
			}
		}
	}
	if want := len(reads) + 3*len(writes); hands.n != want {
		t.Errorf("%d operations came through, want %d", hands.n, want)
	}
	if bench.Protect("", hands) != nexus.Bench(hands) {
		t.Error("without a master there is nothing to protect")
	}
}
