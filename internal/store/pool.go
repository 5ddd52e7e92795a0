package store

import (
	"context"
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

// SetTarget writes how many standbys a shelf is to hold. The first call for a shelf begins to
// count its signups.
func (s *Store) SetTarget(ctx context.Context, bench, key string, target int) error {
	pipe := s.rdb.TxPipeline()
	pipe.SAdd(ctx, poolsKey(bench), key)
	pipe.HSet(ctx, poolKey(bench, key), "target", target)
	if _, err := pipe.Exec(ctx); err != nil {
		return classify("set_target", err)
	}
	return nil
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
	if err == nil {
		pipe := s.rdb.TxPipeline()
		pipe.SAdd(ctx, poolsKey(bench), key)
		pipe.HSet(ctx, poolKey(bench, key), "atLeast", atLeast, "until", now.Add(d).UnixMilli())
		pipe.HDel(ctx, poolKey(bench, key), "drained", "failures")
		_, err = pipe.Exec(ctx)
	}
	if err != nil {
		return classify("fill_shelf", err)
	}
	return nil
}

// DrainShelf has workers drop the standbys of a shelf and make none, until FillShelf.
func (s *Store) DrainShelf(ctx context.Context, bench, key string) error {
	pipe := s.rdb.TxPipeline()
	pipe.SAdd(ctx, poolsKey(bench), key)
	pipe.HSet(ctx, poolKey(bench, key), "drained", "1")
	pipe.HDel(ctx, poolKey(bench, key), "atLeast", "until")
	if _, err := pipe.Exec(ctx); err != nil {
		return classify("drain_shelf", err)
	}
	return nil
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
