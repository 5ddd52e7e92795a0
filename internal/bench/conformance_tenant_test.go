//go:build service || bench

package bench_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// attacked runs the attacks that every bench in a container must withstand.
func attacked(t *testing.T, b *standin.Box, g *target) {
	t.Run("its volume is away", func(t *testing.T) { testUnmounted(t, b, g) })
	t.Run("files", func(t *testing.T) { testFolders(t, b, g) })
	t.Run("configs", func(t *testing.T) { testLies(t, b, g) })
	t.Run("names", func(t *testing.T) { testNames(t, b, g) })
	t.Run("a disabled admin", func(t *testing.T) { testDisabled(t, b, g) })
	t.Run("shared", func(t *testing.T) { testSharing(t, b, g) })
}

// testUnmounted removes the install's id, as if the volume were mounted late, and replaces
// it by another install's. Operations must be refused before they begin, so that a job
// and its undo wait without counting attempts, and no site may be reported as missing.
func testUnmounted(t *testing.T, b *standin.Box, g *target) {
	const file = "sites/.nexus/install"
	n := g.tenant("away")
	n.run(t, nexus.NewSite{})
	kept := b.Sh(t, "cat "+file)
	for name, change := range map[string]string{"away": "mv %[1]s %[1]s.kept", "unreadable": "cp %[1]s %[1]s.kept && chmod 0 %[1]s", "empty": "cp %[1]s %[1]s.kept && : > %[1]s",
		"another's": `cp %[1]s %[1]s.kept && printf '"0000"' > %[1]s`} {
		b.Sh(t, fmt.Sprintf(change, file))
		for _, args := range []nexus.Args{nexus.NewSite{}, nexus.Mark{State: nexus.TenantActive}, nexus.DropSite{}, nexus.Disown{}, nexus.Inspect{}, nexus.Inventory{}, nexus.Stop{}} {
			_, err := n.try(t, args)
			e, _ := errors.AsType[*nexus.Error](err)
			if nexus.CodeOf(err) != nexus.Unavailable || !e.Unbegun || e.Wait != nexus.WaitBench {
				t.Errorf("%s, its install %s: %v", args.Op(), name, err)
			}
		}
		hello, err := g.bench.Run(t.Context(), nexus.Op{Args: nexus.Hello{}})
		if err != nil || len(hello.Hello.Problems) != 1 {
			t.Errorf("its install %s: hello %+v, %v", name, hello.Hello, err)
		}
		b.Sh(t, fmt.Sprintf("mv -f %[1]s.kept %[1]s", file))
	}
	if now := b.Sh(t, "cat "+file); now != kept {
		t.Fatalf("the install is %s, was %s", now, kept)
	}
	testDrop(t, n)
}

// testFolders closes and removes sites whose files a tenant's code has made hard to
// handle. It must succeed, and nothing outside of the site may be removed.
func testFolders(t *testing.T, b *standin.Box, g *target) {
	other := g.tenant("beside")
	other.run(t, nexus.NewSite{})
	b.Sh(t, fmt.Sprintf("echo theirs > sites/%s/private/files/kept", other.site))
	look := func() string {
		return b.Sh(t, fmt.Sprintf("cd sites/%s && find . -name logs -prune -o -printf '%%m %%p\n' | sort && cat private/files/kept", other.site))
	}
	before := look()
	n := g.tenant("folder")
	n.run(t, nexus.NewSite{})
	for name, script := range map[string]string{ // what is in the way of closing it
		"folders that cannot be written to": "mkdir -p public/files/a/b && touch public/files/a/b/c && chmod 0 public/files/a/b/c && chmod 555 public/files/a/b public/files/a .",
		"itself without permissions":        "chmod 0 .",
		"a config that cannot be read":      "chmod 0 site_config.json",
		"a file in the locks' place":        "rm -rf locks && touch locks",
		"a folder in a lock's place":        "rm -f locks/site_config.lock && mkdir -p locks/site_config.lock/x",
		"a lock without permissions":        "mkdir -p locks && touch locks/site_config.lock && chmod 0 locks/site_config.lock locks",
		"packages that were kept":           "rm packages && mkdir -p packages/a packages.before-nexus/b",
	} {
		n.run(t, nexus.Mark{State: nexus.TenantActive})
		b.Sh(t, fmt.Sprintf("cd sites/%s && %s", n.site, script))
		if _, err := n.try(t, nexus.Mark{State: nexus.TenantSuspended}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, script := range map[string]string{ // and of removing it
		"a folder without permissions":       "mkdir -p private/files/a/b && touch private/files/a/b/c && chmod 0 private/files/a/b private/files/a",
		"thousands of folders in each other": "python3 -c 'import os\nos.chdir(\"private/files\")\nfor i in range(3000):\n os.mkdir(\"deep\"); os.chdir(\"deep\")\nos.close(os.open(\"end\", os.O_CREAT))'",
		"many files":                         "cd private/files && seq 30000 | xargs touch",
		"links": fmt.Sprintf("ln -s / private/files/root; ln -s ../../../%[1]s private/files/site; ln -s ../../../%[1]s/private/files/kept private/files/file; "+
			"ln -s loop private/files/loop; rm -rf locks; ln -s ../%[1]s/locks locks", other.site),
		"names of other bytes":        `touch "private/files/$(printf 'a\377\nb')" && mkdir "public/files/$(printf '\200')"`,
		"pipes and sockets":           "mkfifo private/files/pipe && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"private/files/s\")'",
		"itself without permissions":  "chmod 0 .",
		"a folder on its way already": "mkdir -p ../.nexus/trash/$DB-1-1/a && chmod 0 ../.nexus/trash/$DB-1-1/a",
	} {
		b.Sh(t, fmt.Sprintf("DB=%s; cd sites/%s && %s", n.op(nil).DB, n.site, script))
		if name != "itself without permissions" && name != "a folder on its way already" {
			continue // all in one
		}
		testDrop(t, n)
		n = g.tenant("folder")
		n.run(t, nexus.NewSite{})
	}
	testDrop(t, n)
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("the site beside them is not what it was:\n%s", diff)
	}
	testDrop(t, other)
}

// edited changes a site's config by a Python statement.
func edited(t *testing.T, b *standin.Box, n *tenant, statement string) {
	t.Helper()
	b.Sh(t, fmt.Sprintf("cd sites/%s && python3 - <<'END'\nimport json\nc = json.load(open('site_config.json'))\n%s\njson.dump(c, open('site_config.json', 'w'))\nEND", n.site, statement))
}

// testLies writes false values into a tenant's config. The site and its neighbor must
// still be closed and removed; all other operations must refuse such a config.
func testLies(t *testing.T, b *standin.Box, g *target) {
	liar, other := g.tenant("liar"), g.tenant("honest")
	for _, n := range []*tenant{liar, other} {
		n.run(t, nexus.NewSite{})
		n.run(t, nexus.Mark{State: nexus.TenantActive})
	}
	honest := other.run(t, nexus.Inspect{}).Site
	for _, lie := range []struct {
		name, says string
		whole      bool // what the site is, and whose, is as it was
	}{
		{"another's database", "c['db_name'] = '$DB'", false},
		{"another's mark", "c['nexus']['job'] = '$JOB'", false},
		{"no mark", "del c['nexus']", false},
		{"a text for a mark", "c['nexus'] = 'x'", false},
		{"a mark of another shape", "c['nexus'].update(state=[], stateGen='x', adopted='x', apps='x', madeAt=1, tenant={})", true},
		{"a switch that is a text", "c['nexus']['switchedAt'] = 'soon'", true},
		{"a switch in the far future", "c['nexus']['switchedAt'] = 1e300", true},
		{"a switch that is no number", "c['nexus']['switchedAt'] = float('nan')", true},
		{"a token of the future", "c['nexus']['stateGen'] = 2 ** 53 - 1", true},
		{"a token of tomorrow", "c['nexus']['stateGen'] += 86400 * 1000000", true},
		{"no password", "del c['db_password']", true},
		{"a wrong password", "c['db_password'] = 'wrong'", true},
		{"a password that is a list", "c['db_password'] = ['wrong']", true},
		{"another database server", "c['db_host'] = '192.0.2.1'", true},
		{"a plan of another shape", "c['nexus_plan'] = [1]", true},
		{"a state longer than an answer", "c['nexus']['state'] = 'x' * 2000000", true},
		{"apps longer than an answer", "c['nexus']['apps'] = ['x' * 50] * 40000", true},
		{"a plan longer than an answer", "c['nexus_plan'] = {'name': 'x' * 2000000}", true},
	} {
		t.Run(lie.name, func(t *testing.T) {
			config := fmt.Sprintf("sites/%s/site_config.json", liar.site)
			b.Sh(t, "cp "+config+" kept")
			edited(t, b, liar, strings.NewReplacer("$DB", other.op(nil).DB, "$JOB", string(other.owner)).Replace(lie.says))
			if site := liar.run(t, nexus.Inspect{}).Site; !site.Folder || site.Install == liar.install && site.Job == liar.owner && (site.DB != liar.op(nil).DB || !site.Database) || !site.StateGen.Plausible(time.Now()) {
				t.Errorf("inspect: %+v", site)
			}
			liar.run(t, nexus.Inventory{})
			for _, args := range []nexus.Args{nexus.IssueKey{Email: "a@example.com", Key: "k", Secret: "s"}, nexus.NewSite{}, nexus.Mark{State: nexus.TenantActive}} {
				if _, err := liar.try(t, args); !lie.whole && nexus.CodeOf(err) != nexus.Conflict && nexus.CodeOf(err) != nexus.NotFound {
					t.Errorf("%s: %v", args.Op(), err)
				}
			}
			liar.run(t, nexus.Mark{State: nexus.TenantSuspended})
			if now := b.Sh(t, "cat "+config); !strings.Contains(now, `"maintenance_mode": 1`) || !strings.Contains(now, string(liar.owner)) {
				t.Errorf("suspended: %s", now)
			}
			if diff := cmp.Diff(honest, other.run(t, nexus.Inspect{}).Site); diff != "" {
				t.Errorf("of the other:\n%s", diff)
			}
			b.Sh(t, "mv kept "+config)
			liar.run(t, nexus.Mark{State: nexus.TenantActive})
		})
	}
	t.Run("removals", func(t *testing.T) {
		edited(t, b, liar, fmt.Sprintf("c['nexus']['job'] = '%s'", other.owner))
		testDrop(t, liar)
		if diff := cmp.Diff(honest, other.run(t, nexus.Inspect{}).Site); diff != "" {
			t.Errorf("of the other:\n%s", diff)
		}
		liar = g.tenant("liar")
		liar.run(t, nexus.NewSite{})
		edited(t, b, liar, fmt.Sprintf("c['db_name'] = '%s'", other.op(nil).DB))
		testDrop(t, other)
		testDrop(t, liar)
	})
	t.Run("long configs of many sites", func(t *testing.T) {
		b.Sh(t, "for i in 0 1 2 3 4 5 6 7 8 9; do mkdir sites/ct-long-$i.localhost && "+
			`python3 -c 'import json; print(json.dumps({"nexus": {"apps": ["\U0001F600" * 300] * 60}}))' > sites/ct-long-$i.localhost/site_config.json; done`)
		defer b.Sh(t, "rm -r sites/ct-long-*")
		long, after := 0, ""
		for range 100 {
			page := g.tenant("any").run(t, nexus.Inventory{After: after}).Inventory
			for _, site := range page.Sites {
				if strings.HasPrefix(string(site.Site), "ct-long-") {
					long++
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if long != 10 || after != "" {
			t.Errorf("%d of 10 sites are listed, and then %q", long, after)
		}
	})
	t.Run("a pipe for a config", func(t *testing.T) {
		liar, other := g.tenant("liar"), g.tenant("honest")
		liar.run(t, nexus.NewSite{})
		other.run(t, nexus.NewSite{})
		b.Sh(t, fmt.Sprintf("cd sites/%s && mv site_config.json kept && mkfifo site_config.json", liar.site))
		testDrop(t, other)
		liar.refused(t, nexus.DropSite{}, nexus.Unavailable)
		b.Sh(t, fmt.Sprintf("cd sites/%s && mv -f kept site_config.json", liar.site))
		testDrop(t, liar)
	})
}

// testSharing checks that a site is not removed while something else uses its files or
// its database.
func testSharing(t *testing.T, b *standin.Box, g *target) {
	n := g.tenant("sharing")
	n.run(t, nexus.NewSite{})
	copied := fmt.Sprintf("sites/copy-%s", n.site)
	b.Sh(t, fmt.Sprintf("cp -a sites/%s %s", n.site, copied))
	n.refused(t, nexus.DropSite{}, nexus.Conflict)
	b.Sh(t, "rm -r "+copied)
	b.Sh(t, fmt.Sprintf("mv sites/%[1]s archived/moved && ln -s ../archived/moved sites/%[1]s", n.site))
	n.run(t, nexus.Mark{State: nexus.TenantDeleting})
	n.says(t, nexus.DropSite{}, "is a link")
	b.Sh(t, fmt.Sprintf("rm sites/%[1]s && mv archived/moved sites/%[1]s", n.site))
	b.Root(t, fmt.Sprintf("chown root sites/%[1]s/private && chmod 700 sites/%[1]s/private", n.site))
	n.says(t, nexus.DropSite{}, "chown")
	b.Root(t, fmt.Sprintf("chown frappe sites/.nexus/trash/%s-*/private", n.op(nil).DB))
	testDrop(t, n)
	b.Sh(t, fmt.Sprintf("ln -s nowhere sites/%s", n.site))
	n.run(t, nexus.DropSite{}) // not ours any more
	b.Sh(t, fmt.Sprintf("rm sites/%s", n.site))
}

// testDisabled checks that a disabled admin gets no key, and that the site can still be
// closed, opened and removed.
func testDisabled(t *testing.T, b *standin.Box, g *target) {
	n := g.tenant("disabled")
	n.ready(t)
	enable := func(value int) {
		b.SQL(t, fmt.Sprintf("UPDATE %s.tabUser SET enabled=%d WHERE name='%s'", n.op(nil).DB, value, n.email))
	}
	enable(0)
	n.refused(t, n.key(7, "e"), nexus.Invalid)
	for _, state := range []nexus.TenantState{nexus.TenantSuspended, nexus.TenantActive} {
		n.run(t, nexus.Mark{State: state})
	}
	enable(1)
	n.works(t, n.pair, true)
	n.run(t, n.key(7, "e"))
	testDrop(t, n)
}

// testNames checks that a user's name is stored as it was given, though Frappe escapes it
// on each save, and that a note tells of a name that cannot be.
func testNames(t *testing.T, b *standin.Box, g *target) {
	n := g.tenant("names")
	n.run(t, nexus.NewSite{})
	for _, name := range []struct{ asked, first, last, note string }{
		{"Tom & Jerry", "Tom", "& Jerry", ""},
		{"Tom & Jerry", "Tom", "& Jerry", ""}, // a retry saves the same user again
		{"AT&T", "AT&T", "", ""},
		{"Müller & Söhne &c;", "Müller", "& Söhne &c;", ""},
		{"R&amp;D Ltd", "R&amp;D", "Ltd", ""}, // as it was typed
		{"Miles O'Neil \"Q\" \\n", "Miles", "O'Neil \"Q\" \\n", ""},
		{"李 小龍 🐉", "李", "小龍 🐉", ""},
		{"A  B", "A", " B", ""},
		{"a <b> c", "a", "<b> c</b>", "a <b> c</b>"}, // no signup of ours lets it in
		{"a < b", "a", "&lt; b", "a &lt; b"},
	} {
		result := n.run(t, nexus.EnsureUser{Email: n.email, FullName: name.asked, Password: "Passw0rdXyz"})
		if !strings.Contains(result.Note, name.note) || (name.note == "") != (result.Note == "") {
			t.Errorf("%s: note %q", name.asked, result.Note)
		}
		want := []string{name.first, name.last, strings.TrimSuffix(name.first+" "+name.last, " ")}
		for i, part := range strings.Split(b.SQL(t, fmt.Sprintf("SELECT CONCAT_WS('/', HEX(first_name), HEX(IFNULL(last_name, '')), HEX(full_name)) FROM %s.tabUser WHERE name='%s'", n.op(nil).DB, n.email)), "/") {
			if have, err := hex.DecodeString(part); err != nil || string(have) != want[i] {
				t.Errorf("%s: %q, want %q (%v)", name.asked, have, want[i], err)
			}
		}
	}
	testDrop(t, n)
}

// says checks that an operation is unavailable, with a message that contains these words.
func (n *tenant) says(t *testing.T, args nexus.Args, words string) {
	t.Helper()
	_, err := n.try(t, args)
	if e, ok := errors.AsType[*nexus.Error](err); !ok || e.Code != nexus.Unavailable || !strings.Contains(e.Msg, words) {
		t.Errorf("%s: %v", args.Op(), err)
	} else {
		t.Logf("%s: %v", args.Op(), err)
	}
}
