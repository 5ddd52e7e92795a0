package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// InitBench prepares the configured bench, as root of its database. The password is used
// once. See nexus.Init.
func InitBench(ctx context.Context, environ []string, rootUser string, root nexus.Secret) (result nexus.Result, err error) {
	err = withTools(ctx, environ, func(t tools) error {
		result, err = t.bench.Run(ctx, nexus.Op{Args: nexus.Init{Install: t.install, Account: t.c.DBAccount, RootUser: rootUser,
			RootPassword: root, Password: t.c.DBPassword}})
		return err
	})
	return result, err
}

// RegisterSite enters the database of a site in the register of the configured bench, as
// root of its database. See nexus.Register.
func RegisterSite(ctx context.Context, environ []string, site nexus.SiteName, rootUser string, root nexus.Secret) (result nexus.Result, err error) {
	err = withTools(ctx, environ, func(t tools) error {
		result, err = t.bench.Run(ctx, nexus.Op{Site: site, Args: nexus.Register{RootUser: rootUser, RootPassword: root}})
		return err
	})
	return result, err
}

// NeedsRoot reports whether a site must be registered as root of the database before it
// can be adopted. A sandbox has no database.
func NeedsRoot(environ []string) bool {
	c, _, err := Load(environ)
	return err != nil || c.Bench == "docker"
}

// CheckBench asks the configured bench what it is and what it lacks, and reads its status
// from the registry; the status has no name if no worker has served the bench yet.
func CheckBench(ctx context.Context, environ []string) (hello nexus.HelloResult, status nexus.BenchStatus, err error) {
	err = withTools(ctx, environ, func(t tools) error {
		if hello, err = t.hello(ctx); err != nil {
			return err
		}
		hello.Problems = append(hello.Problems, t.unreachable(ctx)...)
		benches, err := t.store.Benches(ctx)
		for _, b := range benches {
			if b.Name == t.name {
				status = b
			}
		}
		return err
	})
	return hello, status, err
}

// unreachable returns a problem if the address for checks of new sites does not answer.
func (t tools) unreachable(ctx context.Context) []nexus.Problem {
	if t.c.single() {
		return nil
	}
	var site nexus.SiteName
	if open, _, err := t.store.Tenants(ctx, store.TenantFilter{State: nexus.TenantActive, Limit: 1}); err == nil && len(open) > 0 {
		site = open[0].Site
	}
	err := bench.Answers(ctx, t.c.VerifyAddr, site)
	if err == nil {
		return nil
	}
	mend := "Correct NEXUS_VERIFY_ADDR: host:port of the bench's web server as this machine reaches it, such as backend:8000; or start that server."
	if t.c.Bench == "sandbox" {
		mend = "Run nexus sandbox with the same NEXUS_SANDBOX_ADDR, or correct NEXUS_VERIFY_ADDR."
	}
	return []nexus.Problem{{What: "New sites cannot be checked: " + err.Error() + ".", Mend: mend}}
}

// tools are what an operator's command needs. They are configured like a worker.
type tools struct {
	c       Config
	install nexus.InstallID
	bench   nexus.Bench
	name    string // the bench's
	store   *store.Store
	listed  *atomic.Pointer[[]nexus.Template] // of a worker: the templates that it listed last; nil: it listed none
	shelved *atomic.Pointer[[]nexus.Standby]  // of a worker: the standbys that it listed last; nil: it listed none
}

func (t tools) hello(ctx context.Context) (nexus.HelloResult, error) {
	result, err := t.bench.Run(ctx, nexus.Op{Args: nexus.Hello{}})
	if err == nil && result.Hello == nil {
		err = errors.New("the bench answered without a result")
	}
	if err != nil {
		return nexus.HelloResult{}, err
	}
	return *result.Hello, nil
}

// withTools opens bench and registry for one command.
func withTools(ctx context.Context, environ []string, use func(tools) error) error {
	c, _, err := Load(environ)
	parts := Parts{Worker: true}
	if err = errors.Join(append([]error{err}, c.benchNeeds(parts)...)...); err != nil {
		return Misconfigured{err}
	}
	a := &app{c: c, parts: parts, log: NewLog(io.Discard, slog.LevelError), registry: NewRegistry()}
	defer a.close()
	if a.redis, err = connect(c.RedisURL.Reveal(), false); err != nil {
		return err
	}
	a.closers = append(a.closers, a.redis.close)
	st := a.newStore(a.redis.api)
	if a.install, err = st.Install(ctx); err != nil {
		return err
	}
	driver, err := a.bench()
	if err != nil {
		return err
	}
	return use(tools{c: a.c, install: a.install, bench: driver, name: a.c.benchName(), store: st})
}
