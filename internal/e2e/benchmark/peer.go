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

// peerCommand makes this binary one of the peers, which are processes of their
// own where ours is one.
const peerCommand = "peer"

// The peers keep their things in a database of their own.
const (
	peerDB      = 1
	peerTask    = "noop"
	orphanQueue = "orphans"
)

// peers are the processes we are compared with for the whole of the run.
type peers struct {
	echo     *process
	echoAddr string
	idle     *process   // an asynq server that has nothing to do, and inherits the orphans
	holders  []*process // asynq servers that die over their orphans, one after the other
	rdb      *redis.Client
}

func (p *peers) close() {
	if p.rdb != nil {
		_ = p.rdb.Close()
	}
}

// peer runs as the peer that the arguments name, until the context ends: echo,
// asynq, or an asynq that dies over its task after a time.
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

// begunBy is what an asynq server says that begins a task.
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

// startAsynq is asynq as anybody would run it, but for the pace at which it
// looks for tasks, which is the worker's.
func startAsynq(addr, queue string, atOnce int, do asynq.HandlerFunc) (*asynq.Server, error) {
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: addr, DB: peerDB}, asynq.Config{
		Concurrency: atOnce, TaskCheckInterval: 20 * time.Millisecond,
		Queues: map[string]int{queue: 1}, LogLevel: asynq.ErrorLevel,
	})
	return server, server.Start(do)
}

// echoPeer answers GET /<key> with the value Redis has for it, GET /list with many of
// them, and GET /watch/<topic> with a stream.
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

// startPeers starts the Echo server, makes orphans of asynq's, and starts the
// idle server, which inherits them.
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

// startEcho starts an Echo server, and answers with its address.
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

// makeOrphans starts asynq servers with a task each, over which they will die, at
// different times of the minute in which asynq looks for such tasks once.
func (s *stack) makeOrphans(ctx context.Context, self string) error {
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	for i := range s.runs {
		after := time.Duration(i) * time.Minute / time.Duration(s.runs)
		holder, err := s.start(fmt.Sprintf("holder-%d", i), nil, self, peerCommand, "holder", s.redisAddr, after.String())
		if err != nil {
			return err
		}
		holder.ended = true // by itself
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

// rescued tells how long asynq took to go on with each of its orphans; all is
// false if it has not yet with some, for that long.
func (p *peers) rescued() (took []float64, all bool) {
	all = true
	for i, holder := range p.holders {
		again, over := p.idle.said(begunBy(asynq.NewTask(peerTask, []byte(strconv.Itoa(i)))))
		if !over {
			again, all = time.Now(), false
		}
		died, dead := holder.said("killed")
		if !dead { // its turn has not come yet
			died = again
		}
		took = append(took, millis(again.Sub(died)))
	}
	return took, all
}
