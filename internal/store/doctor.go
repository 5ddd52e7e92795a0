package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

var (
	mintScript    = script("mint")
	rebuildScript = script("rebuild")
	unstickScript = script("unstick")
	restateScript = script("restate")
)

const genKey = prefix + "gen"

// MintGen makes a fencing token, above the given one too, for an operation that
// no job does: an operator's; conflict if that one is too far in the future to be ours.
// Cost: one script.
func (s *Store) MintGen(ctx context.Context, above nexus.Gen) (nexus.Gen, error) {
	r, err := s.run(ctx, "mint_gen", mintScript(), genKey, int64(above))
	switch {
	case err != nil:
		return 0, err
	case r.word == "corrupt":
		return 0, nexus.CorruptGen("store.mint_gen", above)
	}
	gen, err := strconv.ParseInt(r.text(0), 10, 64)
	if err != nil {
		return 0, classify("mint_gen", err)
	}
	return nexus.Gen(gen), nil
}

// Rebuild makes the row of a tenant whose registry was lost; conflict if the name
// has a row. Job and PurgeAt are not taken over.
func (s *Store) Rebuild(ctx context.Context, t nexus.Tenant) error {
	made := int64(0)
	if !t.CreatedAt.IsZero() {
		made = t.CreatedAt.UnixMilli()
	}
	r, err := s.run(ctx, "rebuild", rebuildScript(), tenantKey(t.Site), string(t.Site), string(t.State), string(t.Plan), t.Email,
		t.Bench, t.DB, string(t.MadeBy), made, genText(t.StateGen))
	if err == nil && r.word == "taken" {
		return refuse("rebuild", nexus.Conflict, "The registry knows %s already.", t.Site)
	}
	return err
}

// Restate sets the state of a tenant that no job is on, if its row is still as read:
// suspended with a purge date after the grace (zero: none), or active without one. Gen
// is as of when the state holds; zero leaves what is known. Conflict if the row changed.
func (s *Store) Restate(ctx context.Context, t nexus.Tenant, state nexus.TenantState, grace time.Duration, gen nexus.Gen) error {
	purge := ""
	if !t.PurgeAt.IsZero() {
		purge = strconv.FormatInt(t.PurgeAt.UnixMilli(), 10)
	}
	r, err := s.run(ctx, "restate", restateScript(), tenantKey(t.Site), string(t.Site), string(t.MadeBy), string(t.State), purge,
		string(state), grace.Milliseconds(), genText(gen))
	if err == nil && r.word == "other" {
		return refuse("restate", nexus.Conflict, "The tenant %s changed meanwhile; look again.", t.Site)
	}
	return err
}

func genText(gen nexus.Gen) string {
	if gen <= 0 {
		return ""
	}
	return strconv.FormatInt(int64(gen), 10)
}

// Unstick lets go a tenant's row that waits for a job which is over: one that was
// never active is deleted, one that was being removed is suspended. No row is a
// success; conflict if a live job is on it, or another job made it.
func (s *Store) Unstick(ctx context.Context, site nexus.SiteName, madeBy nexus.JobID) error {
	r, err := s.run(ctx, "unstick", unstickScript(), tenantKey(site), string(site), string(madeBy))
	if err == nil && r.word == "busy" {
		return refuse("unstick", nexus.Conflict, "A job works on %s.", site)
	}
	return err
}

// Look has the due index look at a job now, if it does not have it.
func (s *Store) Look(ctx context.Context, id nexus.JobID) error {
	now, err := s.rdb.Time(ctx).Result()
	if err == nil {
		err = s.rdb.ZAddNX(ctx, dueKey, redis.Z{Score: float64(now.UnixMilli()), Member: string(id)}).Err()
	}
	if err != nil {
		return classify("look", err)
	}
	return nil
}

// JobsByID reads those of the records that there are, without their steps and
// personal parts, and tells which are under way and not in the due index (or ended
// between the two looks). Cost: a round trip for each 200.
func (s *Store) JobsByID(ctx context.Context, ids []nexus.JobID) (jobs map[nexus.JobID]nexus.Job, unseen []nexus.JobID, err error) {
	jobs = make(map[nexus.JobID]nexus.Job, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), 200)
		pipe := s.rdb.Pipeline()
		rows, due := make([]*redis.SliceCmd, n), make([]*redis.FloatCmd, n)
		for i, id := range ids[:n] {
			rows[i] = pipe.HMGet(ctx, jobKey(id), "kind", "site", "state", "db", "owner")
			due[i] = pipe.ZScore(ctx, dueKey, string(id))
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) { // nil: one is not due
			return nil, nil, classify("jobs_by_id", err)
		}
		for i, id := range ids[:n] {
			var text [5]string
			for k, v := range rows[i].Val() {
				text[k], _ = v.(string)
			}
			job := nexus.Job{ID: id, Kind: nexus.Kind(text[0]), Site: nexus.SiteName(text[1]), State: nexus.State(text[2]),
				DB: text[3], Owner: nexus.JobID(text[4])}
			if job.State == "" {
				continue
			}
			jobs[id] = job
			if errors.Is(due[i].Err(), redis.Nil) && !job.State.Terminal() && job.State != nexus.RollbackFailed {
				unseen = append(unseen, id)
			}
		}
		ids = ids[n:]
	}
	return jobs, unseen, nil
}

// TenantRows reads all tenants' rows, by site name. Cost: two round trips for each
// 500, whatever their states.
func (s *Store) TenantRows(ctx context.Context) (rows []nexus.Tenant, err error) {
	const many = 500
	for from := "-"; ; {
		names, err := s.rdb.ZRangeByLex(ctx, tenantsKey, &redis.ZRangeBy{Min: from, Max: "+", Count: many}).Result()
		if err != nil {
			return nil, classify("tenant_rows", err)
		}
		found, err := s.readTenants(ctx, names)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			if row.State != "" { // else removed since
				rows = append(rows, row)
			}
		}
		if len(names) < many {
			return rows, nil
		}
		from = "(" + names[many-1]
	}
}

// Turn tells whether it is this process' turn to do what all workers do by turns:
// the first one to ask within the time has it.
func (s *Store) Turn(ctx context.Context, what string, within time.Duration) (bool, error) {
	mine, err := s.rdb.SetNX(ctx, prefix+what, "1", within).Result()
	if err != nil {
		return false, classify("turn", err)
	}
	return mine, nil
}
