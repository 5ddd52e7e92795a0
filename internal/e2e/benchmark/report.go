package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// schema names the shape of the JSON. What only adds a field keeps it.
const schema = "nexus-bench/1"

// report is all that a run found, as it is written.
type report struct {
	Schema      string    `json:"schema"`
	Date        time.Time `json:"date"`
	Commit      string    `json:"commit"` // "-dirty" behind it: with changes; empty: no checkout
	Go          string    `json:"go"`
	Redis       string    `json:"redis"`
	OS          string    `json:"os"`
	Arch        string    `json:"arch"`
	Cores       int       `json:"cores"`
	Load        averages  `json:"load"`
	Runs        int       `json:"runs"`
	Seconds     float64   `json:"seconds"`
	Rows        []row     `json:"rows"`
	NotMeasured []absent  `json:"notMeasured"`
}

// averages are load averages of the last minute: before the run it is that of
// others, after it ours as well.
type averages struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// absent is a budget that this program cannot measure.
type absent struct {
	ID     string `json:"id"`
	What   string `json:"what"`
	Budget string `json:"budget"`
}

func newReport(ctx context.Context, runs int) *report {
	return &report{Schema: schema, Date: time.Now().UTC().Truncate(time.Second), Commit: commit(ctx), Go: runtime.Version(),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Load: averages{Before: loadAverage()}, Runs: runs, Rows: []row{},
		NotMeasured: []absent{
			{ID: "real_standby_p50", What: "real bench: form → verified key, from standby, p50", Budget: "≤ 0.35 s"},
			{ID: "real_clone_p50", What: "real bench: form → verified key, from a clone, p50", Budget: "≤ 3 s"},
			{ID: "real_rate", What: "real bench: tenants, sustained on 2 cores", Budget: "≥ 1500/h"},
		}}
}

// end notes what is known at the end only.
func (r *report) end(ctx context.Context, rdb *redis.Client) {
	r.Seconds, r.Load.After = float64(time.Since(r.Date).Milliseconds())/1000, loadAverage()
	info, _ := rdb.Info(ctx, "server").Result()
	_, rest, _ := strings.Cut(info, "redis_version:")
	r.Redis, _, _ = strings.Cut(rest, "\r\n")
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// commit is what is checked out here; empty where git knows nothing.
func commit(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").Output()
	return strings.TrimSpace(string(out))
}

// loadAverage is that of the last minute; zero where there is none to read.
func loadAverage() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	average, _ := strconv.ParseFloat(first, 64)
	return average
}
