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
	idleRun    = 8 * time.Second
	clockTick  = 100 // ticks per second: USER_HZ, the same on every Linux
)

// use is the CPU time and memory of a process.
type use struct {
	cpu      time.Duration
	rss, pss float64 // MB
}

// idle measures all processes at the same time while they have nothing to do.
func idle(ctx context.Context, s *stack) ([]row, error) {
	if err := pause(ctx, idleWarmUp); err != nil {
		return nil, err
	}
	all := []*process{s.worker, s.api, s.peers.idle, s.peers.echo}
	cpu, rss, pss := make([][]float64, len(all)), make([][]float64, len(all)), make([][]float64, len(all))
	for range s.runs {
		before, err := uses(all)
		if err != nil {
			return nil, err
		}
		started := time.Now()
		if err := pause(ctx, idleRun); err != nil {
			return nil, err
		}
		after, err := uses(all)
		if err != nil {
			return nil, err
		}
		for i := range all {
			cpu[i] = append(cpu[i], 100*float64(after[i].cpu-before[i].cpu)/float64(time.Since(started)))
			rss[i], pss[i] = append(rss[i], after[i].rss), append(pss[i], after[i].pss)
		}
	}
	var rows []row
	for i, who := range []struct {
		id, name, peer string
		cpu            float64
	}{{"worker", "idle worker", "asynq: idle server", 5}, {"api", "idle API", "Echo: idle server", 1}} {
		peer := peerFigures{What: who.peer}
		rows = append(rows,
			row{ID: "idle_" + who.id + "_cpu", What: who.name + ", share of a core", Unit: unitPercent, Peer: peer, Budget: atMost(who.cpu)}.judged(cpu[i], cpu[i+2]),
			row{ID: "idle_" + who.id + "_rss", What: who.name + ", memory (RSS)", Unit: unitMemory, Peer: peer, Budget: atMost(40)}.judged(rss[i], rss[i+2]),
			row{ID: "idle_" + who.id + "_pss", What: who.name + ", memory (PSS)", Unit: unitMemory, Peer: peer}.judged(pss[i], pss[i+2]))
	}
	return rows, nil
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
