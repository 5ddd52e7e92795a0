//go:build service

package bench_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestConformanceStandin runs the table on the Docker driver and the runner, with a
// stand-in of each release of Frappe. That of 16 runs under an init process, as in
// compose.yaml.
func TestConformanceStandin(t *testing.T) {
	for release, init := range map[string]string{"15": "", "16": "1"} {
		t.Run(release, func(t *testing.T) {
			t.Setenv("STANDIN_FRAPPE", release)
			t.Setenv("STANDIN_INIT", init)
			s := standin.Start(t, 600*time.Millisecond)
			b := standin.NewBox(t, s.Name, s.RootPassword)
			g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
			conformance(t, g)
			t.Run("web server", func(t *testing.T) { testWeb(t, b, g) })
		})
	}
}

// TestAttackedStandin does to a stand-in what its tenants and its environment may do.
func TestAttackedStandin(t *testing.T) {
	s := standin.Start(t, 300*time.Millisecond)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	t.Run("Redis without a password", func(t *testing.T) { testRedisWithoutPassword(t, b, g) })
	attacked(t, b, g)
}

// testRedisWithoutPassword checks that hello tells of Redis servers that run commands
// without a password, whatever user and password the bench itself sends.
func testRedisWithoutPassword(t *testing.T, b *standin.Box, g *target) {
	const config, mine = "sites/common_site_config.json", "default:" + standin.RedisPassword + "@"
	const kept = "kept:" + standin.RedisPassword + "@"
	before := b.Sh(t, "cat "+config)
	defer b.Sh(t, "cat > "+config+" <<'END'\n"+before+"\nEND")
	urls := regexp.MustCompile(`"redis_(?:cache|queue)": "redis://`+mine+`(.*)"`).FindAllStringSubmatch(before, -1)
	for _, step := range []struct {
		name, as, rule, urls string // who gives the rule to the servers, and what the bench's URLs then hold
		want                 int    // servers that are told of
	}{
		{"its own are asked for one", mine, "kept on ALLKEYS ALLCHANNELS ALLCOMMANDS >" + standin.RedisPassword, mine, 0},
		{"no password", mine, "default nopass", "", 2},
		{"no password, and the bench sends one", mine, "default nopass", ":" + standin.RedisPassword + "@", 2},
		{"no password, but to one user", kept, "default nopass", kept, 2},
		{"nothing without a password", kept, "default resetkeys -@all +ping", kept, 0},
		{"no default user", kept, "default off", kept, 0},
		{"a password again", kept, "default on resetpass ALLKEYS ALLCOMMANDS >" + standin.RedisPassword, mine, 0},
	} {
		for _, url := range urls {
			b.Sh(t, fmt.Sprintf("redis-cli --no-auth-warning -u redis://%s%s ACL SETUSER %s", step.as, url[1], strings.ReplaceAll(step.rule, ">", `\>`)))
		}
		b.Sh(t, "cat > "+config+" <<'END'\n"+strings.ReplaceAll(before, mine, step.urls)+"\nEND")
		hello, err := g.bench.Run(t.Context(), nexus.Op{Args: nexus.Hello{}})
		if err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprint(hello.Hello.Problems)
		if len(urls) != 2 || len(hello.Hello.Problems)-strings.Count(said, "does not answer") != step.want || strings.Count(said, "without a password") != step.want || strings.Count(said, "requirepass") != step.want ||
			strings.Contains(said, standin.RedisPassword) {
			t.Errorf("%s: %s", step.name, said)
		}
	}
}

// TestPasswordStandin runs testPasswords on a stand-in, with a MariaDB of its own, since it
// changes the whole register.
func TestPasswordStandin(t *testing.T) {
	standin.NewMariaDB(t)
	s := standin.Start(t, 3*time.Second)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testPasswords(t, b, g)
	t.Run("rows of before", func(t *testing.T) { testRowsOfBefore(t, b, g.tenant("before")) })
}

// TestThiefStandin checks what a thief of the workers' database account can do.
func TestThiefStandin(t *testing.T) {
	m := standin.NewMariaDB(t)
	s := standin.Start(t, 3*time.Second)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	testThief(t, b, g)
	t.Run("thousands of databases", func(t *testing.T) { testThousands(t, m, g) })
	t.Run("files of before", func(t *testing.T) { testFences(t, b, g) })
	t.Run("procedures of before", func(t *testing.T) { testFormerProcedures(t, b, g) })
}

// testFences checks that fence files are removed with their site, that old leftovers are
// removed too, and that those of a live site are kept.
func testFences(t *testing.T, b *standin.Box, g *target) {
	n, gone := g.tenant("fences"), g.tenant("fences-gone")
	n.again(t, nexus.NewSite{})
	folder := "sites/.nexus/fence/"
	b.Sh(t, fmt.Sprintf("cd %s && touch nxffffold.gen nxffffold.lock nxffffold.meta site-ct-old.localhost.lock nxffffnew.meta && touch -d '2 days ago' nxffffold.* site-ct-old.localhost.lock %s.*", folder, n.op(nil).DB))
	n.run(t, nexus.Inventory{})
	if left := b.Sh(t, "ls "+folder+" | grep -e old -e new || true"); left != "nxffffnew.meta" {
		t.Errorf("left: %s", left)
	}
	if left := b.Sh(t, "ls "+folder+n.op(nil).DB+".*"); strings.Count(left, "\n") != 2 {
		t.Errorf("of a live site there are only: %s", left)
	}
	older := *n
	older.gen--
	older.refused(t, nexus.Mark{State: nexus.TenantActive}, nexus.Fenced)
	// Many operations at once on one name, whose fence files come and go.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 {
				if _, err := gone.try(t, nexus.DropSite{}); err != nil && nexus.CodeOf(err) != nexus.Unavailable {
					t.Errorf("a drop: %v", err)
				}
			}
		})
	}
	all.Wait()
	testDrop(t, gone)
	testDrop(t, n)
	b.Sh(t, "rm "+folder+"nxffffnew.meta")
}

// TestCopiesStandin checks templates and their copies on a stand-in of each release.
func TestCopiesStandin(t *testing.T) { onEachStandin(t, testCopies) }

// TestShelfStandin checks standbys and claims on a stand-in of each release.
func TestShelfStandin(t *testing.T) { onEachStandin(t, testShelf) }

// TestUsersStandin checks the users of templates on a stand-in of each release.
func TestUsersStandin(t *testing.T) { onEachStandin(t, testUsers) }

// TestCompaniesStandin checks templates with a company on a stand-in of each release.
func TestCompaniesStandin(t *testing.T) {
	onEachStandin(t, func(t *testing.T, b *standin.Box, g *target) {
		testCompanies(t, b, g)
		t.Run("long names of accounts", func(t *testing.T) { testLongAccounts(t, b, g) })
	})
}

// testLongAccounts has a chart with an account whose name leaves an abbreviation six
// characters of the 140.
func testLongAccounts(t *testing.T, b *standin.Box, g *target) {
	f := g.founded(t, b, "FR")
	f.must(t, setUp(f.spec))
	f.freezes(t)
	n := f.from(t, "long")
	if result := n.run(t, nexus.Company{Name: "Acme", Abbr: "ABCDEFGHIJ"}); !result.Changed || !strings.Contains(result.Note, "ABCDEF,") {
		t.Errorf("%+v", result)
	}
	f.replaced(t, b, n, "Acme", "ABCDEF")
	testDrop(t, n)
	f.must(t, nexus.DropSite{})
}

// onEachStandin runs a test on a stand-in of each release.
func onEachStandin(t *testing.T, test func(*testing.T, *standin.Box, *target)) {
	for _, release := range []string{"15", "16"} {
		t.Run(release, func(t *testing.T) {
			t.Setenv("STANDIN_FRAPPE", release)
			b, g := onStandin(t)
			test(t, b, g)
		})
	}
}

// onStandin starts a stand-in that is prepared for sites.
func onStandin(t *testing.T) (*standin.Box, *target) {
	t.Helper()
	s := standin.Start(t, 100*time.Millisecond)
	b := standin.NewBox(t, s.Name, s.RootPassword)
	g := container(t, b, s.Addr, "erpnext", nexus.NewInstallID())
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	return b, g
}

// TestClaimKilledStandin kills claims and their undos on a stand-in.
func TestClaimKilledStandin(t *testing.T) {
	b, g := onStandin(t)
	shelf := g.shelf(t, b)
	testClaimKilled(t, b, shelf)
	shelf.end(t, b)
}
