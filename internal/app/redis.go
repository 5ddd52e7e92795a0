package app

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// client is a client of Redis.
type client = redis.UniversalClient

// connection has two clients of one Redis: the API's has short time-outs, since a person
// waits; the worker's has longer ones and retries (without, asynq would loop).
type connection struct {
	api, worker client
	embedded    bool
	patient     redis.Options
	server      *miniredis.Miniredis // nil unless embedded
	stopAging   func()
}

const ageEvery = time.Second

// age lets the embedded server's keys expire, once a second. miniredis itself would keep
// them for ever, or look at all keys at each command.
func (c *connection) age() {
	stop, last := make(chan struct{}), time.Now()
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(ageEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				c.server.FastForward(now.Sub(last))
				last = now
			}
		}
	})
	c.stopAging = func() { close(stop); done.Wait() }
}

// connect opens the clients. Without a URL it uses the server on this machine, or in
// nexus dev an embedded one.
func connect(at string, dev bool) (*connection, error) {
	c := &connection{}
	if at == "" && dev {
		c.server = miniredis.NewMiniRedis()
		if err := c.server.Start(); err != nil {
			return nil, fmt.Errorf("embedded redis: %w", err)
		}
		c.age()
		c.embedded, at = true, "redis://"+c.server.Addr()
	}
	o, err := redisOptions(at)
	if err != nil {
		return nil, err
	}
	// A record has 2 KB. The default buffers, 64 KB for each connection and 256 KB for one
	// with pipelines, would be most of the memory of an idle process.
	o.ReadBufferSize, o.WriteBufferSize = 8<<10, 8<<10
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 32<<10, 32<<10
	fast, patient := *o, *o
	fast.DialTimeout, fast.ReadTimeout, fast.WriteTimeout, fast.MaxRetries = 500*time.Millisecond, 2*time.Second, 2*time.Second, 1
	patient.PoolSize = 64
	// Without this, go-redis ignores the deadline of a context.
	fast.ContextTimeoutEnabled, patient.ContextTimeoutEnabled = true, true
	c.patient = patient
	c.api, c.worker = redis.NewClient(&fast), redis.NewClient(&patient)
	return c, nil
}

// redisOptions parses REDIS_URL; empty: the server on this machine. Its error contains no
// part of the URL: if a character of the password is not escaped, the rest of the password
// is parsed as host, port or database.
func redisOptions(at string) (*redis.Options, error) {
	if at == "" {
		at = "redis://127.0.0.1:6379/0"
	}
	u, err := url.Parse(at)
	if err == nil && u.Fragment == "" && !strings.Contains(u.Path+u.RawQuery, "@") {
		// ParseURL keeps an ACL user name, which asynq's own parser drops.
		if o, err := redis.ParseURL(at); err == nil {
			return o, nil
		}
	}
	return nil, Misconfigured{errors.New("REDIS_URL is not an address such as redis://user:password@host:6379/0 (rediss:// with TLS); " +
		"in user and password, write % as %25, / as %2F, @ as %40, : as %3A, ? as %3F and # as %23")}
}

// MakeRedisClient makes a client for asynq, which closes it.
func (c *connection) MakeRedisClient() any { return redis.NewClient(&c.patient) }

func (c *connection) close() {
	_ = c.api.Close()
	_ = c.worker.Close()
	if c.server != nil {
		c.stopAging()
		c.server.Close()
	}
}
