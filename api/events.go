package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// Streams are the limits of event streams.
type Streams struct {
	Max       int           // open at once in this process; 0: 1000
	Each      int           // of them by one client (a token, else an address); 0: 200
	Heartbeat time.Duration // between two comments while nothing happens; 0: 15 s
	Patience  time.Duration // for a client to read what is sent; 0: 10 s
}

func (s Streams) withDefaults() Streams {
	return Streams{Max: cmp.Or(s.Max, 1000), Each: cmp.Or(s.Each, 200), Heartbeat: cmp.Or(s.Heartbeat, 15*time.Second), Patience: cmp.Or(s.Patience, 10*time.Second)}
}

// openStreams counts the open streams, in all and by client.
type openStreams struct {
	mu    sync.Mutex
	all   int
	by    map[string]int
	gauge prometheus.Gauge
}

func newOpenStreams(reg prometheus.Registerer) *openStreams {
	o := &openStreams{by: map[string]int{}, gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexus_event_streams",
		Help: "Event streams that are open at this API."})}
	reg.MustRegister(o.gauge)
	return o
}

// enter counts a client's stream, or refuses it.
func (o *openStreams) enter(client string, bounds Streams) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.all >= bounds.Max:
		return &nexus.Error{Code: nexus.Unavailable, Op: "api.events", RetryAfter: 10 * time.Second,
			Msg: "Too many are watching jobs just now; please try again in a moment, or ask for the job without its events."}
	case o.by[client] >= bounds.Each:
		return &nexus.Error{Code: nexus.Limit, Op: "api.events", RetryAfter: 10 * time.Second,
			Msg: "You are watching too many jobs at once; end some of these streams, or ask for the job without its events."}
	}
	o.all++
	o.by[client]++
	o.gauge.Set(float64(o.all))
	return nil
}

func (o *openStreams) leave(client string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	if o.by[client]--; o.by[client] == 0 {
		delete(o.by, client)
	}
	o.gauge.Set(float64(o.all))
}

// JobEvents streams a job's events until it is over, to anybody who knows its id.
func (s *Server) JobEvents(c echo.Context, id gen.JobID, params gen.JobEventsParams) error {
	actor, refused := s.need(c, ScopeRead)
	key := shownKey{nexus.JobID(id), refused == nil}
	shown, err := s.show(c.Request().Context(), key)
	if err != nil {
		return err
	}
	if shown.over && value(params.LastEventID) == strconv.FormatInt(shown.version.Rev, 10) {
		return c.NoContent(http.StatusNoContent) // an EventSource asks again after the end of a stream, but not after 204
	}
	client := "address " + network(c.RealIP())
	if refused == nil {
		client = "token " + actor
	}
	if err := s.streams.enter(client, s.Streams); err != nil {
		return err
	}
	defer s.streams.leave(client)
	after := seen(value(params.LastEventID), shown.version.Rev)
	events, err := s.Store.Events(c.Request().Context(), key.id, after)
	if err != nil {
		return err
	}
	out := s.openStream(c)
	defer out.allow() // for the end of the answer
	if c.Request().Method != http.MethodHead && out.send("retry: 2000\nevent: snapshot\ndata: "+string(shown.body)+"\n\n") == nil {
		s.follow(c.Request().Context(), out, key, shown, events)
	}
	return nil // an error could not be sent any more
}

// follow sends the given events and then each new one, until the job is over, the client
// disconnects, this process stops, or the store does not answer. A client then asks again
// with the id of the last event it has.
func (s *Server) follow(ctx context.Context, out stream, key shownKey, shown shownJob, events []nexus.Event) {
	rev, over := shown.version.Rev, shown.over
	for {
		for _, e := range events {
			if !key.operator {
				e.Actor = ""
			}
			if out.event(e) != nil {
				return
			}
			rev = max(rev, e.Rev) // it may be newer than the record
		}
		if over {
			return
		}
		var err error
		if events, rev, over, err = s.changed(ctx, out, key.id, rev); err != nil {
			return
		}
	}
}

// errLeaving ends a stream when the process stops.
var errLeaving = errors.New("api: this process stops")

// changed waits until a job has a later rev than the given one or is over, and sends
// comments meanwhile. It returns the events since, the new rev, and whether the job is
// over.
func (s *Server) changed(ctx context.Context, out stream, id nexus.JobID, rev int64) ([]nexus.Event, int64, bool, error) {
	for {
		job, events, err := s.Store.Follow(ctx, id, rev, store.Patience{For: s.Streams.Heartbeat, Left: s.Leaving})
		switch {
		case err != nil || ctx.Err() != nil:
			return nil, rev, false, cmp.Or(err, ctx.Err())
		case job.Rev < rev: // Redis lost its last writes: the client has events that are gone
			return nil, rev, false, fmt.Errorf("rev %d after %d", job.Rev, rev)
		case job.Rev > rev || job.State.Terminal():
			return events, job.Rev, job.State.Terminal(), nil
		case s.leaving():
			return nil, rev, false, errLeaving
		}
		if err := out.send(": nothing new\n\n"); err != nil {
			return nil, rev, false, err
		}
	}
}

// leaving reports whether this process stops.
func (s *Server) leaving() bool {
	select {
	case <-s.Leaving:
		return true
	default:
		return false
	}
}

// seen parses a Last-Event-ID. It returns zero, which means all events, if the text is not
// a rev of this job.
func seen(text string, newest int64) int64 {
	rev, err := strconv.ParseInt(text, 10, 64)
	if err != nil || text[0] == '+' || rev < 0 || rev > newest {
		return 0
	}
	return rev
}

// stream writes an answer of Server-Sent Events.
type stream struct {
	to       *echo.Response
	control  *http.ResponseController
	patience time.Duration
}

func (s *Server) openStream(c echo.Context) stream {
	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx must not buffer events
	h.Set("Connection", "close")     // the next answer must not have this one's write deadline
	c.Response().WriteHeader(http.StatusOK)
	// Not from c.Response(), whose Flush hides errors.
	return stream{to: c.Response(), control: http.NewResponseController(c.Response().Writer), patience: s.Streams.Patience}
}

// event sends one event. Its type is state if no step runs: the job begins, waits, is over,
// or a person asked for something. JSON has no line breaks.
func (s stream) event(e nexus.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	kind := "progress"
	switch {
	case e.Step == "" || e.State != nexus.Running && e.State != nexus.RollingBack:
		kind = "state"
	case e.StepState != "":
		kind = "step"
	}
	return s.send(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Rev, kind, data))
}

// send sends and flushes a text. It fails if the client does not read.
func (s stream) send(text string) error {
	s.allow()
	if _, err := io.WriteString(s.to, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// allow sets the deadline for what is sent next.
func (s stream) allow() {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) // fails only for connections of tests
}
