package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const (
	pingEvery = 5 * time.Second
	// silence is how long the runner may send nothing before it counts as gone.
	silence = 15 * time.Second
	// cancelGrace is how long to wait for the answer of a canceled operation.
	cancelGrace = 5 * time.Second
	longestLine = 1 << 20
	// outagePause is the time until a bench that was away is tried again.
	outagePause = 5 * time.Second
)

// request is one operation on the wire.
type request struct {
	ID          string            `json:"id,omitempty"`
	Op          string            `json:"op"`
	Install     nexus.InstallID   `json:"install,omitempty"`
	Site        nexus.SiteName    `json:"site,omitempty"`
	Room        nexus.Room        `json:"room,omitempty"`
	DB          string            `json:"db,omitempty"`
	Owner       nexus.JobID       `json:"owner,omitempty"`
	Gen         string            `json:"gen,omitempty"` // text: JSON numbers are rounded by some readers
	Submitted   string            `json:"submitted,omitempty"`
	TimeoutS    float64           `json:"timeout_s,omitempty"`
	OutputLimit int64             `json:"output_limit,omitempty"`
	Args        any               `json:"args,omitempty"`
	Secrets     map[string]string `json:"secrets,omitempty"`
}

// frame is one line from the runner: an answer, an event of an operation, or
// one of the connection.
type frame struct {
	ID      string        `json:"id"`
	Event   string        `json:"event"`
	Message string        `json:"message"`
	Percent int           `json:"percent"`
	OK      bool          `json:"ok"`
	Result  *nexus.Result `json:"result"`
	Error   *struct {
		Code     nexus.Code `json:"code"`
		Message  string     `json:"message"`
		Detail   string     `json:"detail"`
		Seen     string     `json:"seen"`
		Unbegun  bool       `json:"unbegun"`
		Outdated bool       `json:"outdated"`
	} `json:"error"`
	nexus.HelloResult // of the hello event
}

// conn is one connection to a runner, shared by any number of operations.
type conn struct {
	rw    io.ReadWriteCloser
	log   *slog.Logger
	hello chan nexus.HelloResult // one value, once the runner is up
	done  chan struct{}          // closed when the connection is over

	mu      sync.Mutex
	next    int64
	open    map[string]*pendingOp
	heard   time.Time
	greeted bool      // the runner has said hello; before that it is silent, importing Frappe
	stuck   time.Time // when the write that is under way began; zero: none is
	why     error     // why the connection was closed
	writing sync.Mutex
	loops   sync.WaitGroup
}

type pendingOp struct {
	answer   frame         // valid once answered is closed
	answered chan struct{} // not a channel of frames: an answer that came is never lost to another case of a select
	progress func(string, int)
}

// newConn speaks with a runner over a byte stream; the caller has sent the
// program. The context is for the log only.
func newConn(ctx context.Context, rw io.ReadWriteCloser, log *slog.Logger) *conn {
	c := &conn{rw: rw, log: log, hello: make(chan nexus.HelloResult, 1), done: make(chan struct{}),
		open: map[string]*pendingOp{}, heard: time.Now()}
	c.loops.Go(func() { c.read(ctx) })
	c.loops.Go(func() { c.watch(ctx) })
	c.loops.Go(c.beat)
	return c
}

// close ends the connection and everything open on it; safe to call twice.
func (c *conn) close(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return
	}
	c.why = why
	_ = c.rw.Close() // it is over either way
	close(c.done)
}

// wait returns once the connection's goroutines are gone.
func (c *conn) wait() { c.loops.Wait() }

func (c *conn) read(ctx context.Context) {
	lines := bufio.NewReaderSize(c.rw, 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			c.close(fmt.Errorf("runner: %w", err))
			return
		}
		c.mu.Lock()
		c.heard = time.Now()
		c.mu.Unlock()
		var f frame
		if err := json.Unmarshal(line, &f); err != nil {
			if id := answered(line); id != "" {
				c.handle(frame{ID: id}) // its caller must not wait on
				continue
			}
			// Printed by something else; the other operations go on. The text is not
			// logged, since it may hold a secret.
			c.log.WarnContext(ctx, "junk from the runner skipped", "bytes", len(line))
			continue
		}
		c.handle(f)
	}
}

// answered returns the id of an answer whose other fields do not decode.
func answered(line []byte) string {
	var head struct {
		ID    string `json:"id"`
		Event string `json:"event"`
	}
	if json.Unmarshal(line, &head) != nil || head.Event != "" {
		return ""
	}
	return head.ID
}

// readLine reads up to a newline. A line that is too long becomes one that is no JSON,
// and does not end the connection.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) <= longestLine {
			line = append(line, part...)
		} else {
			line = append(line[:0], '!') // never JSON
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func (c *conn) handle(f frame) {
	switch {
	case f.Event == "hello":
		c.mu.Lock()
		c.greeted = true
		c.mu.Unlock()
		select {
		case c.hello <- f.HelloResult:
		default:
		}
		return
	case f.ID == "":
		return // ping and pong only show that the runner lives
	}
	c.mu.Lock()
	op := c.open[f.ID]
	if op != nil && f.Event == "" {
		delete(c.open, f.ID)
	}
	c.mu.Unlock()
	switch {
	case op == nil: // its caller is gone
	case f.Event == "":
		op.answer = f
		close(op.answered)
	case op.progress != nil:
		op.progress(f.Message, f.Percent)
	}
}

// watch closes the connection when the runner sends nothing, or does not read. It never
// writes, so it cannot block.
func (c *conn) watch(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		quiet, stuck, greeted := time.Since(c.heard), !c.stuck.IsZero() && time.Since(c.stuck) > silence, c.greeted
		c.mu.Unlock()
		if greeted && quiet > silence || stuck {
			c.log.WarnContext(ctx, "runner is silent, connection closed", "for", quiet.String(), "reads", !stuck)
			c.close(errors.New("runner: silent too long"))
			return
		}
	}
}

// beat sends a ping at intervals, so that the runner knows that we live.
func (c *conn) beat() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		if err := c.write(request{Op: "ping"}); err != nil {
			c.close(err)
			return
		}
	}
}

func (c *conn) write(r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.begun(time.Now())
	defer c.begun(time.Time{})
	if _, err := c.rw.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	return nil
}

func (c *conn) begun(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = at
}

// run sends one operation and waits for its answer. When the context ends it cancels
// the operation and waits a little for the answer, which tells how it really ended.
func (c *conn) run(ctx context.Context, op nexus.Op, r request) (nexus.Result, error) {
	pending := &pendingOp{answered: make(chan struct{}), progress: op.Progress}
	c.mu.Lock()
	c.next++
	r.ID = strconv.FormatInt(c.next, 10)
	c.open[r.ID] = pending
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, r.ID)
	}()
	if err := c.write(r); err != nil {
		c.close(err)
	}
	select {
	case <-pending.answered:
	case <-c.done:
	case <-ctx.Done():
		c.cancel(r.ID, pending)
	}
	select {
	case <-pending.answered:
		if pending.answer.OK || ctx.Err() == nil { // it may have succeeded before the cancel arrived
			return result(op, pending.answer)
		}
	default:
	}
	if ctx.Err() == nil {
		return nexus.Result{}, c.lost(op)
	}
	return nexus.Result{}, ended(ctx, op)
}

// cancel ends an operation at the runner, and waits a little for its answer.
func (c *conn) cancel(id string, pending *pendingOp) {
	if err := c.write(request{Op: "cancel", ID: id}); err != nil {
		c.close(err)
	}
	grace := time.NewTimer(cancelGrace)
	defer grace.Stop()
	select {
	case <-pending.answered:
	case <-c.done:
	case <-grace.C:
	}
}

// lost is the error of an operation whose connection was lost. Its outcome is unknown;
// the next attempt looks at the bench.
func (c *conn) lost(op nexus.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &nexus.Error{Code: nexus.Unavailable, Op: "bench." + string(op.Args.Op()), Wait: nexus.WaitBench,
		Msg: "The connection to the bench was lost; it is tried again.", Err: c.why}
}

// result converts an answer frame.
func result(op nexus.Op, f frame) (nexus.Result, error) {
	if f.OK {
		if f.Result == nil {
			return nexus.Result{}, nil
		}
		return *f.Result, nil
	}
	e := &nexus.Error{Code: nexus.Internal, Op: "bench." + string(op.Args.Op()), Msg: "The bench gave an answer that is not understood."}
	if f.Error != nil {
		if f.Error.Code != "" {
			e.Code, e.Msg = f.Error.Code, f.Error.Message
		}
		if f.Error.Detail != "" {
			e.Err = errors.New(f.Error.Detail)
		}
		seen, _ := strconv.ParseInt(f.Error.Seen, 10, 64) // absent: 0
		e.Seen, e.Outdated = nexus.Gen(seen), f.Error.Outdated
	}
	if e.Code == nexus.Unavailable {
		e.Wait = nexus.WaitBench
		if f.Error != nil && f.Error.Unbegun {
			e.Unbegun, e.RetryAfter = true, outagePause
		}
	}
	return nexus.Result{}, e
}
