//go:build service

package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// told collects the events of one watcher, over all of its streams.
type told struct {
	s      *stack
	id     string
	events []string // "<rev> <data>"
}

// watch opens a stream after the last event that was received.
func (w *told) watch() *bufio.Reader {
	w.s.t.Helper()
	var response *http.Response
	eventually(w.s.t, 20*time.Second, "the stream is there", func() bool {
		request, err := http.NewRequestWithContext(w.s.t.Context(), "GET", w.s.api+"/jobs/"+w.id+"/events", nil)
		if err != nil {
			w.s.t.Fatal(err)
		}
		if len(w.events) > 0 {
			last, _, _ := strings.Cut(w.events[len(w.events)-1], " ")
			request.Header.Set("Last-Event-ID", last)
		}
		if response, err = http.DefaultClient.Do(request); err != nil {
			return false
		}
		w.s.t.Cleanup(func() { _ = response.Body.Close() })
		return response.StatusCode == http.StatusOK
	})
	return bufio.NewReader(response.Body)
}

// until reads until an event contains a text, or the stream ends: io.EOF if it ends
// properly.
func (w *told) until(stream *bufio.Reader, text string) error {
	var id string
	for {
		line, err := stream.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if rev, ok := strings.CutPrefix(line, "id: "); ok {
			id = rev
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || id == "" { // of a snapshot
			continue
		}
		w.events, id = append(w.events, id+" "+data), ""
		if text != "" && strings.Contains(data, text) {
			return nil
		}
	}
}

// TestWatchedThroughRestarts watches one job while the API is replaced, another API is
// killed, and Redis is killed. Each ends the stream, and the next stream continues after
// the last event: no event comes twice, and none is lost.
func TestWatchedThroughRestarts(t *testing.T) {
	t.Parallel()
	s, redis := frailStack(t, "", "NEXUS_SANDBOX_DELAY=2s", "NEXUS_APPS=erpnext")
	s.onSandbox()
	s.worker()
	api := s.anotherAPI()
	w := &told{s: s, id: s.signup("watched", "watched@example.com").JobId}
	at := func(stream *bufio.Reader, text string) {
		t.Helper()
		if slices.ContainsFunc(w.events, func(event string) bool { return strings.Contains(event, text) }) {
			return // it came on the stream before
		}
		if err := w.until(stream, text); err != nil {
			t.Fatalf("before %s: %v", text, err)
		}
	}
	stream := w.watch()
	at(stream, `"step":"site","stepState":"started"`)
	began := time.Now()
	api.end(os.Interrupt)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the api took %s to leave, with somebody watching", took)
	}
	if err := w.until(stream, ""); !errors.Is(err, io.EOF) {
		t.Errorf("the stream of an api that left broke off: %v", err)
	}
	api = s.anotherAPI()
	stream = w.watch()
	at(stream, `"step":"apps","stepState":"started"`)
	api.end(os.Kill)
	if err := w.until(stream, ""); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the stream of an api that died: %v", err)
	}
	s.anotherAPI()
	stream = w.watch()
	at(stream, `"step":"user","stepState":"started"`)
	redis.kill()
	if err := w.until(stream, ""); !errors.Is(err, io.EOF) {
		t.Errorf("the stream without Redis broke off: %v", err)
	}
	redis.start(s.log)
	stream = w.watch()
	at(stream, `"state":"succeeded"`)
	if err := w.until(stream, ""); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	whole := &told{s: s, id: w.id}
	if err := whole.until(whole.watch(), ""); !errors.Is(err, io.EOF) || !slices.Equal(w.events, whole.events) {
		t.Errorf("%v: told was\n%s\nand happened did\n%s", err, strings.Join(w.events, "\n"), strings.Join(whole.events, "\n"))
	}
	for i, event := range w.events {
		if !strings.HasPrefix(event, fmt.Sprintf("%d {", i+1)) {
			t.Errorf("event %d is %s", i+1, event)
		}
	}
}
