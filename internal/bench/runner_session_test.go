//go:build service

package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"pgregory.net/rapid"
)

// inSession is an operation of a session that needs no site; it also takes the place of one
// that makes a standby.
const inSession = `
heard = []
def issue_key(op):
    heard.append(op.secrets["key"])
    connect(op.secrets["db_account"], op.secrets["db_password"])
    if op.secrets["db_account"].startswith("tell"):
        os.write(1, json.dumps(heard).encode())
        if op.secrets["db_account"] == "tell and die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(heard)
    return {"key": "a"}
def in_the_making(op):
    return True
WRITES["issue_key"] = WRITES["shelve"] = issue_key
WAIT, IDLE = %g, %d
`

// waiting is how many processes wait at most for the next operation of their runs.
const waiting = 4

// secretOf is a secret that the operation with this id is given.
func secretOf(id string) string { return "secret of " + id }

// free is the number of operations of a lane that can begin at once.
func (p *parent) free(lane string) int {
	n := p.limits[lane]
	for _, w := range p.works {
		if w.lane == lane && !w.over {
			n--
		}
	}
	return n
}

// session sends operations of a run, each when the one before is over. One process carries
// them out, until one fails or another run comes.
func (p *parent) session(t *rapid.T) {
	if p.free("fast") < 1 {
		t.Skip("it may have to wait")
	}
	how, alike := "", rapid.Bool().Draw(t, "alike")
	db, gen, before, stays := fmt.Sprintf("nxs%04d", len(p.order)), 7, 0, false
	for range rapid.IntRange(2, 4).Draw(t, "operations") {
		if how == "" || !alike {
			how = rapid.SampledFrom([]string{"fine", "fine", "loud", "loud", "slow", "noise", "daemons", "hang", "flood", "endless", "crash", "forge", "die", "exit", "tell", "tell", "tell and die", "tell and die", "refuse"}).Draw(t, "how")
		}
		w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: how, lane: "fast", may: slices.Clone(hows[how]), must: true})
		switch between := rapid.SampledFrom([]string{"", "", "", "another run", "killed", "stopped", "long", "dropped", "another worker"}).Draw(t, "between"); {
		case between == "another run":
			gen, stays = gen+1, false
		case between == "killed" && stays: // from outside, which the runner may not have seen
			_ = syscall.Kill(before, syscall.SIGKILL)
			w.may, stays = append(w.may, "unavailable"), false
		case between == "stopped" && stays: // it does not exit when it is told to
			_ = syscall.Kill(before, syscall.SIGSTOP)
			gen, stays = gen+1, false
		case between == "long":
			w.pad, stays = strings.Repeat("x", 1<<17), false // no pipe holds it
		case between == "dropped" && stays && p.free("slow") > 0:
			w.lane, w.how, w.may, stays = "slow", "fine", slices.Clone(hows["fine"]), false
		case between == "another worker" && stays && !p.few:
			p.elsewhere(t, w, db, gen+rapid.IntRange(0, 1).Draw(t, "newer"))
			p.until(t, func() bool { return !slices.Contains(family(p.dir), before) }, "the process of the former worker lives on")
			return
		}
		p.carryOut(t, w, db, gen)
		now := p.pid(w)
		switch {
		case p.few || w.lane == "slow":
			return
		case w.unavailable:
			now = 0
		case now == 0: // its time was over while it waited for the process before
		case before > 0 && p.idle == forever && stays != (now == before):
			p.fail(t, "%+v ran in the process %d, and the one before it in %d", *w, now, before)
		case before > 0 && now != before && slices.Contains(family(p.dir), before):
			p.fail(t, "the process of the run before lives on")
		}
		before, stays = now, !w.unavailable && how != "daemons" && slices.Equal(hows[how], hows["fine"])
	}
	if stays && p.idle < forever {
		p.until(t, func() bool {
			text, _ := os.ReadFile(filepath.Join(p.dir, "sites", ".nexus", "fence", db+".gen"))
			return bytes.Contains(text, []byte(`"clean": true`))
		}, "it has not noted that it ended well")
	}
}

// elsewhere has another worker's runner carry out an operation.
func (p *parent) elsewhere(t *rapid.T, w *work, db string, gen int) {
	other := newParent(t, p.dir, false, forever)
	other.carryOut(t, other.add(w), db, gen)
	_ = other.in.Close()
	other.exit(t)
}

// carryOut sends an operation and waits for its end; one that hangs is canceled, or has not
// the time.
func (p *parent) carryOut(t *rapid.T, w *work, db string, gen int) {
	timeout := long
	if w.how == "hang" && rapid.Bool().Draw(t, "timed") {
		timeout, w.may = "0.3", append(w.may, "timeout")
	}
	p.send(t, w.line(db, gen, timeout))
	if w.how == "hang" && timeout == long {
		p.until(t, func() bool { return w.over || p.pid(w) > 0 }, "it does not begin")
		w.may = append(w.may, "canceled")
		p.send(t, fmt.Sprintf(`{"op":"cancel","id":%q}`, w.id)+"\n")
	}
	p.await(t, "its end", func(one *work) bool { return one != w || w.over })
}

// sessions begins more sessions than processes may wait: the first ones exit.
func (p *parent) sessions(t *rapid.T) {
	if p.few || p.idle < forever || p.free("fast") < 1 {
		t.Skip("none would wait")
	}
	var pids []int
	for range waiting + 2 {
		w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: "fine", lane: "fast", may: slices.Clone(hows["fine"]), must: true})
		p.carryOut(t, w, fmt.Sprintf("nxs%04d", len(p.order)), 7)
		pids = append(pids, p.pid(w))
	}
	// Operations that were asked for before may end meanwhile, and their processes wait, too.
	p.until(t, func() bool {
		family := family(p.dir)
		alive := func(pid int) bool { return slices.Contains(family, pid) }
		first := slices.IndexFunc(pids, alive)
		return first < 0 || first >= 2 && !slices.ContainsFunc(pids[first:], func(pid int) bool { return !alive(pid) })
	}, "other processes wait than the last ones")
}
