package app

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// InitBench prepares the bench of the environment, as its database's root; the
// password is used once. See nexus.Init.
func InitBench(ctx context.Context, environ []string, rootUser string, root nexus.Secret) (result nexus.Result, err error) {
	err = withBench(ctx, environ, func(c Config, install nexus.InstallID, bench nexus.Bench) error {
		if c.Bench == "docker" && c.DBPassword == "" {
			return errors.New("NEXUS_DB_PASSWORD is not set: choose a password for the worker's database account, and give it to the workers too")
		}
		result, err = bench.Run(ctx, nexus.Op{Args: nexus.Init{Install: install, Account: c.DBAccount, RootUser: rootUser,
			RootPassword: root, Password: c.DBPassword}})
		return err
	})
	return result, err
}

// CheckBench asks the bench of the environment what it is and what it lacks.
func CheckBench(ctx context.Context, environ []string) (hello nexus.HelloResult, err error) {
	err = withBench(ctx, environ, func(_ Config, _ nexus.InstallID, bench nexus.Bench) error {
		result, err := bench.Run(ctx, nexus.Op{Args: nexus.Hello{}})
		if err == nil && result.Hello == nil {
			err = errors.New("the bench said nothing of itself")
		}
		if err == nil {
			hello = *result.Hello
		}
		return err
	})
	return hello, err
}

// withBench opens the bench for one command; the install's id is in Redis.
func withBench(ctx context.Context, environ []string, use func(Config, nexus.InstallID, nexus.Bench) error) error {
	c, _, err := Load(environ)
	if err != nil {
		return err
	}
	a := &app{c: c, parts: Parts{Worker: true}, log: NewLog(io.Discard, slog.LevelError), registry: prometheus.NewRegistry()}
	defer a.close()
	if err := a.folder(); err != nil {
		return err
	}
	if a.redis, err = connect(c.RedisURL, false); err != nil {
		return err
	}
	a.closers = append(a.closers, a.redis.close)
	if a.install, err = a.newStore(a.redis.api).Install(ctx); err != nil {
		return err
	}
	bench, err := a.bench()
	if err != nil {
		return err
	}
	return use(c, a.install, bench)
}
