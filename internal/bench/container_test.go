//go:build service || bench

package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// container returns a target in a container; its runner ends with the test.
func container(t *testing.T, b *standin.Box, addr, app string, install nexus.InstallID) *target {
	t.Helper()
	// An account for this test only, since the bench may be a product's.
	// In a file of options, a # that is not quoted begins a comment.
	account, secret := "nexus_test_"+string(nexus.NewJobID()[:8]), nexus.Secret(nexus.NewJobID()+" #1%")
	t.Cleanup(func() {
		b.SQL(t, fmt.Sprintf("DROP USER IF EXISTS %[1]s; DELETE FROM nexus.accounts WHERE account = '%[1]s'", account))
	})
	docker, err := bench.NewDocker(bench.DockerOptions{Service: b.Name, Install: install, DBAccount: account, DBPassword: secret,
		VerifyAddr: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	unreadable(t, b)
	config := "cd sites && ../env/bin/python -m frappe.utils.bench_helper frappe set-config -g admin_password "
	b.Sh(t, config+commonPassword)
	t.Cleanup(func() { b.Sh(t, config+"None") })
	return &target{bench: docker, install: install, addr: addr, app: app, frappe: true,
		plant:    func(t *testing.T, site nexus.SiteName) func() string { return b.Plant(t, site) },
		complete: func(t *testing.T, site nexus.SiteName) (string, func() string) { return b.Complete(t, site) },
		admin: func(t *testing.T, n *tenant, key nexus.IssueKey) {
			b.Admin(t, n.site, n.db, n.email, key.Key.Reveal(), key.Secret.Reveal())
		},
		cut: func(t *testing.T, n *tenant, args nexus.Args) { cut(t, b, n, args) },
		search: func(t *testing.T, name string) string {
			return b.Sh(t, "find sites -name "+name+" 2>/dev/null || true")
		},
		company: func(t *testing.T, n *tenant, name, abbr string) {
			db := n.op(nil).DB
			if said := b.SQL(t, fmt.Sprintf("SELECT HEX(company_name), HEX(abbr) FROM %s.tabCompany", db)); said != fmt.Sprintf("%X\t%X", name, abbr) {
				t.Errorf("the company is %q, want %q, %q", said, name, abbr)
			}
		},
		left:    func(t *testing.T, site nexus.SiteName, db string) []string { return b.Left(t, site, db) },
		secrets: nexus.Init{Account: account, RootUser: "root", RootPassword: nexus.Secret(b.RootPassword), Password: secret}}
}

// unreadable makes files and folders below sites/ and archived/ that the bench's user
// cannot read, like lost+found on a disk of its own: no operation may fail for them.
func unreadable(t *testing.T, b *standin.Box) {
	t.Helper()
	there := strings.Fields(b.Sh(t, "ls -d archived archived/sites 2>/dev/null || true"))
	b.Sh(t, "mkdir -p sites/ct-lost+found sites/ct-unread.localhost archived/sites/ct-lost+found && touch sites/ct-unread.localhost/site_config.json && "+
		"chmod 0 sites/ct-lost+found sites/ct-unread.localhost/site_config.json archived/sites/ct-lost+found")
	t.Cleanup(func() {
		b.Sh(t, "rmdir sites/ct-lost+found archived/sites/ct-lost+found && rm -r sites/ct-unread.localhost")
		for _, made := range []string{"archived/sites", "archived"} { // what was there before stays, empty or not
			if !slices.Contains(there, made) {
				b.Sh(t, "rmdir --ignore-fail-on-non-empty "+made)
			}
		}
	})
}

// cut ends an operation on an adopted site between its two halves, by a lock that the
// second half waits for. When a key is given it is the lock of the user's row: the former
// key is in the marker and the new one not yet in the database. When the site is given
// back it is the config's: the key is restored and the marker still there.
func cut(t *testing.T, b *standin.Box, n *tenant, args nexus.Args) {
	t.Helper()
	var let func()
	key := func() string {
		return b.SQL(t, fmt.Sprintf("SELECT api_key FROM %s.tabUser WHERE name='%s'", n.db, n.email))
	}
	was := key()
	half := func() bool { return key() != was }
	switch args.(type) {
	case nexus.Disown:
		let = hold(t, b, fmt.Sprintf("sites/%s/locks/site_config.lock", n.site))
	default:
		// LIKE: a row found by its key alone is not locked while SLEEP runs.
		let = b.Busy(t, fmt.Sprintf("SELECT SLEEP(601) FROM %s.tabUser WHERE name LIKE '%s' FOR UPDATE", n.db, n.email))
		half = func() bool {
			return b.Sh(t, fmt.Sprintf("grep -c given sites/%s/site_config.json || true", n.site)) == "1"
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		_, err := n.bench.Run(ctx, n.op(args))
		done <- err
	}()
	standin.Await(t, "half of it is done", half)
	cancel(nexus.ErrCanceled)
	if err := <-done; nexus.CodeOf(err) != nexus.CodeCanceled {
		t.Fatalf("ended as %v", err)
	}
	let()
	n.gen++
}

// hold locks a file of the bench until let.
func hold(t *testing.T, b *standin.Box, path string) (let func()) {
	t.Helper()
	cmd := exec.Command("docker", "exec", "-i", b.Name, "flock", path, "sh", "-c", "echo held; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	let = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(let)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return let
}
