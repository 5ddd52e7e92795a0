//go:build service || bench

package bench_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// requests is a number that reaches each process and thread of a bench's web server.
const requests = 24

// testWeb checks operations against what web servers and Frappe's locks keep in memory: a
// closed site takes no request, a removed one is not served, and neither disturbs the next
// site.
func testWeb(t *testing.T, b *standin.Box, g *target) {
	n := g.tenant("served")
	n.ready(t)
	t.Run("a lock file that was removed", func(t *testing.T) { testRemovedLock(t, b, n) })
	t.Run("closed at once", func(t *testing.T) {
		n.each(t, http.StatusOK)
		n.run(t, nexus.Mark{State: nexus.TenantDeleting})
		n.each(t, http.StatusServiceUnavailable)
	})
	t.Run("removed at once", func(t *testing.T) {
		if len(b.Jobs(t, n.site)) == 0 {
			t.Error("the site has no queued job: nothing to be removed")
		}
		n.run(t, nexus.DropSite{})
		n.each(t, http.StatusNotFound)
		if jobs := b.Jobs(t, n.site); len(jobs) > 0 {
			t.Errorf("left in the queue: %v", jobs)
		}
	})
	t.Run("closed with others", func(t *testing.T) { testClosedTogether(t, b, g) })
	t.Run("the next site is served", func(t *testing.T) {
		next := g.tenant("next")
		next.ready(t)
		next.each(t, http.StatusOK)
		next.run(t, nexus.DropSite{})
	})
	t.Run("a client program that the server refuses", func(t *testing.T) { testClient(t, b, g) })
}

// master is a program that the runner takes for the master process of gunicorn frappe.app. It
// says each signal to reload.
const master = `import signal, sys
signal.signal(signal.SIGHUP, lambda *_: print("reload"))
print("ready")
for line in sys.stdin:
    print("end")
# gunicorn frappe.app`

// testClosedTogether closes sites at once: the web server is reloaded once for all that wait.
func testClosedTogether(t *testing.T, b *standin.Box, g *target) {
	watch := b.Python(t, master)
	if said := watch.Line(); said != "ready\n" {
		t.Fatalf("the master says %q", said)
	}
	var sites [3]*tenant
	for i := range sites {
		sites[i] = g.tenant("together")
		sites[i].run(t, nexus.NewSite{})
		sites[i].run(t, nexus.Mark{State: nexus.TenantActive})
	}
	let := hold(t, b, "sites/.nexus/web.lock")
	ended := make(chan error, len(sites))
	for _, n := range sites {
		go func() {
			_, err := n.try(t, nexus.Mark{State: nexus.TenantDeleting})
			ended <- err
		}()
	}
	kept := strings.HasPrefix(sites[0].run(t, nexus.Hello{}).Hello.Frappe, "16.")
	if kept {
		standin.Await(t, "all wait for the lock", func() bool {
			open := b.Sh(t, "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -q nexus/web.lock && tr '\\0' ' ' < $p/cmdline && echo; done | grep -c env/bin/python || true")
			count, _ := strconv.Atoi(open)
			return count >= len(sites)
		})
	}
	let()
	for range sites {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	watch.Send("")
	reloads := 0
	for said := watch.Line(); said == "reload\n"; said = watch.Line() {
		reloads++
	}
	if kept && reloads != 1 || !kept && reloads != 0 {
		t.Errorf("the web server was reloaded %d times", reloads)
	}
	for _, n := range sites {
		n.each(t, http.StatusServiceUnavailable)
		n.run(t, nexus.DropSite{})
	}
}

// ready makes the site, with a user and a key.
func (n *tenant) ready(t *testing.T) {
	t.Helper()
	n.run(t, nexus.NewSite{})
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	n.pair = nexus.IssueKey{Email: n.email, Key: nexus.Secret(strings.Repeat("c3", 32)), Secret: nexus.Secret(strings.Repeat("d4", 32))}
	n.run(t, n.pair)
	n.run(t, nexus.Mark{State: nexus.TenantActive})
}

// each requests the site's ping until every thread of the web server has answered.
func (n *tenant) each(t *testing.T, want int) {
	t.Helper()
	got := map[int]int{} // status → how often
	for range requests {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.addr+"/api/method/ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = string(n.site)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		got[response.StatusCode]++
	}
	http.DefaultClient.CloseIdleConnections()
	if got[want] != requests {
		t.Errorf("answers by status: %v, want %d of %d", got, requests, want)
	}
}

// testRemovedLock lets the holder of the config's lock remove its file, as Frappe 16
// does, while an operation waits for it and another process takes the new one.
func testRemovedLock(t *testing.T, b *standin.Box, n *tenant) {
	path := fmt.Sprintf("sites/%s/locks/site_config.lock", n.site)
	let := hold(t, b, path)
	done := make(chan error, 1)
	go func() {
		_, err := n.try(t, nexus.ApplyPlan{Plan: "starter", Users: 7, StorageBytes: 1, HostName: "http://" + string(n.site)})
		done <- err
	}()
	standin.Await(t, "the operation waits for the lock", func() bool {
		open := b.Sh(t, "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -q "+path+" && tr '\\0' ' ' < $p/cmdline; echo; done | grep -c env/bin/python || true")
		count, _ := strconv.Atoi(open)
		return count > 0
	})
	b.Sh(t, "rm "+path)
	again := hold(t, b, path)
	let()
	select {
	case err := <-done:
		t.Errorf("went on beside the holder of the new file (%v)", err)
		again()
	case <-time.After(time.Second): // nothing tells that it does not go on
		again()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// testClient gives the client program a setting that no server can meet: one of 11.8
// has a certificate of its own, and proves it by the account's password.
func testClient(t *testing.T, b *standin.Box, g *target) {
	const file = "/etc/mysql/conf.d/zz-nexus-test.cnf"
	b.Root(t, `printf '[client]\nssl\nssl-verify-server-cert\nssl-ca=/etc/hostname\n' > `+file)
	defer b.Root(t, "rm -f "+file)
	hello, err := g.bench.Run(t.Context(), nexus.Op{Args: nexus.Hello{}})
	if err != nil || len(hello.Hello.Problems) != 1 || !strings.Contains(hello.Hello.Problems[0].What, "client program") {
		t.Fatalf("%+v, %v", hello.Hello, err)
	}
}
