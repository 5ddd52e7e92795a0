package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// peerCommand as the first argument makes this program a peer. A peer is a process of its
// own where the product's part is one.
const peerCommand = "peer"

// The peers use a Redis database of their own.
const (
	peerDB      = 1
	peerTask    = "noop"
	orphanQueue = "orphans"
)

// peers are the peers that run from the start of the benchmark to its end.
type peers struct {
	echo     *process
	echoAddr string
	idle     *process   // an asynq server that is idle until it gets the orphans
	holders  []*process // asynq servers that kill themselves during a task, one after the other
	rdb      *redis.Client
}

func (p *peers) close() {
	if p.rdb != nil {
		_ = p.rdb.Close()
	}
}

// peer runs as the peer that the arguments name, until the context ends: an Echo server, an
// asynq server, or an asynq server that kills itself some time after it got a task.
func peer(ctx context.Context, args []string) error {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	switch {
	case len(args) == 2 && args[0] == "echo":
		return echoPeer(ctx, log, args[1])
	case len(args) == 2 && args[0] == "asynq":
		return asynqPeer(ctx, args[1], concurrency, func(_ context.Context, task *asynq.Task) error {
			log.InfoContext(ctx, begunBy(task))
			return nil
		})
	case len(args) == 3 && args[0] == "holder":
		after, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return asynqPeer(ctx, args[1], 1, func(_ context.Context, task *asynq.Task) error {
			log.InfoContext(ctx, begunBy(task))
			if err := pause(ctx, after); err != nil {
				return err
			}
			log.InfoContext(ctx, "killed")
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
	}
	return fmt.Errorf("peer: there is no %q", args)
}

// begunBy is the message that an asynq server logs when it begins a task.
func begunBy(task *asynq.Task) string { return "begun " + string(task.Payload()) }

func asynqPeer(ctx context.Context, addr string, atOnce int, do asynq.HandlerFunc) error {
	server, err := startAsynq(addr, orphanQueue, atOnce, do)
	if err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// startAsynq starts an asynq server with default settings, except that it looks for tasks as
// often as our worker does.
func startAsynq(addr, queue string, atOnce int, do asynq.HandlerFunc) (*asynq.Server, error) {
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: addr, DB: peerDB}, asynq.Config{
		Concurrency: atOnce, TaskCheckInterval: 20 * time.Millisecond,
		Queues: map[string]int{queue: 1}, LogLevel: asynq.ErrorLevel,
	})
	return server, server.Start(do)
}

// echoPeer serves GET /<key> with the value of the key in Redis, GET /list with many values,
// and GET /watch/<topic> with a stream.
func echoPeer(ctx context.Context, log *slog.Logger, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, DB: peerDB})
	defer rdb.Close() //nolint:errcheck // the process ends
	e := echo.New()
	e.GET("/:key", func(c echo.Context) error {
		text, err := rdb.Get(c.Request().Context(), c.Param("key")).Bytes()
		if err != nil {
			return err
		}
		return c.JSONBlob(http.StatusOK, text)
	})
	streams := &hub{topics: map[int][]chan string{}}
	e.GET("/watch/:topic", streams.stream)
	e.GET("/list", func(c echo.Context) error { return peerList(c, rdb) })
	go streams.run(ctx, rdb)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	log.InfoContext(ctx, "listening", "addr", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startPeers starts the Echo server, makes the orphans, and starts the idle asynq server,
// which gets them.
func (s *stack) startPeers(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.peers.rdb = redis.NewClient(&redis.Options{Addr: s.redisAddr, DB: peerDB})
	if s.peers.echo, s.peers.echoAddr, err = s.startEcho(ctx, "echo"); err != nil {
		return err
	}
	if err := s.makeOrphans(ctx, self); err != nil {
		return err
	}
	s.peers.idle, err = s.start("asynq", nil, self, peerCommand, "asynq", s.redisAddr)
	return err
}

// startEcho starts an Echo server and returns its address.
func (s *stack) startEcho(ctx context.Context, name string) (p *process, addr string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	if p, err = s.start(name, nil, self, peerCommand, "echo", s.redisAddr); err != nil {
		return nil, "", err
	}
	addr, err = p.says(ctx, "listening", "addr")
	return p, addr, err
}

// makeOrphans starts asynq servers with one task each. They kill themselves during the task,
// spread over a minute, since asynq looks for orphaned tasks once a minute.
func (s *stack) makeOrphans(ctx context.Context, self string) error {
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	for i := range s.runs {
		after := time.Duration(i) * time.Minute / time.Duration(s.runs)
		holder, err := s.start(fmt.Sprintf("holder-%d", i), nil, self, peerCommand, "holder", s.redisAddr, after.String())
		if err != nil {
			return err
		}
		holder.ended = true // it kills itself
		s.peers.holders = append(s.peers.holders, holder)
		task := asynq.NewTask(peerTask, []byte(strconv.Itoa(i)))
		if _, err := tasks.EnqueueContext(ctx, task, asynq.Queue(orphanQueue)); err != nil {
			return err
		}
		if _, err := holder.says(ctx, begunBy(task), "time"); err != nil {
			return err
		}
	}
	return nil
}

// rescued returns the time in ms until asynq began each orphan again. All is false if some
// were not begun again; their times are those that have passed so far.
func (p *peers) rescued() (took []float64, all bool) {
	all = true
	for i, holder := range p.holders {
		again, over := p.idle.said(begunBy(asynq.NewTask(peerTask, []byte(strconv.Itoa(i)))))
		if !over {
			again, all = time.Now(), false
		}
		died, dead := holder.said("killed")
		if !dead { // it has not killed itself yet
			died = again
		}
		took = append(took, millis(again.Sub(died)))
	}
	return took, all
}
