//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// warming is a standby with a company that is being warmed.
type warming struct {
	*kept
	box   *standin.Box
	words []string // of its placeholders
}

func (f *founded) warming(t *testing.T, b *standin.Box) *warming {
	t.Helper()
	w := &warming{(&shelf{f.model}).copy(t), b, []string{f.record.Company.Name, f.record.Company.Abbr}}
	user := config(t, b, w.folder()+"/placeholder_user.json")
	for _, name := range []string{"email", "first_name", "last_name"} {
		w.words = append(w.words, fmt.Sprint(user[name]))
	}
	return w
}

// cached lists the keys in Redis that have a placeholder or the standby's name.
func (w *warming) cached(t *testing.T) string {
	t.Helper()
	return outside(t, w.box, "/none", w.op(nil).DB, append(w.words, string(w.site))...)
}

// testWarm fills the caches of standbys, and looks at what that leaves besides.
func testWarm(t *testing.T, b *standin.Box, f *founded) {
	w := f.warming(t, b)
	w.refused(t, nexus.Warm{}, nexus.Conflict)
	w.run(t, nexus.Shelve{})
	w.stranger().refused(t, nexus.Warm{}, nexus.Conflict)
	rows, cold := w.rows(t), b.Caches(t, w.op(nil).DB)
	if w.listed(t).Warm {
		t.Error("it is listed as warm before it was warmed")
	}
	w.again(t, nexus.Warm{})
	w.isWarm(t)
	if after := w.rows(t); after != rows {
		t.Errorf("it left rows: %s, before %s", after, rows)
	}
	caches := b.Caches(t, w.op(nil).DB)
	if t.Logf("%d keys are cached, %d before", len(caches), len(cold)); len(caches) < len(cold)+2 {
		t.Errorf("cached are %v", caches)
	}
	for _, header := range []string{"", ".nexus/standby/" + string(w.site)} {
		if status := w.status(t, header); status != http.StatusNotFound {
			t.Errorf("asked with the header %q: %d", header, status)
		}
	}
	t.Run("lost", func(t *testing.T) { w.loses(t) })
	t.Run("gives way", func(t *testing.T) { w.givesWay(t) })
	n := w.taker("warm")
	n.again(t, w.claim(n))
	w.becomes(t, n)
}

// isWarm checks what there is of a warm standby: it is listed so, and there are no logs,
// queued jobs and placeholders.
func (w *warming) isWarm(t *testing.T) {
	t.Helper()
	if found := w.listed(t); !found.Warm || found.Problem != "" {
		t.Errorf("listed as %+v", found)
	}
	if jobs := w.box.Jobs(t, w.site); len(jobs) > 0 {
		t.Errorf("jobs are queued: %v", jobs)
	}
	if left := w.box.Sh(t, "cd "+w.folder()+" && ls logs site_config.json warming 2>/dev/null | grep -v :$ || true"); left != "" {
		t.Errorf("there is %s", left)
	}
	if left := w.cached(t); left != "" {
		t.Errorf("the placeholders are in %s", left)
	}
}

// loses checks that a standby is warmed again if Redis lost a key, or is another one.
func (w *warming) loses(t *testing.T) {
	var noted struct {
		Server string
		Keys   []string
	}
	path := w.folder() + "/warm.json"
	if err := json.Unmarshal([]byte(w.box.Sh(t, "cat "+path)), &noted); err != nil || len(noted.Keys) < 2 || noted.Server == "" {
		t.Fatalf("noted: %+v, %v", noted, err)
	}
	for _, lose := range []string{
		fmt.Sprintf(`env/bin/python -c 'import json, redis; redis.Redis.from_url(json.load(open("sites/common_site_config.json"))["redis_cache"]).delete("%s")'`, noted.Keys[len(noted.Keys)-1]),
		"sed -i s/" + noted.Server + "/former/ " + path,
	} {
		w.box.Sh(t, lose)
		if w.listed(t).Warm {
			t.Errorf("it is listed as warm after %s", lose)
		}
		w.again(t, nexus.Warm{})
		w.isWarm(t)
	}
}

// givesWay checks that no operation on the standby is ended, or refused later, for its sake.
func (w *warming) givesWay(t *testing.T) {
	fence := "sites/.nexus/fence/" + w.op(nil).DB
	w.box.Sh(t, "rm "+w.folder()+"/warm.json")
	later := *w.tenant
	later.gen++
	later.run(t, nexus.Warm{})
	w.run(t, nexus.Stop{}) // with a lower token
	w.box.Sh(t, "rm "+w.folder()+"/warm.json")
	holder := w.box.Python(t, `import fcntl, sys; f = open("`+fence+`.lock", "a"); fcntl.flock(f, fcntl.LOCK_EX); print("held"); sys.stdin.read()`)
	if said := holder.Line(); said != "held\n" {
		t.Fatalf("the holder says %q", said)
	}
	before := w.box.Sh(t, "cat "+fence+".gen")
	later.refused(t, nexus.Warm{}, nexus.Conflict)
	if after := w.box.Sh(t, "cat "+fence+".gen"); after != before {
		t.Errorf("the fence is %s, before %s", after, before)
	}
	holder.Close()
	// An operation takes the fence first, then the lock.
	begun := w.box.Python(t, `import json, os, socket, sys; gen = json.load(open("`+fence+`.gen"))
stat = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
json.dump({"gen": gen["gen"], "host": socket.gethostname(), "pid": os.getpid(), "start": int(stat[19])}, open("`+fence+`.gen", "w")); print("begun"); sys.stdin.read()`)
	if said := begun.Line(); said != "begun\n" {
		t.Fatalf("the other operation says %q", said)
	}
	later.refused(t, nexus.Warm{}, nexus.Conflict)
	begun.Close()
	later.again(t, nexus.Warm{})
}

// becomes checks that the standby is the site of a job that has claimed it, as any other.
func (w *warming) becomes(t *testing.T, n *tenant) {
	t.Helper()
	if files := w.box.Sh(t, "cd sites/"+string(n.site)+" && ls -A | grep -v -x -e locks -e logs -e public -e private -e packages -e 'indexes\\|.*-backup.*' | tr '\\n' ' '"); files != "placeholder_user.json placeholders.json site_config.json" {
		t.Errorf("its files: %s", files)
	}
	n.again(t, nexus.Company{Name: `Wood & "Sons"`, Abbr: "W2"})
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	if left := w.cached(t); left != "" {
		t.Errorf("the placeholders are in %s", left)
	}
	n.pair = n.key(1, "a")
	n.run(t, n.pair)
	n.run(t, n.verify())
	n.run(t, nexus.Mark{State: nexus.TenantActive})
	n.run(t, n.verify())
	testDrop(t, n)
}

// testWarmKilled kills the operation while the caches have the placeholders. The next one
// removes them, and so does a claim.
func testWarmKilled(t *testing.T, b *standin.Box, f *founded) {
	killer := newKiller(t, b, "compute_boot", "forget_words")
	w := f.warming(t, b)
	w.run(t, nexus.Shelve{})
	end := func() {
		for at := 1; w.cached(t) == ""; at++ {
			if !killer.run(t, w.tenant, nexus.Warm{}, at).Killed {
				t.Fatal("the caches never had the placeholders, so this shows nothing")
			}
		}
	}
	end()
	if w.listed(t).Warm {
		t.Error("it is listed as warm")
	}
	w.gen++
	w.again(t, nexus.Warm{})
	w.isWarm(t)
	w.box.Sh(t, "rm "+w.folder()+"/warm.json")
	end()
	n := w.taker("killed")
	n.gen = w.gen + 1
	n.again(t, w.claim(n))
	if left := w.cached(t); left != "" {
		t.Errorf("the placeholders are in %s", left)
	}
	if left := slices.DeleteFunc(strings.Fields(b.Sh(t, "ls -A sites/"+string(n.site))), func(name string) bool { return !strings.Contains(name, "warm") }); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	w.becomes(t, n)
}
