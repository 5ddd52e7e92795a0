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

// MintGen mints a fencing token, above the given one, for an operator's operation outside
// of a job; conflict if the given one is too far in the future to be genuine. Cost: one
// script.
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

// Rebuild writes the row of a tenant after the registry was lost; conflict if the name has
// a row. Job and PurgeAt are ignored.
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

// Restate sets the state of a tenant that no job holds, if its row is still as read. A
// suspended tenant gets a purge date after the grace (zero: none), an active one has none.
// Gen is the token of the change; zero keeps the present one. Conflict if the row has
// changed.
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

// Unstick frees a tenant's row whose job is over: a row that was never active is deleted,
// a row in removal becomes suspended. A missing row is a success; conflict if a live job
// holds the tenant, or another job made it.
func (s *Store) Unstick(ctx context.Context, site nexus.SiteName, madeBy nexus.JobID) error {
	r, err := s.run(ctx, "unstick", unstickScript(), tenantKey(site), string(site), string(madeBy))
	if err == nil && r.word == "busy" {
		return refuse("unstick", nexus.Conflict, "A job works on %s.", site)
	}
	return err
}

// Look adds a job to the due index, as due now, if it is not in it.
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

// JobsByID reads the records that exist, without steps and personal data. Unseen are the
// jobs that are neither over nor parked and are still missing in the due index; a job that
// ended between the two reads may be among them. Cost: a round trip for each 200.
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
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: a job is not in the due index
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

// TenantRows reads the rows of all tenants, of any state, by site name. Cost: two round
// trips for each 500.
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
			if row.State != "" { // else it was removed since
				rows = append(rows, row)
			}
		}
		if len(names) < many {
			return rows, nil
		}
		from = "(" + names[many-1]
	}
}

// Turn tells whether this process is to do a periodic task that one process does for all:
// the first caller within the time gets true.
func (s *Store) Turn(ctx context.Context, what string, within time.Duration) (bool, error) {
	mine, err := s.rdb.SetNX(ctx, prefix+what, "1", within).Result()
	if err != nil {
		return false, classify("turn", err)
	}
	return mine, nil
}
