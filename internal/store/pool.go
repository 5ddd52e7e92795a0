package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func standbyKey(id nexus.JobID) string { return prefix + "standby:" + string(id) }

func standbysKey(bench string) string { return prefix + "standbys:" + bench }

func poolsKey(bench string) string { return prefix + "pools:" + bench }

func poolKey(bench, key string) string { return prefix + "pool:" + bench + " " + key }

// Shelves reads the shelves of a bench, by key. Cost: two round trips, one if there are none.
func (s *Store) Shelves(ctx context.Context, bench string) ([]nexus.Shelf, error) {
	pipe := s.rdb.Pipeline()
	now, names, members := pipe.Time(ctx), pipe.SMembers(ctx, poolsKey(bench)), pipe.SMembers(ctx, standbysKey(bench))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify("shelves", err)
	}
	keys := names.Val()
	if len(keys) == 0 {
		return nil, nil
	}
	slices.Sort(keys)
	pipe = s.rdb.Pipeline()
	pools, rows := make([]*redis.MapStringStringCmd, len(keys)), make([]*redis.MapStringStringCmd, len(members.Val()))
	for i, key := range keys {
		pools[i] = pipe.HGetAll(ctx, poolKey(bench, key))
	}
	for i, id := range members.Val() {
		rows[i] = pipe.HGetAll(ctx, standbyKey(nexus.JobID(id)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify("shelves", err)
	}
	out := make([]nexus.Shelf, len(keys))
	for i, key := range keys {
		out[i] = decodeShelf(bench, key, pools[i].Val(), now.Val())
		for j, row := range rows {
			if f := row.Val(); f["key"] == key { // none: it went meanwhile
				out[i].Standbys = append(out[i].Standbys, nexus.ShelfStandby{Job: nexus.JobID(members.Val()[j]), DB: f["db"],
					Template: nexus.SiteName(f["template"]), State: nexus.StandbyState(f["state"]), At: millis(f["at"]), Taker: nexus.JobID(f["job"])})
			}
		}
		slices.SortFunc(out[i].Standbys, func(a, b nexus.ShelfStandby) int { return a.At.Compare(b.At) })
	}
	return out, nil
}

func decodeShelf(bench, key string, f map[string]string, now time.Time) nexus.Shelf {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(f[name], 10, 64) // absent: 0
		return n
	}
	decimal := func(name string) float64 {
		x, _ := strconv.ParseFloat(f[name], 64) // absent: 0
		return x
	}
	shelf := nexus.Shelf{Bench: bench, Key: key, Kept: f["target"] != "", Target: int(number("target")), Hits: number("hits"), Misses: number("misses"),
		Detours: number("detours"), Failures: int(number("failures")), FailedAt: millis(f["failedAt"]), EmptyAt: millis(f["emptyAt"]), Now: now.UTC(),
		Drained: f["drained"] == "1", AtLeast: int(number("atLeast")), Until: millis(f["until"]),
		Demand: nexus.Demand{Build: time.Duration(number("build")) * time.Millisecond}}
	if at := millis(f["at"]); !at.IsZero() {
		shelf.Demand = shelf.Demand.Decayed(decimal("hour"), decimal("minutes"), now.Sub(at))
	}
	return shelf
}

// millis decodes a time in ms; the zero time if there is none.
func millis(text string) time.Time {
	n, _ := strconv.ParseInt(text, 10, 64) // absent: 0
	if n <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

// MakeStandby is the submission of a job that makes a standby for a shelf of a bench, unless
// the shelf has as many as most. The caller adds the actor.
func MakeStandby(bench string, template nexus.Template, install nexus.InstallID, most int, steps []nexus.StepName, giveUp time.Duration) Submission {
	id := nexus.NewJobID()
	return Submission{ID: id, Kind: nexus.KindStandby, Site: nexus.StandbyName(id), Steps: steps,
		Spec: nexus.Spec{Template: template.Spec, Apps: template.Apps}, Build: template.Spec.Key(template.Apps), Bench: bench,
		DB: id.Database(install), Template: template.Name, Most: most, GiveUpAfter: giveUp}
}

// editShelf changes fields of a shelf, which is listed from then on.
func (s *Store) editShelf(ctx context.Context, op, bench, key string, edit func(pipe redis.Pipeliner, pool string)) error {
	pipe := s.rdb.TxPipeline()
	pipe.SAdd(ctx, poolsKey(bench), key)
	edit(pipe, poolKey(bench, key))
	if _, err := pipe.Exec(ctx); err != nil {
		return classify(op, err)
	}
	return nil
}

// SetTarget writes how many standbys a shelf is to hold. The first call for a shelf begins to
// count its signups.
func (s *Store) SetTarget(ctx context.Context, bench, key string, target int) error {
	return s.editShelf(ctx, "set_target", bench, key, func(pipe redis.Pipeliner, pool string) { pipe.HSet(ctx, pool, "target", target) })
}

// LeaveShelf says that no worker keeps a shelf any more, so its signups are not counted.
func (s *Store) LeaveShelf(ctx context.Context, bench, key string) error {
	if err := s.rdb.HDel(ctx, poolKey(bench, key), "target").Err(); err != nil {
		return classify("leave_shelf", err)
	}
	return nil
}

// FillShelf ends a drain of a shelf, and has it hold this many standbys at least for a time.
func (s *Store) FillShelf(ctx context.Context, bench, key string, atLeast int, d time.Duration) error {
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return classify("fill_shelf", err)
	}
	return s.editShelf(ctx, "fill_shelf", bench, key, func(pipe redis.Pipeliner, pool string) {
		pipe.HSet(ctx, pool, "atLeast", atLeast, "until", now.Add(d).UnixMilli())
		pipe.HDel(ctx, pool, "drained", "failures")
	})
}

// DrainShelf has workers drop the standbys of a shelf and make none, until FillShelf.
func (s *Store) DrainShelf(ctx context.Context, bench, key string) error {
	return s.editShelf(ctx, "drain_shelf", bench, key, func(pipe redis.Pipeliner, pool string) {
		pipe.HSet(ctx, pool, "drained", "1")
		pipe.HDel(ctx, pool, "atLeast", "until")
	})
}

// ForgiveDetours sets the count of a shelf's detours to zero, before bench and registry are
// compared.
func (s *Store) ForgiveDetours(ctx context.Context, bench, key string) error {
	if err := s.rdb.HDel(ctx, poolKey(bench, key), "detours").Err(); err != nil {
		return classify("forgive_detours", err)
	}
	return nil
}

// Reap takes a standby away from all signups, so that it may be dropped. Conflict while a job
// makes or claims it.
func (s *Store) Reap(ctx context.Context, id nexus.JobID) error {
	r, err := s.run(ctx, "reap", reapScript(), standbyKey(id), string(id))
	if err == nil && r.word == "busy" {
		err = conflict("reap", nexus.ReasonBusy, "A job makes this standby, or gives it to a signup.")
	}
	return err
}

// Reaped forgets a standby that was taken away and is dropped.
func (s *Store) Reaped(ctx context.Context, id nexus.JobID) error {
	_, err := s.run(ctx, "reaped", reapedScript(), standbyKey(id), string(id))
	return err
}

// Reshelve puts a standby of a bench on its shelf, unless the registry has it in a state after
// making or a job makes it; then it does nothing.
func (s *Store) Reshelve(ctx context.Context, bench string, standby nexus.Standby) error {
	_, err := s.run(ctx, "reshelve", reshelveScript(), standbyKey(standby.Job), string(standby.Job), bench,
		standby.Spec.Key(standby.Apps), string(standby.Template), standby.DB)
	return err
}

const (
	emptyLong  = time.Minute // a shelf may be empty for
	manyFailed = 3           // jobs in a row that failed to make a standby are worth a warning
)

// shelfWarning is a sentence on a shelf that holds nothing although it should; nil: none.
func shelfWarning(shelf nexus.Shelf) []string {
	wants := shelf.Kept && !shelf.Drained && (shelf.Target > 0 || shelf.Now.Before(shelf.Until))
	switch {
	case !wants:
	case shelf.Failures >= manyFailed:
		return []string{fmt.Sprintf("The last %d jobs that make copies of the template %s on the bench %s failed, so too few are kept ready; nexus jobs list --kind standby --state failed shows them.",
			shelf.Failures, shelf.Spec(), shelf.Bench)}
	case !shelf.EmptyAt.IsZero() && shelf.Now.Sub(shelf.EmptyAt) > emptyLong:
		return []string{fmt.Sprintf("No copy of the template %s has been ready on the bench %s since %s, so signups take longer; nexus pool show tells more.",
			shelf.Spec(), shelf.Bench, shelf.EmptyAt.Format(time.RFC3339))}
	}
	return nil
}
