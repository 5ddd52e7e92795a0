package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxSkew is how far a worker's clock may be from Redis' clock. Beyond it the worker
// takes no jobs, since it would end them too early or too late.
const MaxSkew = 10 * time.Second

// presenceTime is how long an announcement is valid.
const presenceTime = 2 * time.Minute

// Presence is what a process announces about itself.
type Presence struct {
	Role string        // api or worker
	Name string        // of the process
	Keys []string      // ids of its sealing keys; an API seals with the first
	Skew time.Duration // how far its clock is ahead of Redis' clock
}

// takesJobs tells whether the process is a worker whose clock is within MaxSkew.
func (p Presence) takesJobs() bool { return p.Role == roleWorker && p.Skew.Abs() <= MaxSkew }

const roleWorker = "worker"

// Announce records that a process is alive and which sealing keys it has. The process
// repeats the call within a minute.
func (s *Store) Announce(ctx context.Context, p Presence) error {
	at := time.Now().Add(-p.Skew).Unix()
	text := fmt.Sprintf("%d %s %d", at, strings.Join(p.Keys, ","), p.Skew.Milliseconds())
	if err := s.rdb.HSet(ctx, keysKey, p.Role+"/"+p.Name, text).Err(); err != nil {
		return classify("announce", err)
	}
	return nil
}

// Leave removes the announcement of a process that stops.
func (s *Store) Leave(ctx context.Context, role, name string) error {
	if err := s.rdb.HDel(ctx, keysKey, role+"/"+name).Err(); err != nil {
		return classify("leave", err)
	}
	return nil
}

// Workers counts the workers that take jobs. Cost: one round trip.
func (s *Store) Workers(ctx context.Context) (count int, err error) {
	pipe := s.rdb.Pipeline()
	all, now := pipe.HGetAll(ctx, keysKey), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, classify("workers", err)
	}
	live, _ := presences(all.Val(), now.Val())
	return workersOf(live), nil
}

// workersOf counts the workers that take jobs.
func workersOf(live []Presence) (count int) {
	for _, p := range live {
		if p.takesJobs() {
			count++
		}
	}
	return count
}

// presences decodes the announcements ("role/name" → "<unix seconds> <key ids> <skew in
// ms>"). Live are the valid ones, old the fields of the expired and malformed ones.
func presences(all map[string]string, now time.Time) (live []Presence, old []string) {
	for _, field := range slices.Sorted(maps.Keys(all)) {
		role, name, _ := strings.Cut(field, "/")
		p, at, ok := decodePresence(all[field])
		if !ok || now.Sub(at) > presenceTime {
			old = append(old, field)
			continue
		}
		p.Role, p.Name = role, name
		live = append(live, p)
	}
	return live, old
}

func decodePresence(value string) (p Presence, at time.Time, ok bool) {
	said := strings.Fields(value)
	if len(said) != 3 {
		return p, at, false
	}
	seconds, err := strconv.ParseInt(said[0], 10, 64)
	ms, _ := strconv.ParseInt(said[2], 10, 64) // written by Announce: a number
	return Presence{Keys: strings.Split(said[1], ","), Skew: time.Duration(ms) * time.Millisecond}, time.Unix(seconds, 0), err == nil
}
