package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const readTime = 2 * time.Second

// jobReads measures answers per second to GET /jobs/<id>, each connection for a finished
// job of its own, and those of an Echo handler that reads the same bytes from Redis, with
// few connections and with many.
func jobReads(ctx context.Context, s *stack) ([]row, error) {
	few, err := s.readsBy(ctx, concurrency, row{ID: "job_reads", What: "GET /jobs/<id>"})
	if err != nil {
		return nil, err
	}
	many, err := s.readsBy(ctx, 4*concurrency, row{ID: "job_reads_64", What: "GET /jobs/<id>, 64 connections"})
	return []row{few, many}, err
}

// readsBy completes a row with the rates for this number of connections.
func (s *stack) readsBy(ctx context.Context, connections int, r row) (row, error) {
	ids, err := s.finished(ctx, connections)
	if err != nil {
		return r, err
	}
	jobs, values := make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		jobs[i], values[i] = "/jobs/"+id, "/"+id
		body, err := fetch(ctx, "http://"+s.apiAddr+jobs[i], "")
		if err != nil {
			return r, err
		}
		if err := s.peers.rdb.Set(ctx, id, body, 0).Err(); err != nil {
			return r, err
		}
	}
	var ours, theirs []float64
	for i := range s.runs + 1 {
		us, err := load(ctx, s.apiAddr, jobs)
		if err != nil {
			return r, err
		}
		them, err := load(ctx, s.peers.echoAddr, values)
		if err != nil {
			return r, err
		}
		if i > 0 { // the first one only warms up
			ours, theirs = append(ours, us), append(theirs, them)
		}
	}
	r.Unit, r.Peer, r.Budget = unitRate, peerFigures{What: "Echo: one Redis GET"}, ofPeer(0.7)
	return r.judged(ours, theirs), nil
}

// finished provisions sites and returns the ids of their jobs.
func (s *stack) finished(ctx context.Context, n int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		id, err := s.signup(ctx)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, s.settled(ctx)
}

// load requests each path repeatedly, on a connection of its own, and returns the rate per
// second. It writes HTTP by hand: a full client would take more CPU than the servers, on the
// same cores, and hide their difference.
func load(ctx context.Context, addr string, paths []string) (float64, error) {
	started := time.Now()
	until := started.Add(readTime)
	var answers atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, path := range paths {
		group.Go(func() error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			defer conn.Close() //nolint:errcheck // nothing is left unread
			if err := conn.SetDeadline(until.Add(5 * time.Second)); err != nil {
				return err
			}
			n, err := exchange(ctx, conn, "GET "+path+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n", until)
			answers.Add(n)
			return err
		})
	}
	err := group.Wait()
	return float64(answers.Load()) / time.Since(started).Seconds(), err
}

// exchange sends the request again after each answer, and counts the answers.
func exchange(ctx context.Context, conn net.Conn, request string, until time.Time) (n int64, err error) {
	reader, bytes := bufio.NewReader(conn), []byte(request)
	for ctx.Err() == nil && time.Now().Before(until) {
		if _, err := conn.Write(bytes); err != nil {
			return n, err
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return n, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil {
			return n, err
		}
		if response.StatusCode != http.StatusOK {
			return n, fmt.Errorf("%s: %s", conn.RemoteAddr(), response.Status)
		}
		n++
	}
	return n, context.Cause(ctx)
}
