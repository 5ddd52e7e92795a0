package app_test

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// shelfBench answers Hello with a schema, counts how often it was asked, and refuses
// everything else.
type shelfBench struct {
	schema        int
	hellos, lists int
	hello         func() // called with each Hello, unless nil
}

func (b *shelfBench) Run(_ context.Context, op nexus.Op) (nexus.Result, error) {
	switch op.Args.(type) {
	case nexus.Hello:
		if b.hellos++; b.hello != nil {
			b.hello()
		}
		return nexus.Result{Hello: &nexus.HelloResult{Schema: b.schema}}, nil
	case nexus.Standbys:
		b.lists++
	}
	return nexus.Result{}, &nexus.Error{Code: nexus.Unavailable, Op: "bench", Msg: "Away."}
}

// keptFor keeps the shelves of a bench for a time, and returns the jobs that were submitted,
// and the log.
func keptFor(t *testing.T, d time.Duration, m *miniredis.Miniredis, driver *shelfBench) (jobs int, log string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), ReadTimeout: -1, WriteTimeout: -1})
		defer rdb.Close() //nolint:errcheck // only a test
		st := store.New(rdb, store.Options{Embedded: true})
		if err := st.AnnounceBench(t.Context(), "backend"); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		c := app.Config{Bench: "docker", Service: "backend", Pool: "2", PoolBytes: "10GiB", Apps: []string{"erpnext"}, ProvisionTimeout: time.Hour}
		go func() {
			ended <- app.KeepPool(ctx, c, slog.New(slog.NewTextHandler(&out, nil)), st, driver,
				nexus.Template{Name: frozen, Job: lost, Spec: nexus.TemplatePlain, Apps: c.Apps, MadeAt: time.Now()})
		}()
		<-time.After(d)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		m.SetError("")
		all, _, err := st.Jobs(t.Context(), store.JobFilter{Kind: nexus.KindStandby})
		if err != nil {
			t.Error(err)
		}
		jobs, log = len(all), out.String()
	})
	return jobs, log
}

// TestKeepPoolDead: a bench that does not answer is asked each minute, and the log says so a
// few times.
func TestKeepPoolDead(t *testing.T) {
	t.Parallel()
	driver := &shelfBench{schema: 4}
	jobs, log := keptFor(t, 10*time.Minute, miniredis.RunT(t), driver)
	if said := strings.Count(log, "standbys of the bench not kept"); driver.lists < 5 || driver.lists > 11 || said < 1 || said > driver.lists {
		t.Errorf("listed %d times, logged %d times", driver.lists, said)
	}
	if jobs != 2 {
		t.Errorf("%d jobs, since a bench that is away is the jobs' trouble", jobs)
	}
}

// TestKeepPoolOld: a database that has no procedures of standbys gets none, and is not listed.
func TestKeepPoolOld(t *testing.T) {
	t.Parallel()
	driver := &shelfBench{schema: 3}
	if jobs, log := keptFor(t, 3*time.Minute, miniredis.RunT(t), driver); jobs > 0 || driver.lists > 0 || driver.hellos < 3 || driver.hellos > 4 || log != "" {
		t.Errorf("%d jobs, listed %d times, %d hellos, logged %q", jobs, driver.lists, driver.hellos, log)
	}
}

// TestKeepPoolWithoutRedis: a registry that is away is asked less and less often.
func TestKeepPoolWithoutRedis(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	driver := &shelfBench{schema: 4}
	driver.hello = func() { m.SetError("LOADING") }
	_, log := keptFor(t, 10*time.Minute, m, driver)
	errors := strings.Count(log, "standbys of the bench not kept")
	for _, left := range regexp.MustCompile(`left_out=(\d+)`).FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(left[1]) // digits
		errors += n
	}
	if errors < 5 || errors > 20 {
		t.Errorf("%d errors in ten minutes: %s", errors, log)
	}
}
