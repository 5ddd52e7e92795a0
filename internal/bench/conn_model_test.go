package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// call is one operation as the model knows it.
type call struct {
	site   nexus.SiteName // tells it from all others, on the wire too
	id     string
	end    context.CancelCauseFunc
	out    chan outcome
	got    string // how it ended; empty: it has not ended
	may    []string
	told   []string
	tells  []string // what it must have been told
	listen bool

	deadline time.Time // of its context; zero: none
	ended    time.Time // when its context did
	word     string    // its result if the runner does not answer
	// How many cancels the runner must and may see, and has seen.
	least, most, cancels int
}

// calls models a connection and the runner at its other end: what each caller must get,
// given the lines sent, the contexts that ended and the end of the stream.
type calls struct {
	t      *testing.T
	rt     *rapid.T
	driver *bench.Docker
	conn   bench.Conn
	pipe   net.Conn
	stream *halfBroken
	sent   chan map[string]any
	begun  time.Time
	heard  time.Time
	over   string // why no operation can be started any more; empty: it can
	all    []*call
	half   func() // sends the rest of a line that was begun
	serial int
}

// halfBroken is a stream that can be read, and whose writes may fail or take long.
type halfBroken struct {
	net.Conn
	deaf atomic.Bool
	slow atomic.Pointer[chan struct{}] // a write returns when that is closed; nil: at once
}

func (h *halfBroken) Write(p []byte) (int, error) {
	if h.deaf.Load() {
		return 0, errors.New("broken pipe")
	}
	n, err := h.Conn.Write(p)
	if wait := h.slow.Load(); wait != nil {
		<-*wait
	}
	return n, err
}

const (
	lostWord  = "unavailable The connection to the bench was lost; it is tried again."
	vagueWord = "internal The bench gave an answer that is not understood."
	endedWord = " The operation was ended before it was done."
)

// word returns an outcome as one line, to compare with the model's.
func (o outcome) word() string {
	if o.err == nil {
		return "ok " + o.result.Note
	}
	e, ok := errors.AsType[*nexus.Error](o.err)
	if !ok {
		return o.err.Error()
	}
	return string(e.Code) + " " + e.Msg
}

func newCalls(t *testing.T, rt *rapid.T) *calls {
	ours, theirs := net.Pipe()
	stream := &halfBroken{Conn: ours}
	m := &calls{t: t, rt: rt, pipe: theirs, stream: stream, sent: make(chan map[string]any, 1000), begun: time.Now(), heard: time.Now()}
	var err error
	m.driver, m.conn, err = bench.Attach(t.Context(), bench.DockerOptions{Service: "none", Log: slog.New(slog.DiscardHandler)}, stream, false)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(theirs); lines.Scan(); {
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				line = map[string]any{"op": "junk " + lines.Text()}
			}
			m.sent <- line
		}
	}()
	<-time.After(300 * time.Millisecond) // so that no action is at the time of a tick
	return m
}

// finish ends everything, also in the middle of a failure.
func (m *calls) finish() {
	if wait := m.stream.slow.Swap(nil); wait != nil {
		close(*wait)
	}
	_ = m.pipe.Close()
	_ = m.driver.Close()
	synctest.Wait()
	for _, c := range m.all {
		c.end(nexus.ErrCanceled)
	}
}

// is sets the expected outcome of c, if it has none yet.
func (c *call) is(word string) {
	if c.may == nil {
		c.may = []string{word}
	}
}

// contextEnds updates the model when a context ends.
func (m *calls) contextEnds(c *call, code nexus.Code) {
	if c.may != nil || !c.ended.IsZero() {
		return
	}
	c.ended, c.word = time.Now(), string(code)+endedWord
	if m.over == "" && !m.stream.deaf.Load() {
		c.least, c.most = 1, 1
	}
	m.wrote()
}

// wrote updates the model when the worker has written something.
func (m *calls) wrote() {
	if m.stream.deaf.Load() {
		m.lose("the stream is broken")
	}
}

func (m *calls) lose(why string) {
	if m.over == "" {
		m.over = why
	}
	for _, c := range m.all {
		if c.ended.IsZero() {
			c.is(lostWord)
		} else {
			c.is(c.word)
		}
	}
}

// second lets one second pass, for deadlines, awaited answers and silence.
func (m *calls) second(t *rapid.T) {
	before := time.Now()
	<-time.After(time.Second)
	synctest.Wait()
	if tick := m.begun.Add(time.Since(m.begun).Truncate(5 * time.Second)); tick.After(before) && m.over == "" {
		m.wrote() // a ping
		if tick.Sub(m.heard) > 15*time.Second {
			m.lose("silence")
		}
	}
	for _, c := range slices.Backward(m.all) { // as their deadlines are ordered within a second
		if !c.deadline.IsZero() && !c.deadline.After(time.Now()) {
			m.contextEnds(c, nexus.Timeout)
		}
		if !c.ended.IsZero() && time.Since(c.ended) >= 5*time.Second {
			c.is(c.word)
		}
	}
	m.check(t)
}

// ask starts operations at once, some with a context that will end or has ended.
func (m *calls) ask(t *rapid.T) {
	if m.over != "" && m.over != "closed" {
		t.Skip("the next one would look for a container")
	}
	most := 4
	if m.stream.deaf.Load() {
		most = 1 // it ends the stream
	}
	for range rapid.IntRange(1, most).Draw(t, "operations") {
		m.one(t)
	}
}

// one starts one operation.
func (m *calls) one(t *rapid.T) *call {
	ctx, end := context.WithCancelCause(m.t.Context())
	c := &call{site: nexus.SiteName(fmt.Sprintf("s%d.localhost", len(m.all))), end: end, out: make(chan outcome, 1), listen: rapid.Bool().Draw(t, "listens")}
	m.all = append(m.all, c)
	if m.over != "" {
		c.is("unavailable The bench's driver is closed.")
	}
	switch after := rapid.IntRange(-3, 6).Draw(t, "deadline"); {
	case after == 0:
		end(nexus.ErrCanceled)
		m.contextEnds(c, nexus.CodeCanceled)
	case after > 0:
		c.deadline = time.Now().Add(time.Duration(after)*time.Second - time.Duration(len(m.all))*time.Millisecond) // no two at once
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
		c.end = func(cause error) { end(cause); cancel() }
	}
	m.wrote()
	op := nexus.Op{Site: c.site, DB: "nx" + string(c.site), Owner: "job", Gen: 7, Args: nexus.Inspect{}}
	if c.listen {
		op.Progress = func(message string, percent int) { c.told = append(c.told, fmt.Sprint(message, percent)) }
	}
	go func() {
		result, err := m.driver.Run(ctx, op)
		c.out <- outcome{result: result, err: err}
	}()
	return c
}

// target draws an operation's id, or one that does not exist.
func (m *calls) target(t *rapid.T) (*call, string) {
	i := rapid.IntRange(-1, len(m.all)-1).Draw(t, "of operation")
	if i < 0 || m.all[i].id == "" {
		return nil, rapid.SampledFrom([]string{"0", "-1", "007", "1 ", "99999", "nobody"}).Draw(t, "id")
	}
	return m.all[i], m.all[i].id
}

// answer draws an answer, and updates the model.
func (m *calls) answer(t *rapid.T) (line string, heard func()) {
	c, id := m.target(t)
	return m.answerOf(t, c, id)
}

func (m *calls) answerOf(t *rapid.T, c *call, id string) (line string, heard func()) {
	m.serial++
	note, word := fmt.Sprintf("n%d", m.serial), vagueWord
	switch kind := rapid.IntRange(0, 8).Draw(t, "kind"); kind {
	case 0:
		line, word = `"ok":true`, "ok "
	case 1:
		line, word = fmt.Sprintf(`"ok":true,"result":{"note":%q},"event":""`, note), "ok "+note
	case 2, 3:
		line, word = fmt.Sprintf(`"result":{"note":%q},"ok":true`, note), "ok "+note
	case 4:
		line = `"ok":false`
	case 5:
		line = rapid.SampledFrom([]string{`"ok":"yes"`, `"ok":true,"result":7`, `"error":[]`, `"ok":false,"error":{"code":7}`, `"percent":0.5`}).Draw(t, "other types")
	default:
		code := rapid.SampledFrom([]string{"conflict", "unavailable", "canceled", "timeout", "fenced"}).Draw(t, "code")
		line, word = fmt.Sprintf(`"ok":false,"error":{"code":%q,"message":%q}`, code, note), code+" "+note
	}
	line = fmt.Sprintf(`{"id":%q,%s}`, id, line) + "\n"
	const longest = 1 << 20
	pad := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, longest, longest + 1, 2 * longest}).Draw(t, "size")
	line = strings.Repeat(" ", max(0, pad-len(line))) + line
	return line, func() {
		switch {
		case c == nil || pad > longest: // an answer with an unknown id, or junk
		case c.ended.IsZero() || strings.HasPrefix(word, "ok "):
			c.is(word)
		default:
			c.is(c.word)
		}
	}
}

func (m *calls) progress(t *rapid.T) (line string, heard func()) {
	c, id := m.target(t)
	m.serial++
	text, percent := fmt.Sprintf("p%d ", m.serial), rapid.IntRange(-1, 100).Draw(t, "percent")
	return fmt.Sprintf(`{"id":%q,"event":"progress","message":%q,"percent":%d}`, id, text, percent) + "\n", func() {
		if c != nil && c.may == nil && c.listen {
			c.tells = append(c.tells, fmt.Sprint(text, percent))
		}
	}
}

func (m *calls) noise(t *rapid.T) (line string, heard func()) {
	return rapid.SampledFrom([]string{`{"event":"ping"}`, `{"event":"pong"}`, `{"event":"junk"}`, `{"event":"hello","protocol":7}`, "", "\r", "Updating DocTypes", "[1]", "null", "{}",
		`{"id":1,"ok":true}`, `{"id":["1"],"ok":true}`, `{"id":"1","event":"progress","percent":"x"}`, `{"id":"1","ok":tr`, "\x00\xff{", strings.Repeat("[", 20_000),
		strings.Repeat("x", 1<<20)}).Draw(t, "noise") + "\n", func() {}
}

// line draws any line that the runner may send.
func (m *calls) line(t *rapid.T) (string, func()) {
	return []func(*rapid.T) (string, func()){m.answer, m.answer, m.answer, m.progress, m.noise}[rapid.IntRange(0, 4).Draw(t, "what")](t)
}

// say sends lines at once, in pieces cut anywhere, after a line that was begun.
func (m *calls) say(t *rapid.T, what func(*rapid.T) (string, func())) {
	m.speaks(t)
	var text string
	var all []func()
	for range rapid.IntRange(1, 3).Draw(t, "lines") {
		line, heard := what(t)
		text, all = text+line, append(all, heard)
	}
	for range rapid.IntRange(0, 2).Draw(t, "cuts") {
		at := rapid.IntRange(0, min(len(text)-1, 300)).Draw(t, "cut")
		m.write(text[:at])
		synctest.Wait()
		text = text[at:]
	}
	m.write(text)
	for _, heard := range all {
		heard()
	}
	m.heard = time.Now()
}

// speaks ends a line that was begun; it skips the action if the connection is closed.
func (m *calls) speaks(t *rapid.T) {
	if m.over != "" {
		t.Skip("the stream is over")
	}
	if rest := m.half; rest != nil {
		m.half = nil
		rest()
	}
}

func (m *calls) write(text string) {
	if _, err := io.WriteString(m.pipe, text); err != nil {
		m.rt.Fatalf("the connection takes nothing in: %v", err)
	}
}

// begin sends the first part of a line; the rest comes with the next line.
func (m *calls) begin(t *rapid.T) {
	m.speaks(t)
	line, heard := m.line(t)
	at := rapid.IntRange(0, len(line)-1).Draw(t, "cut")
	m.write(line[:at])
	m.half = func() {
		m.write(line[at:])
		heard()
		m.heard = time.Now()
		synctest.Wait()
	}
}

// going draws an operation that has not ended.
func (m *calls) going(t *rapid.T) *call {
	var open []int
	for i, c := range m.all {
		if c.may == nil {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		t.Skip("none goes on")
	}
	return m.all[rapid.SampledFrom(open).Draw(t, "operation")]
}

func (m *calls) cancel(t *rapid.T) {
	c := m.going(t)
	code := rapid.SampledFrom([]nexus.Code{nexus.CodeCanceled, nexus.Timeout}).Draw(t, "code")
	c.end(map[nexus.Code]error{nexus.CodeCanceled: nexus.ErrCanceled, nexus.Timeout: nexus.ErrStepTimeout}[code])
	m.contextEnds(c, code)
}

// race ends a context and sends an answer at the same moment: either outcome is right,
// with or without a cancel.
func (m *calls) race(t *rapid.T) {
	c := m.going(t)
	if m.stream.deaf.Load() {
		t.Skip("a cancel would end the stream")
	}
	m.speaks(t)
	fresh := c.ended.IsZero()
	line, heard := m.answer(t)
	c.end(nexus.ErrCanceled)
	m.write(line)
	heard()
	m.heard = time.Now()
	synctest.Wait()
	switch said := c.may; {
	case !fresh:
	case said == nil: // the answer was another's, or junk
		m.contextEnds(c, nexus.CodeCanceled)
	default:
		c.most = 1
		if !strings.HasPrefix(said[0], "ok ") {
			c.may = append(said, "canceled"+endedWord)
		}
	}
}

// sudden answers an operation, ends its context and cuts the stream, or some of these,
// while its request is still being written: the answer counts.
func (m *calls) sudden(t *rapid.T) {
	if m.over != "" || m.stream.deaf.Load() {
		t.Skip("the stream is over")
	}
	m.speaks(t)
	returns := make(chan struct{})
	m.stream.slow.Store(&returns)
	c := m.one(t)
	c.least = 0
	m.check(t)
	if c.ended.IsZero() && rapid.Bool().Draw(t, "canceled") {
		c.end(nexus.ErrCanceled)
		m.contextEnds(c, nexus.CodeCanceled)
	}
	c.least = 0
	line, heard := m.answerOf(t, c, c.id)
	m.write(line)
	heard()
	m.heard = time.Now()
	if rapid.Bool().Draw(t, "cut") {
		_ = m.pipe.Close()
		m.lose("the runner left")
	}
	synctest.Wait()
	close(*m.stream.slow.Swap(nil))
}

// cut ends the stream, in the middle of a line or right after an answer, which still
// counts.
func (m *calls) cut(t *rapid.T) {
	m.speaks(t)
	if rapid.Bool().Draw(t, "by the driver") {
		_ = m.driver.Close()
		m.lose("closed")
		return
	}
	for range rapid.IntRange(0, 2).Draw(t, "last words") {
		line, heard := m.line(t)
		m.write(line)
		heard()
	}
	_ = m.pipe.Close()
	m.lose("the runner left")
}

// check compares, after every action, what the runner was sent and what callers got.
func (m *calls) check(t *rapid.T) {
	synctest.Wait()
	for len(m.sent) > 0 {
		line := <-m.sent
		id, _ := line["id"].(string)
		same := func(c *call) bool { return c.id == id }
		switch op := line["op"]; op {
		case "ping":
		case "cancel":
			i := slices.IndexFunc(m.all, same)
			if i < 0 || id == "" {
				t.Fatalf("canceled what was never asked: %v", line)
			}
			m.all[i].cancels++
		default:
			i := slices.IndexFunc(m.all, func(c *call) bool { return line["site"] == string(c.site) })
			if op != "inspect" || id == "" || slices.ContainsFunc(m.all, same) || i < 0 || m.all[i].id != "" {
				t.Fatalf("sent %v", line)
			}
			m.all[i].id = id
		}
	}
	for i, c := range m.all {
		select {
		case got := <-c.out:
			c.got = got.word()
		default:
		}
		switch {
		case (c.got == "") != (c.may == nil) || c.may != nil && !slices.Contains(c.may, c.got):
			t.Fatalf("operation %d got %q, the model says one of %q", i, c.got, c.may)
		case c.cancels < c.least || c.cancels > c.most:
			t.Fatalf("operation %d (%q) was canceled %d times, the model says %d to %d", i, c.got, c.cancels, c.least, c.most)
		case !slices.Equal(c.told, c.tells):
			t.Fatalf("operation %d was told %q, the model says %q", i, c.told, c.tells)
		}
	}
	select {
	case <-m.conn.Done():
		if m.over == "" {
			t.Fatal("the connection was given up")
		}
	default:
		if m.over != "" {
			t.Fatalf("the connection lives on: %s", m.over)
		}
	}
}

// TestConnModel drives a connection with many operations and a runner that does anything:
// it answers in any order, twice, with unknown ids, late, in pieces, with lines that are
// too long, among junk. Contexts end, and so does the stream. Each caller must get what
// the model says.
func TestConnModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var failed any // a panic of rapid, which is passed on outside the synctest bubble
		synctest.Test(t, func(t *testing.T) {
			m := newCalls(t, rt)
			defer func() { failed = recover() }()
			defer m.finish()
			rt.Repeat(map[string]func(*rapid.T){
				"ask": m.ask, "ask more": m.ask, "begin a line": m.begin, "cancel": m.cancel, "cut": m.cut, "race": m.race, "sudden": m.sudden, "": m.check,
				"say": func(t *rapid.T) { m.say(t, m.line) }, "answer": func(t *rapid.T) { m.say(t, m.answer) },
				"clock": func(t *rapid.T) {
					for range rapid.IntRange(1, 8).Draw(t, "seconds") {
						m.second(t)
					}
				},
				"write fails": func(*rapid.T) { m.stream.deaf.Store(true) },
			})
			m.finish()
			m.conn.Wait()
			m.lose("finished")
			m.check(rt)
		})
		if failed != nil && rt.Failed() { // a separate line, since rapid distinguishes failures by their position
			panic(failed)
		} else if failed != nil {
			panic(failed)
		}
	})
}
