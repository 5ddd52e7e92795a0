package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	minis "github.com/alicebob/miniredis/v2/server"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// frame is one event or comment of a stream.
type frame struct{ id, event, data, comment string }

// parse reads one frame, strictly in the form in which the server writes it.
func parse(block string) (f frame, err error) {
	for line := range strings.SplitSeq(block, "\n") {
		name, text, ok := strings.Cut(line, ": ")
		into := map[string]*string{"id": &f.id, "event": &f.event, "data": &f.data, "": &f.comment}[name]
		if name == "retry" {
			into = new(string)
		}
		if !ok || into == nil || *into != "" || text == "" || strings.Contains(text, "\r") {
			return f, fmt.Errorf("not a line of an event: %q", line)
		}
		*into = text
	}
	event := f.event != "" && json.Valid([]byte(f.data)) && f.comment == "" && (f.id == "") == (f.event == "snapshot")
	if !event && f != (frame{comment: f.comment}) {
		return f, fmt.Errorf("neither an event nor a comment: %q", block)
	}
	return f, nil
}

// frames reads a whole stream: the snapshot, and then the events.
func frames(body string) (list []frame, err error) {
	blocks := strings.Split(body, "\n\n")
	if blocks[len(blocks)-1] != "" {
		return nil, fmt.Errorf("the stream breaks off: %q", body)
	}
	for _, block := range blocks[:len(blocks)-1] {
		f, err := parse(block)
		if err != nil {
			return nil, err
		}
		if f.comment == "" {
			list = append(list, f)
		}
	}
	if len(list) == 0 || list[0].event != "snapshot" || slices.ContainsFunc(list[1:], func(f frame) bool { return f.id == "" }) {
		return nil, fmt.Errorf("not one snapshot in front: %q", body)
	}
	return list, nil
}

// watch opens a job's stream.
func (s *server) watch(ctx context.Context, at, id string, headers ...string) openStream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // so that a stream that hangs fails
	s.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", at+"/jobs/"+id+"/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return openStream{s.t, response, bufio.NewReader(response.Body)}
}

// events reads a stream to its end, and checks it against the contract.
func (s *server) events(id string, headers ...string) []frame {
	s.t.Helper()
	stream := s.watch(s.t.Context(), s.http.URL, id, headers...)
	text, err := io.ReadAll(stream.b)
	if err != nil {
		s.t.Fatal(err)
	}
	s.hold(stream.Request, stream.Response, text)
	list, err := frames(string(text))
	if stream.StatusCode != 200 || err != nil {
		s.t.Fatalf("%d, %v", stream.StatusCode, err)
	}
	for i, f := range list {
		schema := "Event"
		if i == 0 {
			schema = "Job"
		}
		var data any
		_ = json.Unmarshal([]byte(f.data), &data)
		if err := s.doc.Components.Schemas[schema].Value.VisitJSON(data); err != nil {
			s.t.Errorf("%s breaks the contract: %v", f.data, err)
		}
	}
	return list
}

// openStream reads the frames of an open stream one by one.
type openStream struct {
	t *testing.T
	*http.Response
	b *bufio.Reader
}

func (r openStream) next() (f frame, ok bool) {
	r.t.Helper()
	var block strings.Builder
	for {
		line, err := r.b.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" && block.Len() == 0 {
			return f, false
		}
		if err != nil {
			r.t.Fatalf("the stream breaks off after %q: %v", block.String()+line, err)
		}
		if line == "\n" {
			f, err = parse(strings.TrimSuffix(block.String(), "\n"))
			if err != nil {
				r.t.Fatal(err)
			}
			return f, true
		}
		block.WriteString(line)
	}
}

// expect checks the next frame.
func (r openStream) expect(event, data string) frame {
	r.t.Helper()
	f, ok := r.next()
	if !ok || f.event != event || !strings.Contains(f.data, data) {
		r.t.Fatalf("%+v, %t; want %s with %s", f, ok, event, data)
	}
	return f
}

func (r openStream) end() {
	r.t.Helper()
	for { // comments may come before
		if f, ok := r.next(); !ok {
			return
		} else if f.comment == "" {
			r.t.Fatalf("more comes after the end: %+v", f)
		}
	}
}

// listen runs the store's subscription, as the API's process does.
func (s *server) listen() {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	var done sync.WaitGroup
	s.t.Cleanup(done.Wait)
	s.t.Cleanup(stop)
	done.Go(func() { _ = s.store.Listen(ctx) })
}

func (s *server) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			s.t.Fatalf("it does not come true: %s", what)
		case <-tick.C:
		}
	}
}

func (s *server) signup(name string) string {
	s.t.Helper()
	status, _, job := s.ask("POST", "/signup", signupBody(`{"subdomain":"`+name+`"}`))
	id, _ := job["jobId"].(string)
	if status != 202 || job["eventsUrl"] != "/jobs/"+id+"/events" {
		s.t.Fatalf("%d %v", status, job)
	}
	return id
}

// life is what happens to a job, step by step, and the event of each step.
func (s *server) life(id string) []func() (event, data string) {
	ctx := s.t.Context()
	var (
		lease *store.Lease
		job   nexus.Job
	)
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	journal := func(e nexus.Event) { _, err := lease.Checkpoint(ctx, &job, "", e); must(err) }
	take := func() (string, string) {
		now, err := s.store.Job(ctx, nexus.JobID(id))
		must(err)
		if now.Dispatch == now.Taken {
			now.Dispatch++ // as the due index does
			s.redis.HSet("{nexus}:job:"+id, "dispatch", strconv.FormatInt(now.Dispatch, 10))
		}
		lease, job, _, err = s.store.Take(ctx, now.ID, now.Dispatch, nil)
		must(err)
		return "state", `"state":"running"}`
	}
	return []func() (string, string){
		take,
		func() (string, string) {
			journal(nexus.Event{Step: "site", StepState: nexus.StepStarted, Attempt: 1})
			return "step", `"state":"running","step":"site","stepState":"started","attempt":1}`
		},
		func() (string, string) {
			journal(nexus.Event{Step: "site", Percent: 41, Note: "Updating\nDocTypes\r\x00\u2028"})
			return "progress", `"step":"site","percent":41,"note":"Updating\nDocTypes\r\u0000\u2028"}`
		},
		func() (string, string) {
			job.State, job.WaitingFor, job.WaitNote = nexus.Waiting, nexus.WaitRetry, "It rests."
			must(lease.Wait(ctx, &job, time.Second, nexus.Event{Step: "site", StepState: nexus.StepStarted, Note: "It rests."}))
			return "state", `"state":"waiting"`
		},
		take,
		func() (string, string) {
			_, err := s.store.Cancel(ctx, job.ID, "anna")
			must(err)
			return "state", `"state":"running","note":"cancel was asked"}`
		},
		func() (string, string) {
			job.State = nexus.RollingBack
			journal(nexus.Event{Step: "site", StepState: nexus.StepFailed, Note: "It was canceled."})
			return "step", `"state":"rolling_back","step":"site","stepState":"failed"`
		},
		func() (string, string) {
			job.State = nexus.RollbackFailed
			must(lease.Finish(ctx, &job, "", nexus.Event{Step: "site", Note: "It cannot be removed."}))
			return "state", `"state":"rollback_failed"`
		},
		func() (string, string) {
			_, err := s.store.Resume(ctx, job.ID, "anna")
			must(err)
			return "state", `"state":"rolling_back","note":"resumed"}`
		},
		func() (string, string) {
			take()
			job.State = nexus.Canceled
			must(lease.Finish(ctx, &job, "", nexus.Event{Note: "nothing was left behind"}))
			return "state", `"state":"canceled","note":"nothing was left behind"}`
		},
	}
}

// TestEventsOfALife: each event is sent at once, a parked job is not over, and the stream
// ends with the job. The heartbeat is an hour, so only a wake-up can be so fast.
func TestEventsOfALife(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Streams.Heartbeat = time.Hour })
	s.listen()
	id := s.signup("whole-life")
	stream := s.watch(t.Context(), s.http.URL, id)
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		if got := stream.Header.Get(name); got != want || stream.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	_, _, shown := s.ask("GET", "/jobs/"+id, "")
	var snapshot map[string]any
	if err := json.Unmarshal([]byte(stream.expect("snapshot", id).data), &snapshot); err != nil || fmt.Sprint(snapshot) != fmt.Sprint(shown) {
		t.Errorf("the snapshot is %v, the job %v, %v", snapshot, shown, err)
	}
	stream.expect("state", `"rev":1,`)
	for _, deed := range s.life(id) {
		event, data := deed()
		stream.expect(event, data)
	}
	stream.end()
}

// TestEventsReplay: a client with the events up to any one of them gets exactly the rest. A
// client with an unknown id gets all.
func TestEventsReplay(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	id := s.signup("replayed")
	for _, deed := range s.life(id) {
		deed()
	}
	whole := s.events(id)
	snapshot, all := whole[0], whole[1:]
	if len(all) != 11 || !strings.Contains(snapshot.data, `"state":"canceled"`) {
		t.Fatalf("%d events after %s", len(all), snapshot.data)
	}
	for i, f := range all {
		if f.id != strconv.Itoa(i+1) || !strings.HasPrefix(f.data, `{"rev":`+f.id+`,"at":"20`) {
			t.Errorf("event %d: %+v", i, f)
		}
		if i == len(all)-1 { // 204, since a browser would ask again for ever
			if status, _, _ := s.ask("GET", "/jobs/"+id+"/events", "", "Last-Event-ID", f.id); status != 204 {
				t.Errorf("after the last event: %d", status)
			}
			continue
		}
		rest := s.events(id, "Last-Event-ID", f.id)
		if got := slices.Concat(all[:i+1], rest[1:]); !slices.Equal(got, all) || rest[0] != snapshot {
			t.Errorf("split after %s: %+v", f.id, got)
		}
	}
	for _, unknown := range []string{"", "0", "12", "9223372036854775807", "9223372036854775808", "-1", "+3", "0x3", "3.0", "3e0", "3 4", "3,4", "1_0", "٣", "snapshot"} {
		if got := s.events(id, "Last-Event-ID", unknown); !slices.Equal(got, whole) {
			t.Errorf("after %q: %+v", unknown, got)
		}
	}
	// Trimmed events and expired jobs are gone.
	for left := range 3 {
		key := "{nexus}:events:" + id
		if err := s.rdb.XTrimMaxLen(t.Context(), key, int64(2-left)).Err(); err != nil {
			t.Fatal(err)
		}
		if got := s.events(id, "Last-Event-ID", "3"); !slices.Equal(got[1:], all[9+left:]) {
			t.Errorf("of the last %d: %+v", 2-left, got)
		}
	}
}

// TestEventsOfAnEndBetween: if a job ends after its record was read and before its events
// are read, the stream has all events to the end.
func TestEventsOfAnEndBetween(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	id := s.signup("between")
	var once sync.Once
	s.redis.Server().SetPreHook(func(_ *minis.Peer, command string, _ ...string) bool {
		if command == "XRANGE" {
			once.Do(func() { s.finish(id, nexus.Succeeded) })
		}
		return false
	})
	got := s.events(id)
	if len(got) != 4 || !strings.Contains(got[0].data, `"state":"queued"`) || !strings.Contains(got[3].data, `"state":"succeeded"`) {
		t.Errorf("%+v", got)
	}
}

// TestEventsKeepActors: only operators see the actors of events.
func TestEventsKeepActors(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	id := s.signup("who-asked")
	for _, deed := range s.life(id) {
		deed()
	}
	if got := fmt.Sprint(s.events(id)); strings.Contains(got, "anna") || strings.Contains(got, "signup") {
		t.Errorf("a caller with the id is told who asked: %s", got)
	}
	if got := fmt.Sprint(s.events(id, bearer(reader)...)); strings.Count(got, `"actor":"anna"`) != 2 || !strings.Contains(got, `"actor":"signup"`) {
		t.Errorf("an operator is not told who asked: %s", got)
	}
}

// TestEventsHeartbeat: a quiet stream sends comments, also after the server's deadlines,
// and an event is sent even if no wake-up arrives.
func TestEventsHeartbeat(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Streams.Heartbeat = 10 * time.Millisecond })
	strict := httptest.NewUnstartedServer(s.http.Config.Handler)
	strict.Config.WriteTimeout = 100 * time.Millisecond
	strict.Start()
	t.Cleanup(strict.Close)
	id := s.signup("quiet")
	began := time.Now()
	stream := s.watch(t.Context(), strict.URL, id)
	stream.expect("snapshot", id)
	stream.expect("state", `"state":"queued"`)
	for n := 0; n < 3 || time.Since(began) < 3*strict.Config.WriteTimeout; n++ {
		if f, ok := stream.next(); !ok || f.comment == "" {
			t.Fatalf("%+v, %t", f, ok)
		}
	}
	s.finish(id, nexus.Succeeded)
	for {
		f, ok := stream.next()
		if !ok {
			t.Fatal("the end was not told")
		}
		if strings.Contains(f.data, `"state":"succeeded"`) {
			break
		}
	}
	stream.end()
}

// TestEventsAreBounded: streams above the limit are refused, and one that ends, or whose
// client does not read, makes room for another.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) {
		o.Streams = api.Streams{Max: 1, Heartbeat: 10 * time.Millisecond, Patience: time.Second}
	})
	id := s.signup("bounded")
	room := func() bool {
		stream := s.watch(t.Context(), s.http.URL, id)
		_ = stream.Body.Close()
		return stream.StatusCode == 200
	}
	ctx, leave := context.WithCancel(t.Context())
	s.watch(ctx, s.http.URL, id).expect("snapshot", id)
	for range 2 {
		status, header, problem := s.ask("GET", "/jobs/"+id+"/events", "")
		if status != 503 || header.Get("Retry-After") != "10" || problem["code"] != "unavailable" || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("one too many: %d %v %v", status, header, problem)
		}
	}
	if status, _, _ := s.ask("GET", "/jobs/"+strings.Repeat("a", 32)+"/events", ""); status != 404 {
		t.Errorf("an unknown one, without room: %d", status)
	}
	leave()
	s.eventually("a client that left made room", room)

	lease, job, _, err := s.store.Take(t.Context(), nexus.JobID(id), 1, nil)
	for i := range 8 { // more than the buffers of both sockets
		if err == nil {
			_, err = lease.Checkpoint(t.Context(), &job, "", nexus.Event{Step: "site", Percent: i, Note: strings.Repeat("x", 1<<20)})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("the last one is gone", room)
	var stalled net.Conn
	s.eventually("the slow one has the place", func() bool {
		if stalled, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", s.http.Listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stalled.Close() })
		_ = stalled.(*net.TCPConn).SetReadBuffer(4096)
		_, _ = fmt.Fprintf(stalled, "GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n", id)
		first := make([]byte, len("HTTP/1.1 200"))
		_, err := io.ReadFull(stalled, first) // then the client stops reading
		return err == nil && string(first) == "HTTP/1.1 200"
	})
	s.eventually("a client that does not read made room", room)
}

// TestEventsOfOneClient: one client cannot use all streams, and the gauge counts the open
// ones.
func TestEventsOfOneClient(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Streams = api.Streams{Max: 3, Each: 2, Heartbeat: time.Hour} })
	id := s.signup("greedy")
	for range 2 {
		s.watch(t.Context(), s.http.URL, id).expect("snapshot", id)
	}
	status, header, problem := s.ask("GET", "/jobs/"+id+"/events", "")
	if status != 429 || header.Get("Retry-After") != "10" || problem["code"] != "limit" {
		t.Errorf("one too many of a client: %d %v %v", status, header, problem)
	}
	s.watch(t.Context(), s.http.URL, id, "Authorization", "Bearer "+reader).expect("snapshot", id)
	if status, _, _ := s.ask("GET", "/jobs/"+id+"/events", "", "Authorization", "Bearer "+reader); status != 503 {
		t.Errorf("one too many of all: %d", status)
	}
	_, _, text := s.text("GET", "/metrics", "", "")
	if !strings.Contains(text, "nexus_event_streams 3\n") {
		t.Error("the gauge does not show three")
	}
}

// TestEventsEndAtLeave: open streams do not keep a process from stopping, and they end
// properly, also if nothing was sent for a long time.
func TestEventsEndAtLeave(t *testing.T) {
	t.Parallel()
	leaving := make(chan struct{})
	s := newServer(t, func(o *api.Options) {
		o.Leaving, o.Streams = leaving, api.Streams{Heartbeat: time.Hour, Patience: time.Second}
	})
	id := s.signup("left")
	var streams []openStream
	for range 5 {
		stream := s.watch(t.Context(), s.http.URL, id)
		stream.expect("snapshot", id)
		stream.expect("state", `"rev":1,`)
		streams = append(streams, stream)
	}
	sent := time.Now()
	s.eventually("the time to take the last event is over", func() bool { return time.Since(sent) > 1100*time.Millisecond })
	close(leaving)
	for _, stream := range streams {
		stream.end()
	}
	if got := s.events(id, "Last-Event-ID", "1"); len(got) != 1 { // a later stream ends at once too
		t.Errorf("%+v", got)
	}
}

// TestEventsWithoutRegistry: while Redis does not answer, a stream is refused and an open
// one ends. The next one continues after the last event that was sent.
func TestEventsWithoutRegistry(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.Streams.Heartbeat = 10 * time.Millisecond })
	id := s.signup("outage")
	stream := s.watch(t.Context(), s.http.URL, id)
	stream.expect("snapshot", id)
	stream.expect("state", `"rev":1,`)
	s.redis.SetError("LOADING the server starts")
	stream.end()
	if status, header, _ := s.ask("GET", "/jobs/"+id+"/events", ""); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("with Redis away: %d", status)
	}
	s.redis.SetError("")
	s.finish(id, nexus.Succeeded)
	if got := s.events(id, "Last-Event-ID", "1"); len(got) != 3 || got[1].id != "2" || !strings.Contains(got[2].data, `"state":"succeeded"`) {
		t.Errorf("afterwards: %+v", got)
	}

	id = s.signup("failover") // Redis loses its last writes
	stream = s.watch(t.Context(), s.http.URL, id)
	stream.expect("snapshot", id)
	stream.expect("state", `"rev":1,`)
	s.redis.HSet("{nexus}:job:"+id, "rev", "0")
	stream.end()
}

// TestEventsByMethod: GET streams, HEAD only returns the headers.
func TestEventsByMethod(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.CORSOrigins = []string{"https://www.example.com"} })
	path := "/jobs/" + s.signup("by-method") + "/events"
	for method, want := range map[string]int{"HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405} {
		if status, header, _ := s.ask(method, path, ""); status != want || want == 200 && header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %d %v", method, status, header)
		}
	}
	if status, _, _ := s.ask("HEAD", "/jobs/none/events", ""); status != 404 {
		t.Errorf("HEAD of none: %d", status)
	}
	_, header, _ := s.ask("OPTIONS", path, "", "Origin", "https://www.example.com", "Access-Control-Request-Method", "GET",
		"Access-Control-Request-Headers", "Last-Event-ID")
	if header.Get("Access-Control-Allow-Origin") != "https://www.example.com" || !strings.Contains(header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("a page of another origin: %v", header)
	}
}
