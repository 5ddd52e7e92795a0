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

// client is what go-redis calls any of its clients.
type client = redis.UniversalClient

// connection is a process' two clients of one Redis: the API's gives up soon,
// since a person waits; the worker's is patient (asynq spins without retries).
type connection struct {
	api, worker client
	embedded    bool
	patient     redis.Options
	server      *miniredis.Miniredis // nil unless embedded
	stopAging   func()
}

const ageEvery = time.Second

// age has the embedded server's keys expire, each second: by itself it has them stay
// for ever, or goes through all of them at each command.
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

// connect opens the clients; with no URL a dev process embeds a server, the
// others use the one on this machine.
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
	// A record has 2 KB. By default each connection has 64 KB of buffers, and one for
	// pipelines has 256 KB: most of what an idle process would take.
	o.ReadBufferSize, o.WriteBufferSize = 8<<10, 8<<10
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 32<<10, 32<<10
	fast, patient := *o, *o
	fast.DialTimeout, fast.ReadTimeout, fast.WriteTimeout, fast.MaxRetries = 500*time.Millisecond, 2*time.Second, 2*time.Second, 1
	patient.PoolSize = 64
	// Else go-redis would wait its own time, whatever a context says.
	fast.ContextTimeoutEnabled, patient.ContextTimeoutEnabled = true, true
	c.patient = patient
	c.api, c.worker = redis.NewClient(&fast), redis.NewClient(&patient)
	return c, nil
}

// redisOptions reads REDIS_URL; empty is the server of this machine. Its error repeats
// no part of it: where a character of the password is not escaped, the rest of the
// password stands where host, port or database should be.
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

// MakeRedisClient makes asynq a client of its own, which asynq closes.
func (c *connection) MakeRedisClient() any { return redis.NewClient(&c.patient) }

func (c *connection) close() {
	_ = c.api.Close()
	_ = c.worker.Close()
	if c.server != nil {
		c.stopAging()
		c.server.Close()
	}
}
