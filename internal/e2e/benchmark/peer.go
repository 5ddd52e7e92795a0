package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
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
	idle     *process  // an asynq server that has nothing to do, and inherits the orphan
	orphaned time.Time // when the asynq server that held the orphan was killed
	rdb      *redis.Client
}

func (p *peers) close() {
	if p.rdb != nil {
		_ = p.rdb.Close()
	}
}

// peer runs as the peer that the arguments name, until the context ends: echo,
// asynq, or an asynq that holds on to its task.
func peer(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("peer: give a kind and the address of Redis")
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	switch kind, addr := args[0], args[1]; kind {
	case "echo":
		return echoPeer(ctx, log, addr)
	case "asynq", "holder":
		server, err := startAsynq(addr, orphanQueue, func(task context.Context, _ *asynq.Task) error {
			log.InfoContext(ctx, "begun")
			if kind == "holder" {
				<-task.Done()
			}
			return nil
		})
		if err != nil {
			return err
		}
		<-ctx.Done()
		server.Shutdown()
		return nil
	default:
		return fmt.Errorf("peer: there is no %q", kind)
	}
}

// startAsynq is asynq as anybody would run it, but for the pace at which it
// looks for tasks, which is the worker's.
func startAsynq(addr, queue string, do func(context.Context, *asynq.Task) error) (*asynq.Server, error) {
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: addr, DB: peerDB}, asynq.Config{
		Concurrency: concurrency, TaskCheckInterval: 20 * time.Millisecond,
		Queues: map[string]int{queue: 1}, LogLevel: asynq.ErrorLevel,
	})
	return server, server.Start(asynq.HandlerFunc(do))
}

// echoPeer answers GET /<key> with the value Redis has for it.
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

// startPeers starts the Echo server, and makes an orphan of asynq's: its server
// is killed while it works, and the idle one has the whole run to notice.
func (s *stack) startPeers(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.peers.rdb = redis.NewClient(&redis.Options{Addr: s.redisAddr, DB: peerDB})
	if s.peers.echo, err = s.start("echo", nil, self, peerCommand, "echo", s.redisAddr); err != nil {
		return err
	}
	if s.peers.echoAddr, err = s.peers.echo.says(ctx, "listening", "addr"); err != nil {
		return err
	}
	holder, err := s.start("holder", nil, self, peerCommand, "holder", s.redisAddr)
	if err != nil {
		return err
	}
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	if _, err := tasks.EnqueueContext(ctx, asynq.NewTask(peerTask, nil), asynq.Queue(orphanQueue)); err != nil {
		return err
	}
	if _, err := holder.says(ctx, "begun", "time"); err != nil {
		return err
	}
	if s.peers.idle, err = s.start("asynq", nil, self, peerCommand, "asynq", s.redisAddr); err != nil {
		return err
	}
	s.peers.orphaned = time.Now()
	return holder.kill()
}

// rescued tells how long asynq took to go on with its orphan; false: it has not
// yet, for that long.
func (p *peers) rescued() (time.Duration, bool) {
	for _, line := range p.idle.lines("begun") {
		text, _ := line["time"].(string)
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return at.Sub(p.orphaned), true
		}
	}
	return time.Since(p.orphaned), false
}
