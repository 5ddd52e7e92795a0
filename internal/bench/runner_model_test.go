//go:build service

package bench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/bench"
)

// fakeRedis is the part of Redis' client that an operation without a server needs.
const fakeRedis = "import types\nexceptions = types.SimpleNamespace(RedisError=OSError)\n"

// python returns the interpreter itself, since a wrapper would take longer than the test,
// and its number of cores.
var python = sync.OnceValues(func() (is struct {
	Exe   string
	Cores int
}, err error) {
	out, err := exec.Command("python3", "-c", "import json, os, sys; print(json.dumps({'exe': sys.executable, 'cores': os.cpu_count()}))").Output()
	if err != nil {
		return is, fmt.Errorf("python3 is needed: %w", err)
	}
	return is, json.Unmarshal(out, &is)
})

// work is one operation as the model knows it. What happens to it is in testdata/database.py.
type work struct {
	id, how, lane string
	may           []string // how it may end, by its kind and by what has happened to it; empty: it does not end
	must          bool     // it must end whatever else is running
	shared        bool     // other operations use its database
	refills       bool     // it makes a standby
	over          bool
	unavailable   bool   // it ended so
	pad           string // makes its line longer
}

// parent is the real runner, without a container, and a model of it.
type parent struct {
	dir    string
	limits map[string]int // how many operations of a lane run at once
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	part   []byte // of a line
	gone   chan struct{}
	err    error // once it has exited
	left   bool  // it was told to leave
	closed bool  // the end of its output was seen

	works                   map[string]*work // by id; the last one of each
	order                   []string
	pings, pongs, junk, bad int
	greeted                 bool
	few                     bool    // it may open only few files, and refuses operations that need more
	idle                    float64 // for how many seconds a process waits for its run's next operation
	unread                  int     // for how many actions its output is not read
	half                    string  // the rest of a line that was begun
}

// newParent starts a runner; see parent for few and idle.
func newParent(t *rapid.T, dir string, few bool, idle float64) *parent {
	is, err := python()
	if err != nil {
		t.Fatal(err)
	}
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	inRead, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &parent{dir: dir, limits: map[string]int{"slow": max(2, is.Cores), "fast": max(4, 2*is.Cores)}, in: in, out: out, gone: make(chan struct{}), works: map[string]*work{}, few: few, idle: idle}
	source = bytes.Replace(source, []byte("\nmain()\n"), fmt.Appendf(nil, inSession+"\nmain()\n", p.idle, waiting), 1)
	program := bench.Bootstrap
	if p.few {
		program = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n" + program
	}
	p.cmd = exec.Command(is.Exe, "-u", "-c", program)
	p.cmd.Dir, p.cmd.Stdin, p.cmd.Stdout = dir, inRead, outWrite
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "PYTHONPATH=" + dir}
	var complaints bytes.Buffer
	p.cmd.Stderr, p.cmd.WaitDelay = &complaints, 10*time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = inRead.Close(), outWrite.Close()
	t.Cleanup(func() {
		_, _ = in.Close(), out.Close()
		_ = p.cmd.Process.Kill()
		<-p.gone
	})
	go func() {
		defer close(p.gone)
		if err := p.cmd.Wait(); err != nil {
			p.err = fmt.Errorf("%w: %s", err, complaints.String())
		}
	}()
	p.send(t, fmt.Sprintf("%d\n%s", len(source), source))
	if !p.listen(t, time.Minute, func() bool { return p.greeted }) {
		p.fail(t, "no hello")
	}
	return p
}

// end kills what is left of a folder's runners, also after a failure.
func end(dir string) {
	for left := family(dir); len(left) > 0; left = family(dir) { // some may fork meanwhile
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// family returns the processes of a folder's runners: those with it in their environment.
func family(dir string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		text, _ := os.ReadFile(path) // of others: not ours
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && bytes.Contains(text, []byte("PYTHONPATH="+dir+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (p *parent) send(t *rapid.T, text string) {
	_ = p.in.SetWriteDeadline(time.Now().Add(30 * time.Second))
	if _, err := p.in.WriteString(p.half + text); err != nil {
		p.fail(t, "it takes nothing in: %v", err)
	}
	p.half = ""
}

// fail fails the test. Its message tells all, since rapid prints nothing else of a failure that
// it cannot repeat: the runner's standard error if it has exited, what has not ended, and
// what each process waits for.
func (p *parent) fail(t *rapid.T, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	select {
	case <-p.gone:
		t.Fatalf("%s\nand it is gone: %v", text, p.err)
	default:
	}
	for _, id := range p.order {
		if w := p.works[id]; !w.over {
			text += fmt.Sprintf("\n%+v: process %d", *w, p.pid(w))
		}
	}
	for _, pid := range family(p.dir) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // absent: it has exited
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
		text += fmt.Sprintf("\nprocess %d in %s: %.60s", pid, where, stat)
	}
	t.Fatal(text)
}

// listen reads the runner's lines until a condition holds, for a limited time.
func (p *parent) listen(t *rapid.T, most time.Duration, until func() bool) bool {
	_ = p.out.SetReadDeadline(time.Now().Add(most))
	buffer := make([]byte, 1<<16)
	for !until() {
		n, err := p.out.Read(buffer)
		p.part = append(p.part, buffer[:n]...)
		for {
			line, rest, whole := bytes.Cut(p.part, []byte("\n"))
			if !whole {
				break
			}
			p.part = rest
			p.hear(t, line)
		}
		if err != nil {
			p.closed = !errors.Is(err, os.ErrDeadlineExceeded)
			return until()
		}
	}
	return true
}

// hear compares one line with the model.
func (p *parent) hear(t *rapid.T, line []byte) {
	var f struct {
		ID, Event, Message *string
		Percent            *int
		OK                 *bool
		Error              struct {
			Code    string
			Unbegun bool
		}
	}
	if err := json.Unmarshal(line, &f); err != nil {
		p.fail(t, "it said %.200q: %v", line, err)
	}
	if f.Event != nil {
		switch event := *f.Event; {
		case event == "hello" && !p.greeted:
			p.greeted = true
			return
		case event == "ping":
			return
		case event == "pong" && p.pongs < p.pings:
			p.pongs++
			return
		case event == "junk" && p.bad < p.junk:
			p.bad++
			return
		case event == "progress" && f.ID != nil && p.works[*f.ID] != nil && !p.works[*f.ID].over && f.Message != nil && f.Percent != nil:
			return
		}
		p.fail(t, "it said %.200q", line)
	}
	if f.ID == nil || f.OK == nil || p.works[*f.ID] == nil {
		p.fail(t, "it said %.200q, which nobody asked", line)
	}
	if bytes.Contains(line, []byte(secretOf(""))) {
		p.fail(t, "it tells a secret: %.300q", line)
	}
	w, code := p.works[*f.ID], f.Error.Code
	if *f.OK {
		code = "ok"
	}
	crowded := p.few && code == "unavailable" && f.Error.Unbegun
	if w.over || !slices.Contains(w.may, code) && !crowded {
		p.fail(t, "%+v ended as %.300q", *w, line)
	}
	want := 0
	if w.refills {
		want = 10
	}
	if pid, nice, usual := p.began(w); pid > 0 && nice != min(19, usual+want) {
		p.fail(t, "%+v has the nice value %d, and the runner %d", *w, nice, usual)
	}
	w.over, w.unavailable = true, code == "unavailable"
}

// hows are the fates of an operation, each with the outcomes it may have.
var hows = map[string][]string{
	"fine": {"ok"}, "loud": {"ok"}, "slow": {"ok"}, "noise": {"ok"}, "daemons": {"ok"}, "hang": nil, "nest": nil, "flood": {"internal"}, "endless": {"internal"},
	"crash": {"internal"}, "forge": {"internal"}, "die": {"unavailable"}, "exit": {"unavailable"}, "tell": {"internal"}, "tell and die": {"unavailable"}, "refuse": {"conflict"}, "away": {"unavailable"}}

const long, forever = "600", 600 // seconds

// line is an operation on the wire.
func (w *work) line(db string, gen int, timeout string) string {
	op, room := map[string]string{"": "inspect", "fast": "issue_key", "slow": "drop_site"}[w.lane], ""
	if w.refills {
		op, room = "shelve", "standby"
	}
	return fmt.Sprintf(`{"op":%q,"id":%q,"install":"9f3c","site":"acme.localhost","room":%q,"db":%q,"owner":"%032x","gen":"%d","output_limit":100000,"timeout_s":%s,"args":{"state":"active","pad":%q},`+
		`"secrets":{"db_account":%q,"db_password":%q,"key":%q}}`, op, w.id, room, db, 7, gen, timeout, w.pad, w.how, w.id, secretOf(w.id)) + "\n"
}

func (p *parent) add(w *work) *work {
	p.works[w.id] = w
	p.order = append(p.order, w.id)
	return w
}

// ask sends operations at once, or all but the rest of the last line.
func (p *parent) ask(t *rapid.T) {
	lane := rapid.SampledFrom([]string{"", "fast", "slow"}).Draw(t, "lane")
	var text strings.Builder
	how, alike := "", rapid.Bool().Draw(t, "alike")
	for range rapid.SampledFrom([]int{1, 1, 2, 3, 7}).Draw(t, "operations") {
		if how == "" || !alike {
			how = rapid.SampledFrom([]string{"fine", "loud", "slow", "noise", "daemons", "hang", "hang", "nest", "flood", "endless", "crash", "forge", "die", "exit", "refuse", "away"}).Draw(t, "how")
		}
		w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: how, lane: lane, may: slices.Clone(hows[how])})
		w.must, w.refills = lane == "" && len(w.may) > 0, lane == "fast" && rapid.Bool().Draw(t, "refills")
		db, gen := fmt.Sprintf("nx%04d", len(p.order)), 7
		if lane != "" && rapid.IntRange(0, 7).Draw(t, "shares a database") == 0 {
			db, gen = "nxshared", rapid.IntRange(1, 2).Draw(t, "gen")
			w.may, w.shared = append(w.may, "fenced", "unavailable"), true
		}
		timeout := rapid.SampledFrom([]string{long, long, long, long, "1e999", "0", "0.0", "-1", "1e-9", "0.05", "0.3", "NaN"}).Draw(t, "timeout")
		switch limit, _ := strconv.ParseFloat(timeout, 64); {
		case limit >= 1:
		case limit != 0: // or no number
			w.may, w.must = append(w.may, "timeout"), true
		case w.hangs():
			timeout = long // 0 is as none, which is a minute
		case lane != "":
			w.may = append(w.may, "timeout") // if it waits for its lane so long
		}
		text.WriteString(w.line(db, gen, timeout))
	}
	cut := text.Len()
	if rapid.IntRange(0, 3).Draw(t, "in pieces") == 0 {
		cut -= rapid.IntRange(1, 200).Draw(t, "cut")
	}
	p.send(t, text.String()[:cut])
	p.half = text.String()[cut:]
}

// some draws one of the operations for which a condition holds.
func (p *parent) some(t *rapid.T, so func(*work) bool) *work {
	var ids []string
	for _, id := range p.order {
		if so(p.works[id]) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		t.Skip("there is none")
	}
	return p.works[rapid.SampledFrom(ids).Draw(t, "operation")]
}

// hangs reports whether the operation would run forever.
func (w *work) hangs() bool { return !w.over && w.may == nil }

// pid is the operation's process; 0: it has not begun.
func (p *parent) pid(w *work) int {
	pid, _, _ := p.began(w)
	return pid
}

// began returns the operation's process, its nice value and that of the runner.
func (p *parent) began(w *work) (pid, nice, usual int) {
	text, _ := os.ReadFile(filepath.Join(p.dir, "began-"+w.id)) // absent: not begun
	_, _ = fmt.Sscan(string(text), &pid, &nice, &usual)
	return pid, nice, usual
}

func (p *parent) cancel(t *rapid.T) {
	w := p.some(t, func(*work) bool { return true })
	if !w.over {
		w.may, w.must = append(w.may, "canceled"), true
	}
	p.send(t, fmt.Sprintf(`{"op":"cancel","id":%q}`, w.id)+"\n")
}

// kill ends the process of an operation that hangs, from outside.
func (p *parent) kill(t *rapid.T) {
	w := p.some(t, func(w *work) bool { return w.hangs() && p.pid(w) > 0 })
	p.await(t, "its twin to be refused", func(*work) bool { return true }) // or that would be none
	awaited := rapid.Bool().Draw(t, "awaited")
	if awaited { // and while nothing else ends
		p.await(t, "what ends by itself", func(w *work) bool { return w.over || !w.must })
	}
	if err := syscall.Kill(p.pid(w), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.may, w.must = []string{"unavailable"}, true
	if awaited {
		p.await(t, "its end", func(one *work) bool { return one != w || w.over })
	}
}

// twin sends another operation with the id of one that has not ended, which must be
// refused.
func (p *parent) twin(t *rapid.T) {
	w := *p.some(t, func(w *work) bool { return w.hangs() && (!p.few || p.pid(w) > 0) })
	w.how = "fine"
	p.junk++
	p.send(t, w.line("nxtwin", 7, long))
}

// one sends one operation while no other ends.
func (p *parent) one(t *rapid.T) {
	p.await(t, "what ends by itself", func(w *work) bool { return w.over || !w.must })
	how := rapid.SampledFrom([]string{"fine", "noise", "daemons", "daemons", "flood", "endless", "crash", "forge", "die", "exit"}).Draw(t, "how")
	w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: how, may: hows[how], must: true})
	p.send(t, w.line("nxone", 7, long))
	p.await(t, "its end", func(one *work) bool { return one != w || w.over })
}

// again sends an operation with the id of one that has ended.
func (p *parent) again(t *rapid.T) {
	old := p.some(t, func(w *work) bool { return w.over })
	_ = os.Remove(filepath.Join(p.dir, "began-"+old.id))
	w := &work{id: old.id, how: "fine", may: hows["fine"], must: true}
	p.works[w.id] = w
	p.send(t, w.line("nxagain", 7, long))
}

// noise sends lines that are no operations, or name unknown ones.
func (p *parent) noise(t *rapid.T) {
	junk := []string{"{", `"text"`, "null", "7", "[]", "{}", "\x00\xff", `{"op":"inspect"}`, `{"op":null,"id":"j"}`, `{"op":["inspect"],"id":"j"}`, `{"op":"cancel"}`,
		`{"op":"inspect","id":"j","gen":1e999}`, `{"op":"inspect","id":"j","gen":"x"}`, `{"op":"inspect","id":"j","output_limit":-1e999}`, `{"op":"inspect","id":"j","timeout_s":"soon"}`,
		`{"op":"inspect","id":"j","timeout_s":1` + strings.Repeat("0", 400) + `}`, `{"op":"inspect","id":"j","args":5}`, `{"op":"inspect","id":"j","secrets":[1]}`,
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat("9", 10_000), strings.Repeat("x", 1<<18)}
	refused := []struct{ lane, line string }{{"fast", `"op":"no such"`}, {"fast", `"op":""`}, {"fast", `"op":"mark"`}, {"fast", `"op":"mark","db":7`}, {"fast", `"op":"mark","db":"nx1234","owner":[]`},
		{"", `"op":"inspect","site":"../../etc"`}, {"", `"op":"inspect","site":7`}, {"", `"op":"inspect","site":"\ud800","secrets":{"a":5}`},
		{"slow", `"op":"drop_site","db":"nx1234","owner":"` + strings.Repeat("0", 32) + `","gen":"-5"`}}
	switch i := rapid.IntRange(-2, len(junk)+len(refused)-1).Draw(t, "noise"); {
	case i == -2:
		p.send(t, " \r\n\n")
	case i == -1:
		p.send(t, `{"op":"cancel","id":"nobody"}`+"\n")
	case i < len(junk):
		p.junk++
		p.send(t, junk[i]+"\n")
	default:
		one := refused[i-len(junk)]
		w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: "refused", lane: one.lane, may: []string{"invalid", "internal"}, must: one.lane == ""})
		p.send(t, fmt.Sprintf(`{"id":%q,"install":"9f3c","timeout_s":%s,%s}`, w.id, long, one.line)+"\n")
	}
}

func (p *parent) ping(t *rapid.T) {
	p.pings++
	p.send(t, `{"op":"ping"}`+"\n")
}

// pause stops reading for some actions, while more is sent than the pipe holds.
func (p *parent) pause(t *rapid.T) {
	const many = 5000
	p.unread, p.pings = rapid.IntRange(1, 5).Draw(t, "moves"), p.pings+many
	p.send(t, strings.Repeat(`{"op":"ping"}`+"\n", many))
}

// wait waits for the outcome of one operation that ends by itself.
func (p *parent) wait(t *rapid.T) {
	w := p.some(t, func(w *work) bool { return w.must && !w.over })
	p.await(t, "its end", func(one *work) bool { return one != w || w.over })
}

// await waits until a condition holds for all operations, all junk is reported and all
// pings are answered.
func (p *parent) await(t *rapid.T, what string, so func(*work) bool) {
	p.send(t, "")
	p.unread = 0
	for limit := time.Now().Add(3 * time.Minute); !p.closed && time.Now().Before(limit); {
		if p.listen(t, 5*time.Second, func() bool {
			return p.bad == p.junk && p.pongs == p.pings && !slices.ContainsFunc(p.order, func(id string) bool { return !so(p.works[id]) })
		}) {
			return
		}
		if !p.closed {
			p.ping(t) // after 20 s of silence it leaves
		}
	}
	for _, id := range p.order {
		if !so(p.works[id]) {
			t.Logf("%+v", *p.works[id])
		}
	}
	p.fail(t, "waited for %s; %d of %d lines of junk were noted, %d of %d pings", what, p.bad, p.junk, p.pongs, p.pings)
}

func (p *parent) check(t *rapid.T) {
	for lane, limit := range p.limits {
		if begun, _ := p.busy(lane); begun > limit {
			p.fail(t, "%d operations at once in the lane %s", begun, lane)
		}
	}
	if p.unread > 0 {
		p.unread--
		return
	}
	p.listen(t, time.Millisecond, func() bool { return false })
	if p.closed {
		p.fail(t, "it left")
	}
}

// busy counts the hanging operations of a lane that have begun, and tells whether one
// waits that could begin.
func (p *parent) busy(lane string) (begun int, stands bool) {
	for _, id := range p.order {
		switch w := p.works[id]; {
		case w.lane != lane || w.over:
		case w.shared: // it may hold a place, and wait for its database
			return begun, false
		case w.hangs() && p.pid(w) > 0:
			begun++
		default:
			stands = true
		}
	}
	return begun, stands && begun < p.limits[lane]
}

// TestRunnerModel drives the real runner, as a process on this machine, with anything:
// operations that succeed, fail, hang, flood, forge answers and leave daemons, cancels,
// junk, ids used twice, kills from outside, a client that does not read, and its end at
// any moment. Its lines are compared with a model.
func TestRunnerModel(t *testing.T) {
	t.Parallel()
	begun, failed, most := time.Now(), false, 40*time.Second
	database, err := os.ReadFile("testdata/database.py")
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(begun) > most && !failed {
			return // as many as there is time for
		}
		runs++
		dir := t.TempDir()
		for name, text := range map[string]string{"pymysql.py": string(database), "redis.py": fakeRedis, "sites/.nexus/install": `"9f3c"`, "sites/apps.txt": "frappe"} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
				rt.Fatal(err)
			}
		}
		defer func() { failed = failed || rt.Failed() }()
		defer end(dir)
		p := newParent(rt, dir, rapid.IntRange(0, 4).Draw(rt, "few files") == 0, rapid.SampledFrom([]float64{0.05, forever}).Draw(rt, "idle"))
		rt.Repeat(map[string]func(*rapid.T){"ask": p.ask, "ask more": p.ask, "cancel": p.cancel, "kill": p.kill, "twin": p.twin, "again": p.again, "one": p.one, "session": p.session, "sessions": p.sessions,
			"noise": p.noise, "ping": p.ping, "pause": p.pause, "wait": p.wait, "": p.check})
		p.leave(rt)
	})
	t.Logf("%d runs", runs)
}
