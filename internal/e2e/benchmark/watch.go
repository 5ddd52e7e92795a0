package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// watchedJobs is how many jobs are watched. Each of their steps takes watchedDelay, so that
// the events do not come all at once.
const (
	watchedJobs  = 100
	watchedDelay = 300 * time.Millisecond
)

// watching is the result of the watchers of one run.
type watching struct {
	late   []float64     // from each event's time to its arrival, ms
	memory float64       // KB of the server's memory for one more watcher
	took   time.Duration // from the first event to the last
}

// watched lets many clients watch jobs by Server-Sent Events, and times each event from the
// write in Redis to its arrival. The peer is an Echo handler that forwards the messages of
// one Redis subscription: the same number of events and clients, in the same time.
func watched(ctx context.Context, s *stack) ([]row, error) {
	// This worker would take jobs from the slower one that watchJobs starts.
	if err := s.worker.end(10 * time.Second); err != nil {
		return nil, err
	}
	env := append(s.env[:len(s.env):len(s.env)], fmt.Sprintf("NEXUS_EVENT_STREAMS=%d", s.watchers), "NEXUS_TRUSTED_PROXIES=127.0.0.1")
	var p99, memory [2][]float64 // ours, the peer's
	for i := range s.runs {
		ours, err := s.watchJobs(ctx, env, i)
		if err != nil {
			return nil, err
		}
		theirs, err := s.watchPeer(ctx, ours, i)
		if err != nil {
			return nil, err
		}
		for k, w := range []watching{ours, theirs} {
			p99[k], memory[k] = append(p99[k], quantile(w.late, 0.99)), append(memory[k], w.memory)
		}
	}
	var err error
	if s.worker, err = s.startWorker(ctx, "worker-after-watchers"); err != nil {
		return nil, err
	}
	what, peer := fmt.Sprintf("%d watchers of %d jobs, ", s.watchers, watchedJobs), peerFigures{What: "Echo: one subscription, sent to all"}
	return []row{
		row{ID: "watch_p99", What: what + "event → client, p99", Unit: unitMillis, Peer: peer, Budget: atMost(250)}.judged(p99[0], p99[1]),
		row{ID: "watch_memory", What: what + "memory of one more", Unit: unitKilo, Peer: peer, Budget: atMost(40)}.judged(memory[0], memory[1]),
	}, nil
}

// watchJobs records the jobs and connects the watchers before it starts a worker.
func (s *stack) watchJobs(ctx context.Context, env []string, run int) (w watching, err error) {
	api, err := s.start(fmt.Sprintf("watched-api-%d", run), env, s.dir+"/api")
	if err != nil {
		return w, err
	}
	base, err := api.says(ctx, "api started", "api")
	if err != nil {
		return w, err
	}
	paths := make([]string, watchedJobs)
	for i := range paths {
		id, err := s.signup(ctx)
		if err != nil {
			return w, err
		}
		paths[i] = "/jobs/" + id + "/events"
	}
	crowd, err := watch(ctx, api, strings.TrimPrefix(base, "http://"), paths, s.watchers)
	if err != nil {
		return w, err
	}
	began := time.Now()
	worker, err := s.startWorker(ctx, fmt.Sprintf("watched-worker-%d", run), "NEXUS_SANDBOX_DELAY="+watchedDelay.String())
	if err != nil {
		return w, err
	}
	if w, err = crowd.wait(); err != nil {
		return w, err
	}
	w.took = time.Since(began)
	if err := worker.end(10 * time.Second); err != nil {
		return w, err
	}
	return w, api.end(10 * time.Second)
}

// watchPeer sends the same number of events to the same number of watchers of the peer,
// evenly over the same time.
func (s *stack) watchPeer(ctx context.Context, ours watching, run int) (w watching, err error) {
	peer, addr, err := s.startEcho(ctx, fmt.Sprintf("watched-peer-%d", run))
	if err != nil {
		return w, err
	}
	paths := make([]string, watchedJobs)
	for i := range paths {
		paths[i] = fmt.Sprintf("/watch/%d", i)
	}
	crowd, err := watch(ctx, peer, addr, paths, s.watchers)
	if err != nil {
		return w, err
	}
	each := max(len(ours.late)/s.watchers, 1)
	tick := time.NewTicker(ours.took / time.Duration(each*watchedJobs))
	defer tick.Stop()
	for n := range each * watchedJobs {
		<-tick.C
		event, _ := json.Marshal(map[string]any{"topic": n % watchedJobs, "at": time.Now(), "last": n >= (each-1)*watchedJobs})
		if err := s.peers.rdb.Publish(ctx, peerWake, event).Err(); err != nil {
			return w, err
		}
	}
	if w, err = crowd.wait(); err != nil {
		return w, err
	}
	return w, peer.end(10 * time.Second)
}

// crowd is a set of connected watchers.
type crowd struct {
	group *errgroup.Group
	mu    sync.Mutex
	saw   watching
}

// watch connects watchers to a server, distributed over the paths, and waits until each has
// an answer. Their memory is measured with the second half, since the first half also fills
// the server's pools.
func watch(ctx context.Context, server *process, addr string, paths []string, watchers int) (*crowd, error) {
	c := &crowd{}
	c.group, ctx = errgroup.WithContext(ctx)
	half := watchers / 2
	c.connect(ctx, addr, paths, 0, half)
	before, err := usage(server.pid())
	if err != nil {
		return nil, err
	}
	c.connect(ctx, addr, paths, half, watchers)
	after, err := usage(server.pid())
	c.saw.memory = max(after.rss-before.rss, 0) * 1024 / float64(watchers-half)
	return c, err
}

// connect connects the watchers from..to, and waits until each has an answer. Fifty watchers
// share a client address.
func (c *crowd) connect(ctx context.Context, addr string, paths []string, from, to int) {
	var connected sync.WaitGroup
	for i := from; i < to; i++ {
		connected.Add(1)
		c.group.Go(func() error {
			var once sync.Once
			defer once.Do(connected.Done)
			client := fmt.Sprintf("10.%d.%d.1", i/50/256, i/50%256)
			late, err := follow(ctx, addr, paths[i%len(paths)], client, func() { once.Do(connected.Done) })
			c.mu.Lock()
			defer c.mu.Unlock()
			c.saw.late = append(c.saw.late, late...)
			return err
		})
	}
	connected.Wait()
}

// wait waits for the end of all streams and returns the result.
func (c *crowd) wait() (watching, error) {
	err := c.group.Wait()
	if err == nil && len(c.saw.late) == 0 {
		err = fmt.Errorf("no event came")
	}
	return c.saw, err
}

// follow reads one stream to its end and returns the delay of each event in ms.
func follow(ctx context.Context, addr, path, from string, connected func()) (late []float64, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // read to its end
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+addr+"\r\nX-Forwarded-For: "+from+"\r\n\r\n"); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // the connection is closed
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	connected()
	begun := time.Now() // the stream begins with older events, which are not timed
	lines, kind := bufio.NewScanner(response.Body), ""
	for lines.Scan() {
		name, data, _ := strings.Cut(lines.Text(), ": ")
		if name == "event" {
			kind = data
		}
		if name != "data" || kind == "snapshot" {
			continue
		}
		var event struct {
			At time.Time `json:"at"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return nil, err
		}
		if event.At.After(begun) {
			late = append(late, millis(time.Since(event.At)))
		}
	}
	return late, lines.Err()
}
