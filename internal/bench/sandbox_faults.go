package bench

import (
	"context"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// fault is a failure of one operation, asked for by the name of an e-mail address.
type fault struct {
	op   nexus.OpName
	code nexus.Code
	text string
	only int // fails this often on a site, then succeeds; 0: always fails
}

// faultsOnDemand are e-mail names that make the sandbox fail, like the test cards of a
// payment service: sign up as fail-apps@example.com and see what a customer would. There
// are also slow-site (five seconds more), and stuck-undo, where the user is refused and
// the rollback then fails until an operator resumes it.
var faultsOnDemand = map[string]fault{
	"fail-site":    {op: nexus.OpNewSite, code: nexus.Invalid, text: "The sandbox was asked to refuse the site."},
	"fail-apps":    {op: nexus.OpInstallApp, code: nexus.NotFound, text: "The sandbox was asked to lack this app."},
	"fail-user":    {op: nexus.OpEnsureUser, code: nexus.Invalid, text: "The sandbox was asked to refuse the user."},
	"fail-plan":    {op: nexus.OpApplyPlan, code: nexus.Invalid, text: "The sandbox was asked to refuse the plan."},
	"fail-key":     {op: nexus.OpIssueKey, code: nexus.Invalid, text: "The sandbox was asked to refuse the key."},
	"fail-verify":  {op: nexus.OpVerify, code: nexus.Invalid, text: "The sandbox was asked to answer wrongly."},
	"flaky-site":   {op: nexus.OpNewSite, code: nexus.Unavailable, text: "The sandbox was asked to fail twice.", only: 2},
	"flaky-apps":   {op: nexus.OpInstallApp, code: nexus.Timeout, text: "The sandbox was asked to be too slow once.", only: 1},
	"flaky-verify": {op: nexus.OpVerify, code: nexus.Unavailable, text: "The sandbox was asked not to answer at first.", only: 3},
	"full-bench":   {op: nexus.OpNewSite, code: nexus.Limit, text: "The sandbox was asked to have no room at first.", only: 2},
	"down-verify":  {op: nexus.OpVerify, code: nexus.Unavailable, text: "The sandbox was asked to be away."},
	"stuck-undo":   {op: nexus.OpEnsureUser, code: nexus.Invalid, text: "The sandbox was asked to refuse the user."},
}

// stuckUndo fails every attempt of an undo, so the job is parked; once an operator
// resumes it, the next attempt succeeds.
var stuckUndo = fault{op: nexus.OpDropSite, code: nexus.Unavailable, text: "The sandbox was asked to fail here.", only: 8}

func (s *Sandbox) faults(ctx context.Context, op nexus.Op, hook func(nexus.Op) error) error {
	if ctx.Err() != nil {
		return ended(ctx, op)
	}
	if hook != nil {
		if err := hook(op); err != nil {
			return err
		}
	}
	f, ok := faultsOnDemand[local(op.Email)]
	if local(op.Email) == "stuck-undo" && op.Args.Op() == nexus.OpDropSite {
		f = stuckUndo
	}
	if !ok || f.op != faultOp(op) {
		return nil
	}
	if over, err := s.spent(op, f); over || err != nil {
		return err
	}
	err := &nexus.Error{Code: f.code, Op: "sandbox." + string(f.op), Msg: f.text}
	switch {
	case f.code == nexus.Limit:
		err.Wait, err.RetryAfter = nexus.WaitCapacity, time.Second
	case f.op == nexus.OpVerify && f.code == nexus.Unavailable:
		err.Wait = nexus.WaitBench
	}
	return err
}

// faultOp returns the operation whose faults an operation has. Clone and Claim have those of
// NewSite, since people who ask for a site that fails do not choose how it is made.
func faultOp(op nexus.Op) nexus.OpName {
	switch name := op.Args.Op(); name {
	case nexus.OpClone, nexus.OpClaim:
		return nexus.OpNewSite
	default:
		return name
	}
}

// spent counts a fault that happens only a few times, and reports whether it is over. It
// counts by owner, since a job's database is another one after a claim has failed.
func (s *Sandbox) spent(op nexus.Op, f fault) (over bool, err error) {
	if f.only == 0 {
		return false, nil
	}
	path := s.folder.path("faults", string(op.Owner)+"."+string(f.op))
	err = s.folder.locked(op.Site, func() error {
		count, err := read[int](path)
		if err != nil {
			return err
		}
		if count == nil {
			count = new(int)
		}
		if over = *count >= f.only; over {
			return nil
		}
		return write(path, *count+1)
	})
	return over, err
}

// local returns the part of an address before the @, without a +tag: tags let one fault
// be asked for by several addresses.
func local(email string) string {
	name, _, _ := strings.Cut(email, "@")
	name, _, _ = strings.Cut(name, "+")
	return name
}
