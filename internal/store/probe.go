package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const (
	probeAtMost = 2 * time.Second
	probeKept   = 3 * time.Second // how long the result of a probe is reused
)

// probes caches the result of the last probe.
type probes struct {
	mu    sync.Mutex
	at    time.Time
	found []answer
}

// Fit tells whether this process can use Redis. Invalid, with a sentence, if the
// configuration must be changed first: missing rights, a wrong password, a cluster. An error
// that passes by itself, or can be repaired while processes run, is not returned.
func (s *Store) Fit(ctx context.Context) error {
	if s.o.Embedded {
		return nil
	}
	for _, a := range s.probe(ctx) {
		if a.remedy == remedySetup {
			return refuse("fit", nexus.Invalid, "%s", a.say)
		}
	}
	return nil
}

// probed returns the result of a probe, at most a few seconds old.
func (s *Store) probed(ctx context.Context) []answer {
	if s.o.Embedded {
		return nil
	}
	s.probes.mu.Lock()
	defer s.probes.mu.Unlock()
	if time.Since(s.probes.at) > probeKept {
		found := s.probe(ctx)
		if ctx.Err() != nil {
			return found
		}
		s.probes.found, s.probes.at = found, time.Now()
	}
	return s.probes.found
}

// probe tries what the product does, on its own keys and on asynq's, and reads the
// server's configuration. Cost: one round trip.
func (s *Store) probe(ctx context.Context) (out []answer) {
	ctx, stop := context.WithTimeout(ctx, probeAtMost)
	defer stop()
	pipe := s.rdb.Pipeline()
	info := pipe.Info(ctx)
	ours := probeScript().Eval(ctx, pipe, []string{prefix + "probe"}, wakeKey)
	theirs := probeScript().Eval(ctx, pipe, []string{"asynq:{nexus-probe}"}, "asynq:cancel")
	_, err := pipe.Exec(ctx)
	if err != nil && ours.Err() == nil && ours.Val() == nil { // no connection: the commands have no error of their own
		return []answer{answerOf(err)}
	}
	if out = setUp(info.Val()); len(out) > 0 && out[0].remedy == remedySetup {
		return out // a cluster: every other error has the same cause
	}
	for keys, tried := range map[string]*redis.Cmd{prefix + "*": ours, "asynq:*": theirs} {
		out = append(out, failures(keys, tried)...)
	}
	return distinct(out)
}

// failures reads the reply of a probe script.
func failures(keys string, tried *redis.Cmd) (out []answer) {
	list, err := tried.Slice()
	if err != nil {
		a := answerOf(err)
		if a.say == sayRights {
			a.say = fmt.Sprintf("%s It may not use the keys %s in scripts.", sayRights, keys)
		}
		return []answer{a}
	}
	var denied []string
	for _, entry := range list {
		pair, _ := entry.([]any)
		r := reply{rest: pair}
		if a := lookUp(r.text(1)); r.text(1) != "" && a.say != sayRights {
			out = append(out, a)
			continue
		}
		denied = append(denied, r.text(0))
	}
	if len(denied) > 0 {
		more := ""
		if len(denied) > 6 {
			denied, more = denied[:6], " and others"
		}
		out = append(out, answer{remedy: remedySetup,
			say: fmt.Sprintf("%s Missing on %s: %s%s.", sayRights, keys, strings.Join(denied, ", "), more)})
	}
	return out
}

// setUp checks in the text of INFO the settings that keep recorded jobs from being lost. A
// managed server may hide INFO; its settings are taken to be right.
func setUp(info string) (out []answer) {
	is := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		is[name] = value
	}
	if is["cluster_enabled"] == "1" {
		return []answer{{remedy: remedySetup, say: sayCluster}}
	}
	if got := is["maxmemory_policy"]; got != "" && got != "noeviction" {
		out = append(out, answer{remedy: remedyOperator, say: fmt.Sprintf("Redis has maxmemory-policy %s; set it to noeviction, or jobs can be lost.", got)})
	}
	if is["aof_enabled"] == "0" {
		out = append(out, answer{remedy: remedyOperator, say: "Redis has appendonly no; set it to yes, or jobs can be lost."})
	}
	return out
}

// distinct drops repeated sentences and puts those that keep a process from starting
// first.
func distinct(all []answer) []answer {
	slices.SortFunc(all, func(a, b answer) int {
		if a.remedy != b.remedy {
			return int(b.remedy) - int(a.remedy)
		}
		return strings.Compare(a.say, b.say)
	})
	return slices.CompactFunc(all, func(a, b answer) bool { return a.say == b.say })
}
