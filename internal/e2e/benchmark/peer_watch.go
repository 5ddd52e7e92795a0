package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// peerWake is the Redis channel whose messages the peer's streams send.
const peerWake = "peer-wake"

// hub sends each message of one subscription to the streams of its topic.
type hub struct {
	mu     sync.Mutex
	topics map[int][]chan string
}

// run reads the subscription until the context ends.
func (h *hub) run(ctx context.Context, rdb *redis.Client) {
	sub := rdb.Subscribe(ctx, peerWake)
	defer sub.Close() //nolint:errcheck // the process ends
	for {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return
		}
		var event struct {
			Topic int `json:"topic"`
		}
		if json.Unmarshal([]byte(m.Payload), &event) != nil {
			continue
		}
		h.mu.Lock()
		for _, c := range h.topics[event.Topic] {
			c <- m.Payload
		}
		h.mu.Unlock()
	}
}

// stream serves GET /watch/<topic>: the topic's messages as Server-Sent Events, up to the
// one that is marked as the last.
func (h *hub) stream(c echo.Context) error {
	topic, err := strconv.Atoi(c.Param("topic"))
	if err != nil {
		return err
	}
	messages := make(chan string, 64)
	h.mu.Lock()
	h.topics[topic] = append(h.topics[topic], messages)
	h.mu.Unlock()
	out := c.Response()
	out.Header().Set("Content-Type", "text/event-stream")
	out.Header().Set("Connection", "close")
	out.WriteHeader(http.StatusOK)
	out.Flush()
	for {
		select {
		case <-c.Request().Context().Done():
			return nil
		case m := <-messages:
			if _, err := fmt.Fprintf(out, "event: step\ndata: %s\n\n", m); err != nil {
				return err
			}
			out.Flush()
			var event struct {
				Last bool `json:"last"`
			}
			if json.Unmarshal([]byte(m), &event) == nil && event.Last {
				return nil
			}
		}
	}
}
