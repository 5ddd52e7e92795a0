package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	idleWarmUp = 3 * time.Second
	idleTime   = 10 * time.Second
	clockTick  = 100 // a second: USER_HZ, the same on every Linux
)

// use is what a process takes from the machine.
type use struct {
	cpu      time.Duration
	rss, pss float64 // MB
}

// idle watches the processes while there is nothing to do.
func idle(ctx context.Context, s *stack) ([]row, error) {
	if err := pause(ctx, idleWarmUp); err != nil {
		return nil, err
	}
	all := []*process{s.worker, s.api, s.peers.idle, s.peers.echo}
	before, err := uses(all)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := pause(ctx, idleTime); err != nil {
		return nil, err
	}
	after, err := uses(all)
	if err != nil {
		return nil, err
	}
	share := func(i int) float64 { return 100 * float64(after[i].cpu-before[i].cpu) / float64(time.Since(started)) }
	const cpu, memory, queue, handler = "%.1f %%", "%.1f MB", "asynq server", "Echo server"
	return []row{
		plain("idle worker, share of a core", cpu, share(0), 5, share(2), queue),
		plain("idle worker, memory (RSS)", memory, after[0].rss, 40, after[2].rss, queue),
		plain("idle worker, memory (PSS)", memory, after[0].pss, 0, after[2].pss, queue),
		plain("idle API, share of a core", cpu, share(1), 1, share(3), handler),
		plain("idle API, memory (RSS)", memory, after[1].rss, 40, after[3].rss, handler),
		plain("idle API, memory (PSS)", memory, after[1].pss, 0, after[3].pss, handler),
	}, nil
}

func uses(all []*process) (out []use, err error) {
	for _, p := range all {
		u, err := usage(p.pid())
		if err != nil {
			return nil, fmt.Errorf("%s: %w (this row needs Linux)", p.name, err)
		}
		out = append(out, u)
	}
	return out, nil
}

// usage reads /proc/<pid>/stat (fields 14 and 15 are the ticks of user and
// system time, proc(5)) and smaps_rollup (kB).
func usage(pid int) (u use, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
	for _, text := range fields[11:13] {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * time.Second / clockTick
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(rollup)); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "Rss":
			u.rss = kb / 1024
		case "Pss":
			u.pss = kb / 1024
		}
	}
	return u, nil
}
