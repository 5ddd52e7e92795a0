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

// schema is the version of the JSON's form. A new field does not change it.
const schema = "nexus-bench/1"

// report is the result of a run, as it is written to the JSON file.
type report struct {
	Schema      string    `json:"schema"`
	Date        time.Time `json:"date"`
	Commit      string    `json:"commit"` // ends in "-dirty" if files were changed; empty: no checkout
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

// averages are load averages of the last minute. The one before the run is the load of
// other programs; the one after it includes this run.
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

// end sets the fields that are known only at the end.
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

// commit returns the commit that is checked out; empty if there is no checkout.
func commit(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").Output()
	return strings.TrimSpace(string(out))
}

// loadAverage returns that of the last minute; zero if it cannot be read.
func loadAverage() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	average, _ := strconv.ParseFloat(first, 64)
	return average
}
