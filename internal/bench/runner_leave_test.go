//go:build service

package bench_test

import (
	"fmt"
	"syscall"
	"time"

	"pgregory.net/rapid"
)

// drain cancels all operations: each must be answered, and leave no process.
func (p *parent) drain(t *rapid.T) {
	p.await(t, "what ends by itself", func(w *work) bool { return w.over || !w.must })
	for lane := range p.limits {
		p.until(t, func() bool { _, stands := p.busy(lane); return !stands }, "the lane "+lane+" stands still")
	}
	p.check(t)
	for _, id := range p.order {
		if w := p.works[id]; !w.over {
			w.may = append(w.may, "canceled")
			p.send(t, fmt.Sprintf(`{"op":"cancel","id":%q}`, id)+"\n")
		}
	}
	p.ping(t)
	p.await(t, "all to end", func(w *work) bool { return w.over })
	if p.idle < forever {
		p.alone(t, 1)
	}
}

// until waits for a condition that no line tells of.
func (p *parent) until(t *rapid.T, ok func() bool, orelse string) {
	for limit, ping := time.Now().Add(3*time.Minute), time.Now().Add(5*time.Second); !ok(); {
		if time.Now().After(limit) {
			p.fail(t, "%s", orelse)
		}
		if time.Now().After(ping) && !p.left {
			p.ping(t) // after 20 s of silence it leaves
			ping = time.Now().Add(5 * time.Second)
		}
		<-time.After(5 * time.Millisecond)
		if !p.closed {
			p.listen(t, time.Millisecond, func() bool { return false })
		}
	}
}

// alone waits until a number of its processes is left.
func (p *parent) alone(t *rapid.T, want int) {
	p.until(t, func() bool { return len(family(p.dir)) == want }, "processes live on")
}

// leave ends the runner's input, or sends it SIGTERM, whatever is under way.
func (p *parent) leave(t *rapid.T) {
	drained := rapid.Bool().Draw(t, "drained")
	if drained {
		p.drain(t)
	} else if rapid.Bool().Draw(t, "killed") { // a kill whose end the runner has not seen
		p.await(t, "twins to be refused", func(*work) bool { return true })
		for _, w := range p.works {
			if w.hangs() && p.pid(w) > 0 {
				_ = syscall.Kill(p.pid(w), syscall.SIGKILL)
				w.may = []string{"unavailable"}
			}
		}
	}
	if rapid.Bool().Draw(t, "begins") { // operations are running at the end
		for range 3 {
			w := p.add(&work{id: fmt.Sprintf("w%d", len(p.order)), how: rapid.SampledFrom([]string{"nest", "daemons"}).Draw(t, "how"), may: []string{"ok"}})
			p.send(t, w.line("nxlast", 7, long))
		}
		p.ping(t)
		p.await(t, "them to begin", func(*work) bool { return true })
	}
	p.left = true
	if rapid.Bool().Draw(t, "told to") {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	} else {
		_ = p.in.Close()
	}
	p.exit(t)
	p.alone(t, 0)
	if !p.listen(t, 2*time.Minute, func() bool { return p.closed }) || drained && len(p.part) > 0 {
		t.Fatalf("its last word is %.200q", p.part)
	}
}

// exit waits for the runner's exit.
func (p *parent) exit(t *rapid.T) {
	select {
	case <-p.gone:
		if p.err != nil {
			t.Fatal(p.err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it does not leave")
	}
}
