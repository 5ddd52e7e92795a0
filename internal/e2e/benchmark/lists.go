package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// listed is how many jobs of each state there are when lists are timed, 300,000 in all;
// listPage is how many jobs a page has.
var listed = map[string]int{"succeeded": 270_000, "failed": 20_000, "canceled": 9_500, "rollback_failed": 500}

const (
	listPage  = 200
	listTimes = 20 // requests for each state in each run
)

// lists times GET /jobs with 300,000 jobs, for each state and without a state; the row is
// the slowest of them. The peer is an Echo handler that sends the same number of prepared
// texts.
func lists(ctx context.Context, s *stack) ([]row, error) {
	if err := s.fillJobs(ctx); err != nil {
		return nil, err
	}
	paths := []string{"/jobs?limit=" + strconv.Itoa(listPage)}
	for _, state := range slices.Sorted(maps.Keys(listed)) {
		paths = append(paths, paths[0]+"&state="+state)
	}
	var p50, p95 [2][]float64
	for range s.runs {
		var took, peer []float64 // p50 and p95 of the slowest path
		for _, path := range paths {
			one, err := s.timeGets(ctx, "http://"+s.apiAddr+path, listPage)
			if err != nil {
				return nil, err
			}
			if took == nil || one[0] > took[0] {
				took = one
			}
		}
		peer, err := s.timeGets(ctx, "http://"+s.peers.echoAddr+"/list", listPage)
		if err != nil {
			return nil, err
		}
		p50[0], p95[0], p50[1], p95[1] = append(p50[0], took[0]), append(p95[0], took[1]), append(p50[1], peer[0]), append(p95[1], peer[1])
	}
	what, peer := fmt.Sprintf("GET /jobs, %d of 300,000, the slowest state, ", listPage), peerFigures{What: "Echo: the same texts by MGET"}
	return []row{
		row{ID: "list_p50", What: what + "p50", Unit: unitMillis, Peer: peer, Budget: atMost(20)}.judged(p50[0], p50[1]),
		row{ID: "list_p95", What: what + "p95", Unit: unitMillis, Peer: peer, Budget: atMost(20)}.judged(p95[0], p95[1]),
	}, nil
}

// timeGets makes one request after the other and returns p50 and p95 of their times in ms.
func (s *stack) timeGets(ctx context.Context, url string, want int) ([]float64, error) {
	var took []float64
	for range listTimes {
		at := time.Now()
		text, err := fetch(ctx, url, s.token)
		took = append(took, millis(time.Since(at)))
		if err != nil {
			return nil, err
		}
		if n := strings.Count(string(text), `"createdAt"`); n != want {
			return nil, fmt.Errorf("%s: %d jobs, want %d", url, n, want)
		}
	}
	return []float64{quantile(took, 0.5), quantile(took, 0.95)}, nil
}

// fetch returns the body of an answer. An empty token is not sent.
func fetch(ctx context.Context, url, token string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// fillJobs copies a finished job until there are 300,000, and stores a page of them for the
// peer, as the API returns it.
func (s *stack) fillJobs(ctx context.Context) error {
	ids, err := s.finished(ctx, 1)
	if err != nil {
		return err
	}
	record, err := s.rdb.HGetAll(ctx, "{nexus}:job:"+ids[0]).Result()
	if err != nil {
		return err
	}
	now, pipe, n := time.Now().UnixMilli(), s.rdb.Pipeline(), 0
	for state, many := range listed {
		for range many {
			n++
			id, at := fmt.Sprintf("%032x", n), now-int64(n)*1000
			record["id"], record["state"], record["createdAt"] = id, state, strconv.FormatInt(at, 10)
			pipe.HSet(ctx, "{nexus}:job:"+id, record)
			for _, list := range []string{"{nexus}:jobs", "{nexus}:jobs:provision:" + state} {
				pipe.ZAdd(ctx, list, redis.Z{Score: float64(at), Member: id})
			}
			if n%1000 == 0 {
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
			}
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	shown, err := fetch(ctx, "http://"+s.apiAddr+"/jobs/"+ids[0], s.token)
	if err != nil {
		return err
	}
	for i := range listPage {
		if err := errors.Join(s.peers.rdb.Set(ctx, peerListed+strconv.Itoa(i), shown, 0).Err(),
			s.peers.rdb.ZAdd(ctx, peerListed, redis.Z{Score: float64(i), Member: peerListed + strconv.Itoa(i)}).Err()); err != nil {
			return err
		}
	}
	return nil
}

// peerListed is the key of the peer's index of texts, and the prefix of their keys.
const peerListed = "listed"

// peerList returns all texts of the index.
func peerList(c echo.Context, rdb *redis.Client) error {
	names, err := rdb.ZRangeArgs(c.Request().Context(), redis.ZRangeArgs{Key: peerListed, Start: 0, Stop: listPage - 1, Rev: true}).Result()
	if err != nil {
		return err
	}
	texts, err := rdb.MGet(c.Request().Context(), names...).Result()
	if err != nil {
		return err
	}
	parts := make([]string, len(texts))
	for i, text := range texts {
		parts[i] = fmt.Sprint(text)
	}
	return c.JSONBlob(http.StatusOK, []byte("["+strings.Join(parts, ",")+"]"))
}
