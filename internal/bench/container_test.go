//go:build service || bench

package bench_test

import (
	"log/slog"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// container is a target in a container; its runner ends with the test.
func container(t *testing.T, b *standin.Box, addr, app string, install nexus.InstallID) *target {
	t.Helper()
	const account, secret = "nexus_test", "WorkerPassw0rdOfTheTests"
	docker, err := bench.NewDocker(bench.DockerOptions{Service: b.Name, Install: install, DBAccount: account, DBPassword: secret,
		VerifyAddr: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	return &target{bench: docker, install: install, addr: addr, app: app,
		plant:    func(t *testing.T, site nexus.SiteName) func() string { return b.Plant(t, site) },
		complete: func(t *testing.T, site nexus.SiteName) (string, func() string) { return b.Complete(t, site) },
		left:     func(t *testing.T, site nexus.SiteName, db string) []string { return b.Left(t, site, db) },
		secrets:  nexus.Init{Account: account, RootUser: "root", RootPassword: nexus.Secret(b.RootPassword), Password: secret}}
}
