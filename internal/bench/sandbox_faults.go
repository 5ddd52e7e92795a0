package bench

import (
	"context"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// faultsOnDemand are e-mail names that make the sandbox fail, as the test cards
// of a payment service do: sign up as fail-apps@example.com and see what your
// customers would. Also: slow-site (five seconds more), stuck-undo (the rollback
// fails; as stuck-undo the user step fails first).
var faultsOnDemand = map[string]struct {
	op   nexus.OpName
	code nexus.Code
	text string
}{
	"fail-site":   {nexus.OpNewSite, nexus.Invalid, "The sandbox was asked to refuse the site."},
	"fail-apps":   {nexus.OpInstallApp, nexus.NotFound, "The sandbox was asked to lack this app."},
	"fail-user":   {nexus.OpEnsureUser, nexus.Invalid, "The sandbox was asked to refuse the user."},
	"fail-plan":   {nexus.OpApplyPlan, nexus.Invalid, "The sandbox was asked to refuse the plan."},
	"fail-key":    {nexus.OpIssueKey, nexus.Invalid, "The sandbox was asked to refuse the key."},
	"fail-verify": {nexus.OpVerify, nexus.Invalid, "The sandbox was asked to answer wrongly."},
	"down-verify": {nexus.OpVerify, nexus.Unavailable, "The sandbox was asked to be away."},
	"stuck-undo":  {nexus.OpEnsureUser, nexus.Invalid, "The sandbox was asked to refuse the user."},
}

func (s *Sandbox) faults(ctx context.Context, op nexus.Op, hook func(nexus.Op) error) error {
	if ctx.Err() != nil {
		return ended(ctx, op)
	}
	if hook != nil {
		if err := hook(op); err != nil {
			return err
		}
	}
	if f, ok := faultsOnDemand[local(op.Email)]; ok && f.op == op.Args.Op() {
		err := &nexus.Error{Code: f.code, Op: "sandbox." + string(f.op), Msg: f.text}
		if f.op == nexus.OpVerify && f.code == nexus.Unavailable {
			err.Wait = nexus.WaitBench
		}
		return err
	}
	return nil
}

// local is the part of an address before the @, without a +tag, so that one
// fault can be asked for more than once.
func local(email string) string {
	name, _, _ := strings.Cut(email, "@")
	name, _, _ = strings.Cut(name, "+")
	return name
}
