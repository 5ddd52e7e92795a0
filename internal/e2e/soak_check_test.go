//go:build service

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// keys lists the keys of Redis below a prefix, without the prefix.
func (k *soak) keys(prefix string) (out []string) {
	k.t.Helper()
	ctx := context.WithoutCancel(k.t.Context())
	all := k.rdb.Scan(ctx, 0, "{nexus}:"+prefix+"*", 1000).Iterator()
	for all.Next(ctx) {
		out = append(out, strings.TrimPrefix(all.Val(), "{nexus}:"+prefix))
	}
	if err := all.Err(); err != nil {
		k.t.Fatal(err)
	}
	return out
}

// settle waits until no job is under way.
func (k *soak) settle() {
	k.t.Helper()
	eventually(k.t, 2*time.Minute, "nothing is due any more", func() bool {
		n, err := k.rdb.ZCard(k.t.Context(), "{nexus}:due").Result()
		return err == nil && n == 0
	})
}

// nothingLost checks that every accepted job is there, over, and in the state that was
// seen last, and that every tenant that should exist has a row and a site that its key
// opens.
func (k *soak) nothingLost() {
	k.t.Helper()
	again := 0
	for id := range k.jobs {
		if slices.ContainsFunc(k.record(id).Steps, func(step nexus.Step) bool { return step.Starts > 1 }) {
			again++
		}
		if state := fromRedis(k.t, k.rdb.HGet(k.t.Context(), "{nexus}:job:"+id, "state")); !nexus.State(state).Terminal() {
			k.t.Errorf("job %s is %q", id, state)
		}
	}
	if again == 0 {
		k.t.Error("no fault met a job at work: this showed too little")
	}
	k.t.Logf("%6d  jobs were interrupted in a step and went on", again)
	for site, pair := range k.there {
		row := fromRedis(k.t, k.rdb.HGetAll(k.t.Context(), "{nexus}:tenant:"+site))
		if row["state"] != string(nexus.TenantActive) || row["job"] != "" {
			k.t.Errorf("the row of %s: %v", site, row)
		}
		if got := logged(k.t, "http://"+k.sites, site, pair); got != http.StatusOK {
			k.t.Errorf("the key of %s: %d", site, got)
		}
	}
}

// nothingTwice checks that there is no job but the accepted ones, that each ended once,
// and that no step was done twice.
func (k *soak) nothingTwice() {
	k.t.Helper()
	for _, id := range k.keys("job:") {
		if k.jobs[id] == "" && k.record(id).Fields["kind"] != string(nexus.KindStandby) { // those nobody asked for
			k.t.Errorf("nobody was promised the job %s: %v", id, k.record(id).Fields)
		}
		events, err := k.rdb.XRange(k.t.Context(), "{nexus}:events:"+id, "-", "+").Result()
		if err != nil {
			k.t.Fatal(err)
		}
		ends, done := 0, map[nexus.StepName]int{}
		for _, e := range events {
			var body nexus.Event
			text, _ := e.Values["body"].(string)
			if err := json.Unmarshal([]byte(text), &body); err != nil {
				k.t.Fatalf("%s: %v", text, err)
			}
			state, _ := e.Values["state"].(string)
			switch {
			case nexus.State(state).Terminal():
				ends++
			case body.StepState == nexus.StepDone && nexus.State(state) == nexus.Running:
				done[body.Step]++
			}
		}
		if ends != 1 {
			k.t.Errorf("job %s ended %d times: %v", id, ends, events)
		}
		for step, n := range done {
			if n > 1 {
				k.t.Errorf("job %s did %s %d times: %v", id, step, n, events)
			}
		}
	}
}

// nothingLeft checks that bench and Redis have what the existing tenants need, and
// nothing else.
func (k *soak) nothingLeft() {
	k.t.Helper()
	for room, want := range map[string]int{"sites": len(k.there), "intent": 0} {
		entries, err := os.ReadDir(filepath.Join(k.dir, "sandbox", room))
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range entries {
			if _, ok := k.there[e.Name()]; !ok || room == "intent" {
				k.t.Errorf("left in %s: %s", room, e.Name())
			}
		}
		if len(entries) != want {
			k.t.Errorf("%d in %s, want %d", len(entries), room, want)
		}
	}
	for _, site := range k.keys("tenant:") {
		if _, ok := k.there[site]; !ok {
			k.t.Errorf("a row is left of %s", site)
		}
	}
	for _, prefix := range []string{"input:", "slots:", "waiters:", "asking:", "resting:"} {
		if left := k.keys(prefix); len(left) > 0 {
			k.t.Errorf("left in Redis: %s %v", prefix, left[:min(5, len(left))])
		}
	}
	for _, id := range k.keys("credentials:") {
		if state := k.record(id).State; state != nexus.Succeeded {
			k.t.Errorf("a %s job's credentials are left", state)
		}
	}
	k.noStrangeTasks()
	if lines := k.log.all(); slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "panic") }) {
		k.t.Error("something panicked")
	}
}

// noStrangeTasks checks that each of asynq's tasks hands out a job that is recorded. A task
// is named <job>.<dispatch>.
func (k *soak) noStrangeTasks() {
	k.t.Helper()
	ctx := context.WithoutCancel(k.t.Context())
	seen := 0
	all := k.rdb.Scan(ctx, 0, "asynq:{*}:t:*", 1000).Iterator()
	for ; all.Next(ctx); seen++ {
		_, task, _ := strings.Cut(all.Val(), "}:t:")
		id, _, _ := strings.Cut(task, ".")
		if k.jobs[id] == "" && k.record(id).Fields["kind"] != string(nexus.KindStandby) {
			k.t.Errorf("asynq hands out %s, which nobody was promised", task)
		}
	}
	if err := all.Err(); err != nil || seen < len(k.jobs)/2 {
		k.t.Errorf("asynq has %d tasks, %v", seen, err)
	}
}
