package bench

import (
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// plausibleGen returns a token that a bench kept, or zero if it was never issued: such a
// token must not lock the site's owner out.
func plausibleGen(g nexus.Gen) nexus.Gen {
	if !g.Plausible(time.Now()) {
		return 0
	}
	return g
}

// outdated refuses an operation of a job that was submitted before the job that last
// changed the site's state. Jobs on one site follow each other, so it was over by then,
// and comes from a backup of Redis.
func outdated(op nexus.Op, lastChange nexus.Gen) error {
	if op.Submitted == 0 || op.Submitted >= lastChange {
		return nil
	}
	return &nexus.Error{Code: nexus.Conflict, Op: "bench." + string(op.Args.Op()), Outdated: true,
		Msg: fmt.Sprintf("A job that was submitted later has changed the state of %s.", op.Site),
		Err: fmt.Errorf("submitted %d, last change %d", op.Submitted, lastChange)}
}

// implausible refuses an operation with a token that cannot have been issued: once
// kept, it would lock out all later operations.
func implausible(op nexus.Op) error {
	if op.Gen.Plausible(time.Now()) {
		return nil
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "bench." + string(op.Args.Op()), Wait: nexus.WaitBench, Unbegun: true, RetryAfter: outagePause,
		Msg: "The operation's token is far ahead of the bench's clock; set the clocks of the bench and of Redis.", Err: fmt.Errorf("gen %d", op.Gen)}
}
