//go:build service

package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// misbehaving are apps whose hooks harm the process that installs them.
var misbehaving = map[string]string{
	// It hangs, and so do a child in its session, one in a session of its own and an
	// orphan; all of them ignore SIGTERM.
	"hangs": `
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "trap '' TERM HUP INT; while true; do sleep 7701; done"
subprocess.Popen(["sh", "-c", sleeper])
subprocess.Popen(["sh", "-c", sleeper], start_new_session=True)
subprocess.Popen(["sh", "-c", "setsid sh -c \"" + sleeper.replace('"', '') + "\" & exit 0"], start_new_session=True)
time.sleep(7701)
`,
	"floods": `
import sys
for _ in range(50):
    sys.stdout.write("flood " * (1 << 18) + "\n")
    sys.stdout.flush()
`,
	"floods_a_line": `
import sys
for _ in range(50):
    sys.stdout.write("x" * (1 << 20))
    sys.stdout.flush()
`,
	// It writes a forged answer of success to every descriptor it has.
	"forges": `
import os
for fd in range(1, 64):
    try:
        os.write(fd, b'{"ok": true, "result": {"changed": true}}\n{"id": "1", "ok": true}\n\x00\xff{\n')
    except OSError:
        pass
raise SystemExit(3)
`,
	"dies":         "import os\nos.kill(os.getpid(), 9)\n",
	"kills_parent": "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(7701)\n",
	// It fails, and leaves a daemon with closed descriptors behind.
	"leaves_daemon": `
import subprocess
subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 7701"], start_new_session=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
raise RuntimeError("after the daemon")
`,
}

// spoiled returns a stand-in with those apps, a driver, and a site for each app.
func spoiled(t *testing.T) (*standin.Box, *target) {
	t.Helper()
	b := standin.Start(t, 300*time.Millisecond)
	box := standin.NewBox(t, b.Name, b.RootPassword)
	for name, code := range misbehaving {
		cmd := exec.Command("docker", "exec", "-i", b.Name, "sh", "-c", fmt.Sprintf("mkdir -p apps/%[1]s/%[1]s && touch apps/%[1]s/%[1]s/__init__.py &&"+
			" cat > apps/%[1]s/%[1]s/hooks.py && echo \"$PWD/apps/%[1]s\" >> env/lib/python3.11/site-packages/bench.pth && printf '\\n%[1]s\\n' >> sites/apps.txt", name))
		cmd.Stdin = strings.NewReader(code)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	g := container(t, box, b.Addr, "erpnext", nexus.NewInstallID())
	args := g.secrets
	args.Install = g.install
	if _, err := g.bench.Run(t.Context(), nexus.Op{Args: args}); err != nil {
		t.Fatal(err)
	}
	return box, g
}

// sleepers lists the processes that a misbehaving app left.
func sleepers(t *testing.T, box *standin.Box) string {
	t.Helper()
	return box.Sh(t, "ps -eo pid,args | grep -e 'sleep [7]701' -e '[b]ench_helper' || true")
}

// within runs an operation with a deadline.
func (n *tenant) within(t *testing.T, d time.Duration, args nexus.Args) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := n.bench.Run(ctx, n.op(args))
	return err
}

// TestOutageOperations runs operations that hang, flood, forge answers, die and leave
// daemons: each must be ended and classified and leave no process, and the runner's other
// operations must go on.
func TestOutageOperations(t *testing.T) {
	box, g := spoiled(t)
	well := g.tenant("well")
	well.run(t, nexus.NewSite{})
	var memory peak
	stop := memory.watch(t, box)
	for _, row := range []struct {
		app  string
		want nexus.Code
		time time.Duration
	}{{"hangs", nexus.Timeout, 6 * time.Second}, {"floods", nexus.Internal, time.Minute}, {"floods_a_line", nexus.Internal, time.Minute},
		{"forges", nexus.Internal, 30 * time.Second}, {"dies", nexus.Internal, 30 * time.Second},
		{"kills_parent", nexus.Unavailable, 30 * time.Second}, {"leaves_daemon", nexus.Internal, 30 * time.Second}} {
		t.Run(row.app, func(t *testing.T) {
			ill := g.tenant(strings.ReplaceAll(row.app, "_", "-"))
			ill.run(t, nexus.NewSite{})
			began := time.Now()
			done := make(chan error, 1)
			go func() { done <- ill.within(t, row.time, nexus.InstallApp{App: row.app}) }()
			unharmed := 0
			for ended := false; !ended; unharmed++ {
				well.run(t, nexus.Inspect{})
				select {
				case err := <-done:
					ended = true
					if got := nexus.CodeOf(err); got != row.want {
						t.Errorf("%q (%v), want %q", got, err, row.want)
					}
				default:
				}
			}
			if took := time.Since(began); took > row.time+time.Minute {
				t.Errorf("it took %s to end", took)
			}
			if left := sleepers(t, box); left != "" {
				t.Errorf("its processes live on: %s", left)
			}
			if site := ill.newer().run(t, nexus.Inspect{}).Site; site == nil || strings.Contains(strings.Join(site.Apps, " "), row.app) {
				t.Errorf("the app counts as installed: %+v", site)
			}
			ill.newer().run(t, nexus.DropSite{})
			if left := ill.left(t, ill.site, ill.op(nexus.Inspect{}).DB); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			t.Logf("%d other operations meanwhile, ended after %s", unharmed, time.Since(began))
		})
	}
	stop()
	t.Logf("the largest of the runner's processes had %d MB", memory.kilobytes>>10)
	if memory.kilobytes > 200<<10 {
		t.Errorf("a process of the runner had %d MB", memory.kilobytes>>10)
	}
	runtime.GC() // or what earlier tests left would count
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	if now.HeapAlloc > 64<<20 {
		t.Errorf("this end has a heap of %d MB", now.HeapAlloc>>20)
	}
}

// peak returns the peak memory of a process of the runner.
type peak struct{ kilobytes int }

func (p *peak) watch(t *testing.T, box *standin.Box) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			out, _ := exec.Command("docker", "exec", box.Name, "sh", "-c", "ps -eo rss,args | grep '[r]unner.py'").Output() // no runner is running: no output
			for line := range strings.Lines(string(out)) {
				kilobytes, _ := strconv.Atoi(strings.Fields(line + " 0")[0])
				p.kilobytes = max(p.kilobytes, kilobytes)
			}
		}
	})
	return func() {
		close(quit)
		done.Wait()
	}
}

// raw is a runner to which the test sends bytes itself.
type raw struct {
	t    *testing.T
	in   io.WriteCloser
	out  io.Reader
	said chan map[string]any
	done chan error
	kill func()
}

func newRaw(t *testing.T, box *standin.Box) *raw {
	t.Helper()
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "exec", "-i", box.Name, "env", "-i", "PATH=/home/frappe/frappe-bench/env/bin:/usr/bin:/bin", "HOME=/home/frappe",
		"env/bin/python", "-u", "-c", bench.Bootstrap)
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
	r := &raw{t: t, in: in, out: out, said: make(chan map[string]any, 1000), done: make(chan error, 1),
		kill: sync.OnceFunc(func() { _ = cmd.Process.Kill() })}
	go func() {
		_, err := cmd.Process.Wait()
		r.done <- err
	}()
	t.Cleanup(func() {
		_ = in.Close()
		r.kill()
	})
	r.send("%d\n%s", len(source), source)
	return r
}

func (r *raw) send(format string, args ...any) {
	r.t.Helper()
	if _, err := fmt.Fprintf(r.in, format, args...); err != nil {
		r.t.Errorf("the runner takes nothing in: %v", err)
	}
}

// listen reads the runner's lines from now on, except pings.
func (r *raw) listen() {
	go func() {
		defer close(r.said)
		for lines := bufio.NewReader(r.out); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var f map[string]any
			if json.Unmarshal(line, &f) == nil && f["event"] != "ping" {
				r.said <- f
			}
		}
	}()
}

// await waits for a frame whose field has a value.
func (r *raw) await(field string, want any) map[string]any {
	r.t.Helper()
	for limit := time.After(60 * time.Second); ; {
		select {
		case f, ok := <-r.said:
			if !ok {
				r.t.Fatalf("the runner is gone before %s was %v", field, want)
			}
			if f[field] == want {
				return f
			}
		case <-limit:
			r.t.Fatalf("the runner never said %s %v", field, want)
		}
	}
}

// TestOutageRunnerJunk sends the runner lines that are no operations: it must live on, and
// so must its operations.
func TestOutageRunnerJunk(t *testing.T) {
	box, _ := spoiled(t)
	r := newRaw(t, box)
	r.listen()
	r.await("event", "hello")
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(random.IntN(256))
	}
	junk := []string{string(noise), "", "\x00", "{", `{"op":`, `"text"`, "null", "7", "[]", "[1]", "{}", `{"op":"ping","id":5}`, `{"op":null}`, `{"op":5}`, `{"op":"inspect"}`,
		`{"op":{},"id":"j1"}`, `{"op":["inspect"],"id":"j2"}`, `{"op":"inspect","id":{}}`, `{"op":"cancel"}`, `{"op":"cancel","id":"nobody"}`,
		`{"op":"no such","id":"j3"}`, `{"op":"inspect","id":"j4","args":5}`, `{"op":"inspect","id":"j5","secrets":"x"}`, `{"op":"inspect","id":"j6","secrets":[1]}`,
		`{"op":"mark","id":"j7","secrets":"x","db":"nx12345","owner":"` + strings.Repeat("0", 32) + `","gen":"7"}`,
		`{"op":"inspect","id":"j8","timeout_s":"soon"}`, `{"op":"inspect","id":"j9","timeout_s":-1}`, `{"op":"inspect","id":"j10","gen":"x"}`, `{"op":"inspect","id":"j11","site":7}`,
		`{"op":"mark","id":"j12","db":7,"owner":[],"gen":1}`, `{"op":"inspect","id":"j13","site":"../../etc"}`, `{"op":"inspect","id":"j14","site":"\u0000"}`,
		`{"op":"inspect","id":"j15","site":"\ud800","secrets":{"a":5}}`, `{"op":"inspect","id":"j16","output_limit":"much"}`,
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("9", 10_000), strings.Repeat("x", 4<<20)}
	for i, line := range junk {
		r.send("%s\n", line)
		r.send(`{"op":"none of ours","id":"after-%d"}`+"\n", i)
		f := r.await("id", fmt.Sprintf("after-%d", i))
		if refused, _ := f["error"].(map[string]any); refused["code"] != "invalid" {
			t.Errorf("after %.60q: %v", line, f)
		}
	}
	r.send(`{"op":"none of ours","id":"half`) // and then the end
	_ = r.in.Close()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the runner does not leave at the end of its input")
	}
	standin.Await(t, "no runner but the driver's own is left", func() bool { return box.Sh(t, "ps -eo args | grep -c '[r]unner.py' || true") == "1" })
}

// unread is a client inside the container that starts a runner and a hanging operation,
// sends pings without end, and never reads.
const unread = `
import json, os, subprocess, sys, time
size, boot, op = int(sys.argv[1]), sys.argv[2], sys.argv[3]
source = sys.stdin.buffer.read(size)
def asleep():
    return subprocess.run(["sh", "-c", "ps -eo args | grep -c 'sleep [7]701'"], capture_output=True).stdout
p = subprocess.Popen(["env/bin/python", "-u", "-c", boot], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
p.stdin.write(b"%d\n" % size + source + op.encode() + b"\n")
limit = time.monotonic() + 60
while int(asleep()) < 3 and time.monotonic() < limit:
    time.sleep(0.1)
hung, began, most = int(asleep()), time.monotonic(), 0
os.set_blocking(p.stdin.fileno(), False)
while p.poll() is None and time.monotonic() < began + 60:
    try:
        p.stdin.write(b'{"op":"ping"}\n' * 100)
    except OSError:
        pass
    try:
        most = max(most, int(open(f"/proc/{p.pid}/status").read().split("VmHWM:")[1].split()[0]))
    except (OSError, IndexError):
        pass
    time.sleep(0.005)
print(json.dumps({"hung": hung, "seconds": time.monotonic() - began, "kilobytes": most, "left": int(asleep()), "gone": p.poll() is not None}))
`

// TestOutageRunnerUnread runs a client that sends and never reads: the runner must bound
// its memory, end its operations, and exit.
func TestOutageRunnerUnread(t *testing.T) {
	box, g := spoiled(t)
	ill := g.tenant("unread")
	ill.run(t, nexus.NewSite{})
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	op := ill.newer().op(nexus.InstallApp{App: "hangs"})
	line := fmt.Sprintf(`{"op":"install_app","id":"1","install":%q,"site":%q,"db":%q,"owner":%q,"gen":"%d","timeout_s":600,"args":{"app":"hangs"},`+
		`"secrets":{"db_account":%q,"db_password":%q}}`, g.install, op.Site, op.DB, op.Owner, op.Gen, g.secrets.Account, g.secrets.Password.Reveal())
	cmd := exec.Command("docker", "exec", "-i", box.Name, "env/bin/python", "-c", unread, strconv.Itoa(len(source)), bench.Bootstrap, line)
	cmd.Stdin = bytes.NewReader(source)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var is struct {
		Hung, Kilobytes, Left int
		Seconds               float64
		Gone                  bool
	}
	if err := json.Unmarshal(out, &is); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%+v", is)
	if is.Hung < 3 || is.Left > 0 || !is.Gone || is.Seconds > 40 || is.Kilobytes > 200<<10 {
		t.Errorf("the runner of a client that takes nothing in: %+v", is)
	}
	next := ill.newer().newer() // the driver's own runner is unharmed
	next.run(t, nexus.DropSite{})
}

// TestOutageJunkOnDisk puts junk where markers and intents are: the inventory must still
// work, and nothing of it may be dropped.
func TestOutageJunkOnDisk(t *testing.T) {
	box, g := spoiled(t)
	ours := g.tenant("ours")
	ours.run(t, nexus.NewSite{})
	junk := []string{"", "\\0\\0\\0", "\\377\\376{", "{", "[]", "[1]", "5", `"x"`, "null", `{"db_name":5}`, `{"db_name":["x"]}`, `{"db_name":{}}`, `{"nexus":5}`, `{"nexus":"x"}`,
		`{"nexus":[]}`, `{"nexus":{"job":5,"state":[],"apps":"x","install":{}}}`, `{"nexus":{"job":"` + string(ours.owner) + `"}}`, `{"nexus_plan":7}`, `{"nexus":{"install":"ffff","job":"x","state":"active","madeAt":"yesterday"}}`,
		`{"nexus":{"install":5,"job":["x"],"state":{},"apps":[5,{}],"madeAt":7},"db_name":"_theirs"}`, `{"job":5,"db":[]}`,
		`{"job":"` + string(ours.owner) + `","db":"nxother"}`, strings.Repeat("[", 100_000)}
	for i, text := range junk {
		site := nexus.SiteName(fmt.Sprintf("junk-%02d.localhost", i))
		cmd := exec.Command("docker", "exec", "-i", box.Name, "sh", "-c", fmt.Sprintf("mkdir -p sites/%[1]s sites/.nexus/intent && cat > /tmp/junk && "+
			"printf \"$(cat /tmp/junk)\" > sites/%[1]s/site_config.json && cp sites/%[1]s/site_config.json sites/.nexus/intent/%[1]s", site))
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(text, `"`, `"`))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%.40q: %v %s", text, err, out)
		}
	}
	box.Sh(t, "mkdir -p sites/folder.localhost/site_config.json sites/.nexus/intent/folder.localhost sites/.nexus/trash/x-1-1")
	look := func() string {
		return box.Sh(t, "find sites/junk-* sites/folder.localhost sites/.nexus/intent -type f -exec sha256sum {} + | sort")
	}
	before := look()
	list, err := ours.try(t, nexus.Inventory{})
	if err != nil || list.Inventory == nil || len(list.Inventory.Sites) < len(junk) {
		t.Errorf("the inventory is %+v, %v", list.Inventory, err)
	}
	for i, text := range junk {
		met := *ours
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		met.site = nexus.SiteName(fmt.Sprintf("junk-%02d.localhost", i))
		_, err := met.bench.Run(ctx, met.op(nexus.Inspect{}))
		cancel()
		if err != nil {
			t.Errorf("inspect of %.60q: %v", text, err)
		}
		met.owner, met.gen = nexus.NewJobID(), met.gen+1
		if _, err := met.try(t, nexus.NewSite{}); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("a new site over %.60q: %v", text, err)
		}
		if result, err := met.try(t, nexus.DropSite{}); err != nil || result.Changed {
			t.Errorf("a drop of %.60q: %+v, %v", text, result, err)
		}
	}
	if after := look(); after != before {
		t.Errorf("junk was touched:\n%s\n%s", before, after)
	}
	if site := ours.run(t, nexus.Inspect{}).Site; site == nil || site.State == "" || !site.Database {
		t.Errorf("our own site is %+v", site)
	}
	// A token in the fence that was never issued must not lock the owner out either.
	for _, gen := range []string{`"9223372036854775807"`, "9007199254740993", `"soon"`, "{}"} {
		box.Sh(t, fmt.Sprintf(`printf '{"gen":%s,"clean":true}' > sites/.nexus/fence/%s.gen`, gen, ours.op(nexus.Inspect{}).DB))
		ours.run(t, nexus.Mark{State: nexus.TenantMaking})
		late := *ours
		late.gen--
		late.refused(t, nexus.Mark{State: nexus.TenantMaking}, nexus.Fenced)
	}
	// A process was killed while it wrote an intent: the temporary file counts as no site,
	// and is removed with the site that it was for.
	box.Sh(t, fmt.Sprintf("printf '{' > sites/.nexus/intent/.%s.4711.new", ours.site))
	list = ours.run(t, nexus.Inventory{})
	if slices.ContainsFunc(list.Inventory.Intents, func(i nexus.Intent) bool { return strings.HasPrefix(string(i.Site), ".") }) {
		t.Errorf("half a file counts as an intent: %+v", list.Inventory.Intents)
	}
	ours.newer().run(t, nexus.DropSite{})
	if left := box.Sh(t, "ls -A sites/.nexus/intent | grep 4711 || true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// TestOutageDiskFull fills the disk of the sites: the error must say so, and what was begun
// must be undone once there is room.
func TestOutageDiskFull(t *testing.T) {
	volume := "nexus-full-" + string(nexus.NewJobID())[:8]
	if out, err := exec.Command("docker", "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=4m,uid=1000,gid=1000", volume).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("STANDIN_SITES", volume)
	t.Cleanup(func() { _ = exec.Command("docker", "volume", "rm", "-f", volume).Run() })
	b := standin.Start(t, 300*time.Millisecond)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-fv", b.Name).Run() })
	box := standin.NewBox(t, b.Name, b.RootPassword)
	g := container(t, box, b.Addr, "erpnext", nexus.NewInstallID())
	args := g.secrets
	args.Install = g.install
	if _, err := g.bench.Run(t.Context(), nexus.Op{Args: args}); err != nil {
		t.Fatal(err)
	}
	box.Sh(t, "printf 'frappe\\nerpnext\\nhrms\\n' > sites/apps.txt && mkdir -p sites/assets") // a tmpfs begins empty
	whole, half := g.tenant("whole"), g.tenant("half")
	whole.run(t, nexus.NewSite{})
	box.Sh(t, "dd if=/dev/zero of=sites/fill bs=1k 2>/dev/null; true")
	for name, n := range map[string]struct {
		*tenant
		args nexus.Args
	}{"new site": {half, nexus.NewSite{}}, "a plan": {whole, nexus.ApplyPlan{Plan: "trial", HostName: "http://x"}}, "drop": {whole, nexus.DropSite{}}} {
		_, err := n.try(t, n.args)
		e, _ := errors.AsType[*nexus.Error](err)
		if err == nil || e.Code != nexus.Unavailable || !strings.Contains(e.Msg, "disk") {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	box.Sh(t, "rm sites/fill")
	for _, n := range []*tenant{half, whole} {
		n.newer().run(t, nexus.DropSite{})
		if left := n.left(t, n.site, n.op(nexus.Inspect{}).DB); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	half.newer().newer().run(t, nexus.NewSite{})
	half.newer().newer().run(t, nexus.DropSite{})
}

// TestSchemaTablesFirst: nexus bench init makes all tables and columns before the procedures
// that use them, since workers call these meanwhile.
func TestSchemaTablesFirst(t *testing.T) {
	t.Parallel()
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	procedures := false
	for line := range strings.Lines(string(source)) {
		switch {
		case strings.HasPrefix(line, "CREATE OR REPLACE PROCEDURE"):
			procedures = true
		case procedures && (strings.HasPrefix(line, "ALTER TABLE") || strings.HasPrefix(line, "CREATE TABLE")):
			t.Errorf("after a procedure: %.60s", line)
		}
	}
	if !procedures {
		t.Error("no procedures found")
	}
}

// TestTemplateVersions: Go and the runner agree on the version of templates.
func TestTemplateVersions(t *testing.T) {
	t.Parallel()
	source, err := bench.RunnerSource()
	if want := fmt.Sprintf("\nTEMPLATE_VERSION = %d ", nexus.TemplateVersion); err != nil || !strings.Contains(string(source), want) {
		t.Errorf("the runner does not say %q: %v", want, err)
	}
}
