package app

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// client is what go-redis calls any of its clients.
type client = redis.UniversalClient

// connection is a process' two clients of one Redis: the API's gives up soon,
// since a person waits; the worker's is patient (asynq spins without retries).
type connection struct {
	api, worker client
	embedded    bool
	patient     redis.Options
	server      *miniredis.Miniredis // nil unless embedded
}

// connect opens the clients; with no URL a dev process embeds a server, the
// others use the one on this machine.
func connect(at string, dev bool) (*connection, error) {
	c := &connection{}
	if at == "" && dev {
		c.server = miniredis.NewMiniRedis()
		c.server.ClockTTL(true) // else nothing would ever expire
		if err := c.server.Start(); err != nil {
			return nil, fmt.Errorf("embedded redis: %w", err)
		}
		c.embedded, at = true, "redis://"+c.server.Addr()
	}
	if at == "" {
		at = "redis://127.0.0.1:6379/0"
	}
	// ParseURL keeps an ACL user name, which asynq's own parser drops.
	o, err := redis.ParseURL(at)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok { // its text is the whole URL, with the password
			err = u.Err
		}
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	fast, patient := *o, *o
	fast.DialTimeout, fast.ReadTimeout, fast.WriteTimeout, fast.MaxRetries = 500*time.Millisecond, 2*time.Second, 2*time.Second, 1
	patient.PoolSize = 64
	// Else go-redis would wait its own time, whatever a context says.
	fast.ContextTimeoutEnabled, patient.ContextTimeoutEnabled = true, true
	c.patient = patient
	c.api, c.worker = redis.NewClient(&fast), redis.NewClient(&patient)
	return c, nil
}

// MakeRedisClient makes asynq a client of its own, which asynq closes.
func (c *connection) MakeRedisClient() any { return redis.NewClient(&c.patient) }

func (c *connection) close() {
	_ = c.api.Close()
	_ = c.worker.Close()
	if c.server != nil {
		c.server.Close()
	}
}
