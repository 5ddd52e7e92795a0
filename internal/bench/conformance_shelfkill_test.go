//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// killing is a program that carries out operations with the runner's own source, and ends
// after the n-th call that may change something. It answers with what is on the bench then.
const killing = `
import hashlib, json, os, re, sys
source = json.loads(sys.stdin.readline())
space = {"__name__": "runner"}
exec(compile(source.rsplit("main()", 1)[0], "runner.py", "exec"), space)
import pymysql.cursors, redis, frappe.utils.password # as main() does
space["who"]()
CALLS = "open rename replace remove unlink rmdir mkdir fsync".split() # of the module os
FUNCTIONS = "call rename_new forget_in_redis".split()

def carry_out(line, at, out):
    op = space["Operation"](line)
    op.out, seen = out, 0
    def watch(frame, event, arg):
        nonlocal seen
        if event == "c_return" and arg.__module__ == "posix" and arg.__name__ in CALLS or event == "return" and frame.f_code.co_name in FUNCTIONS:
            seen += 1
            if seen == at:
                os._exit(9)
    # The operation begins once it has the fence.
    space["fence"] = lambda op, known=True, fence=space["fence"]: (fence(op, known=known), sys.setprofile(watch))
    try:
        answer = {"ok": True, "result": space["perform"](op)}
    except BaseException as e:
        answer = space["failure"](op, space["refusal"](e))
    sys.setprofile(None)
    os.write(out, json.dumps(answer).encode())
    os._exit(0)

def state(line):
    op, found = space["Operation"](line), []
    for top in ("intent", "standby", "trash", "../" + op.site):
        for root, _, names in os.walk(os.path.join(space["OURS"], top)):
            for name in names:
                path = os.path.join(root, name)
                text = os.path.relpath(path, space["OURS"])
                if name.endswith(".new"):
                    text = re.sub("[0-9]+.new", "new", text) # another one each time
                elif top != "trash" and not name.endswith("log"):
                    text += hashlib.sha256(open(path, "rb").read()).hexdigest()
                found.append(re.sub("-[0-9]+-[0-9]+", "", text) if top == "trash" else text)
    row = space["our_database"](op, op.db) or {}
    return json.dumps([sorted(set(found)), row.get("job"), row.get("kind")])

for request in map(json.loads, sys.stdin):
    answers, out = os.pipe()
    pid = os.fork()
    if not pid:
        carry_out(request["op"], request["at"], out)
    os.close(out)
    _, status = os.waitpid(pid, 0)
    answer = os.read(answers, 1 << 16).decode()
    os.close(answers)
    print(json.dumps({"killed": os.waitstatus_to_exitcode(status) == 9, "answer": answer, "state": state(request["op"])}))
`

// killer carries out operations that die at some point.
type killer struct{ session *standin.Session }

// newKiller is a killer that also counts calls of these functions of Python.
func newKiller(t *testing.T, b *standin.Box, functions ...string) *killer {
	t.Helper()
	k := &killer{b.Python(t, strings.Replace(killing, `FUNCTIONS = "`, `FUNCTIONS = "`+strings.Join(functions, " ")+" ", 1))}
	k.session.Send(sourceText(t))
	return k
}

// sourceText is the runner's source as a line of JSON.
func sourceText(t *testing.T) string {
	t.Helper()
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(string(source))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type fate struct {
	Killed bool   `json:"killed"`
	Answer string `json:"answer"`
	State  string `json:"state"`
}

// run carries out an operation with a new token, up to a call; 0: all of it.
func (k *killer) run(t *testing.T, n *tenant, args nexus.Args, at int) (f fate) {
	t.Helper()
	n.gen++
	op := n.op(args)
	secrets := map[string]string{"db_account": n.secrets.Account, "db_password": n.secrets.Password.Reveal()}
	for name, secret := range args.Secrets() {
		secrets[name] = secret.Reveal()
	}
	line, err := json.Marshal(map[string]any{"at": at, "op": map[string]any{"id": "1", "op": args.Op(), "install": n.install, "site": op.Site, "room": op.Room, "db": op.DB, "owner": op.Owner,
		"gen": strconv.FormatInt(int64(op.Gen), 10), "args": args, "secrets": secrets}})
	if err != nil {
		t.Fatal(err)
	}
	k.session.Send(string(line))
	if err := json.Unmarshal([]byte(k.session.Line()), &f); err != nil {
		t.Fatalf("the killer: %v", err)
	}
	return f
}

// steps carries out an operation that is killed after each change of what is on the bench,
// again and again until it is done, and calls after with each state. After returns false to
// stop. It returns the number of states.
func (k *killer) steps(t *testing.T, n *tenant, args nexus.Args, after func(i int, state string) bool) (states int) {
	t.Helper()
	last := ""
	for at := 1; ; at++ {
		if at > 1000 || states > 100 {
			t.Fatalf("it does not end; the last state is %s", last)
		}
		f := k.run(t, n, args, at)
		if !f.Killed {
			if !strings.Contains(f.Answer, `"ok": true`) || strings.Contains(f.Answer, "skipped") {
				t.Fatalf("after %d states: %s", states, f.Answer)
			}
			return states
		}
		if last == "" {
			last = f.State
		}
		if f.State != last {
			states++
			if !after(states, f.State) {
				return states
			}
			last, at = f.State, 0
		}
	}
}

// testClaimKilled kills a claim at each of its points. From every state that this leaves, the
// next claim makes a whole site, and a drop removes all, wherever it is killed itself; the
// maker's drop gets all of the standby or nothing.
func testClaimKilled(t *testing.T, b *standin.Box, s *shelf) {
	killer := newKiller(t, b)
	k := s.keep(t)
	n := k.taker("killed")
	var states []string
	killer.steps(t, n, k.claim(n), func(_ int, state string) bool {
		states = append(states, state)
		return true
	})
	n.gen++
	if result := n.run(t, k.claim(n)); result.Changed {
		t.Error("the last claim left something to do")
	}
	testWholeClaim(t, b, k, n)
	testDrop(t, n)
	k.gone(t, n)
	t.Logf("%d states in the middle of a claim", len(states))
	first := func(text string) int {
		return slices.IndexFunc(states, func(state string) bool { return strings.Contains(state, text) })
	}
	begun, handed := first(`"intent/`+string(n.site)), first(`"`+string(n.owner)+`", "site"]`)
	if len(states) < 8 || begun < 0 || handed <= begun {
		t.Fatalf("these are not all states: %s", strings.Join(states, "\n"))
	}
	for i, state := range states {
		if i > 0 && done(t, state) == done(t, states[i-1]) {
			continue
		}
		reached := func(name string) (*kept, *tenant) {
			k := s.keep(t)
			n := k.taker(name)
			killer.steps(t, n, k.claim(n), func(at int, _ string) bool { return at <= i })
			return k, n
		}
		t.Run(fmt.Sprintf("state %d", i+1), func(t *testing.T) {
			k, n := reached("undone")
			drops := killer.steps(t, n, nexus.DropSite{}, func(int, string) bool { return true })
			if i < begun { // there is no intent yet
				k.gen = n.gen + 1
				k.run(t, nexus.DropSite{})
				n.gen = k.gen
			}
			n.gen++
			testDrop(t, n)
			k.gone(t, n)
			k, n = reached("reaped")
			k.gen = n.gen + 1
			before := b.Sh(t, "find sites/.nexus/standby sites/"+string(n.site)+" -type f -exec sha256sum {} + 2>/dev/null | sort || true")
			if result := k.run(t, nexus.DropSite{}); result.Changed != (i < handed) {
				t.Errorf("its maker's drop: %+v", result)
			}
			after := b.Sh(t, "find sites/.nexus/standby sites/"+string(n.site)+" -type f -exec sha256sum {} + 2>/dev/null | sort || true")
			if i >= handed && (after != before || before == "") {
				t.Errorf("its maker changed what was handed over: %s, before %s", after, before)
			}
			n.gen = k.gen + 1
			if result := n.run(t, k.claim(n)); result.Skipped != (i < handed) {
				t.Errorf("the next claim: %+v", result)
			}
			if i >= handed {
				testWholeClaim(t, b, k, n)
			}
			testDrop(t, n)
			k.gone(t, n)
			t.Logf("%d states in the middle of the drop", drops)
		})
	}
}

// done is a state without the files that were not finished.
func done(t *testing.T, state string) string {
	t.Helper()
	var all []any
	if err := json.Unmarshal([]byte(state), &all); err != nil || len(all) == 0 {
		t.Fatalf("%s: %v", state, err)
	}
	files, _ := all[0].([]any)
	return fmt.Sprint(slices.DeleteFunc(files, func(name any) bool { return strings.HasSuffix(fmt.Sprint(name), ".new") }), all[1:])
}

// testWholeClaim checks that a claimed site is complete, and that nothing else is left.
func testWholeClaim(t *testing.T, b *standin.Box, k *kept, n *tenant) {
	t.Helper()
	site := n.run(t, nexus.Inspect{}).Site
	if site.Job != n.owner || site.DB != n.db || !site.Database || !site.Folder || site.State != string(nexus.TenantMaking) || site.Plan != "starter" {
		t.Errorf("inspect: %+v", site)
	}
	if files := b.Sh(t, "cd sites/"+string(n.site)+" && find . -type f ! -path './locks/*' ! -path './logs/*' | sort"); files != "./placeholder_user.json\n./site_config.json" {
		t.Errorf("its files: %s", files)
	}
	if left := b.Sh(t, "find sites/.nexus -name '*"+string(k.site)+"*' -o -name '"+string(n.site)+"' -o -path '*/standby/*' -name '*.new'"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// renaming gives names with the runner's own function, on the file system of the bench, and
// as if that could not rename without replacing.
const renaming = `
import errno, json, os, sys, types
space = {"__name__": "runner"}
exec(compile(json.loads(sys.stdin.readline()).rsplit("main()", 1)[0], "runner.py", "exec"), space)
libc = space["ctypes"].CDLL(None, use_errno=True)
fakes = {"its own": libc, "EINVAL": types.SimpleNamespace(renameat2=lambda *_: space["ctypes"].set_errno(errno.EINVAL) or -1), "no call": types.SimpleNamespace()}
for number, (name, fake) in enumerate(fakes.items()):
    space["ctypes"].CDLL = lambda *_, **__: fake
    for taken in (False, True):
        source, site = space["Site"](f"standby-ct{number}{int(taken)}", "standby"), space["Site"](f"ct-rename-{number}-{int(taken)}.localhost")
        os.makedirs(os.path.join(source.folder, "private"))
        if taken:
            os.mkdir(site.folder)
        try:
            space["give_name"](source, site)
            said = "moved"
        except space["Refusal"] as e:
            said = e.code
        print(name, taken, said, os.path.isdir(os.path.join(site.folder, "private")), os.path.isdir(source.folder))
        space["remove"](source.folder)
        space["remove"](site.folder)
        for each in (source, site):
            space["forget_site_lock"](each.key)
print("over")
`

// testRename checks that a claim replaces no folder, on any file system.
func testRename(t *testing.T, b *standin.Box) {
	python := b.Python(t, renaming)
	python.Send(sourceText(t))
	for _, name := range []string{"its own", "EINVAL", "no call"} {
		for _, want := range []string{name + " False moved True False\n", name + " True conflict False True\n"} {
			if got := python.Line(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
	if got := python.Line(); got != "over\n" {
		t.Errorf("%q", got)
	}
}

// testNameTaken lets somebody else make a folder of the site's name in the middle of a claim:
// the claim is refused, and its undo leaves that folder alone.
func testNameTaken(t *testing.T, b *standin.Box, s *shelf) {
	killer := newKiller(t, b)
	for _, row := range []struct{ name, make string }{{"empty", "mkdir sites/%[1]s"}, {"theirs", `mkdir sites/%[1]s && echo '{"db_name": "_theirs"}' > sites/%[1]s/site_config.json`}} {
		k := s.keep(t)
		n := k.taker(row.name)
		killer.steps(t, n, k.claim(n), func(_ int, state string) bool { return !strings.Contains(state, `"`+string(n.owner)+`", "site"]`) })
		b.Sh(t, fmt.Sprintf(row.make, n.site))
		n.gen++
		n.refused(t, k.claim(n), nexus.Conflict)
		n.run(t, nexus.DropSite{})
		b.Sh(t, "test -d sites/"+string(n.site)+" && rm -r sites/"+string(n.site))
		testDrop(t, n)
		k.gone(t, n)
	}
}
