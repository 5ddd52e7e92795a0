package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// JobFilter says which jobs to list, newest first: at most Limit (1–200; 0: 50), from the
// cursor of an earlier list on. An empty State or Kind means any.
type JobFilter struct {
	State  nexus.State
	Kind   nexus.Kind
	Cursor string
	Limit  int
}

// lists returns the names of the indexes that together hold the jobs of a filter. A former
// version may have left entries in a wrong index; the reader skips them.
func (f JobFilter) lists() (out []string) {
	if f.State == "" && f.Kind == "" {
		return []string{jobsKey}
	}
	kinds, states := []nexus.Kind{f.Kind}, []nexus.State{f.State}
	if f.Kind == "" {
		kinds = nexus.Kinds()
	}
	if f.State == "" {
		states = nexus.States()
	}
	for _, kind := range kinds {
		for _, state := range states {
			out = append(out, stateIndex(kind, state))
		}
	}
	return out
}

// place is a job's position in a list: newest first, and within one millisecond the
// greatest id first, which is Redis' order reversed.
type place struct {
	at   float64
	id   string
	list string
}

func (p place) compare(other place) int {
	if p.at != other.at {
		return cmp.Compare(other.at, p.at)
	}
	return strings.Compare(other.id, p.id)
}

func (p place) text() string { return strconv.FormatFloat(p.at, 'f', -1, 64) + "/" + p.id }

// Jobs lists jobs. Next is empty on the last page; every other page is full. Invalid: the
// cursor was not made here. Cost: two round trips, more where records have expired.
func (s *Store) Jobs(ctx context.Context, f JobFilter) (jobs []nexus.Job, next string, err error) {
	limit, text, err := page(f.Limit, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	after := place{at: math.Inf(1)}
	if text != "" {
		score, id, ok := strings.Cut(text, "/")
		at, err := strconv.ParseUint(score, 10, 63)
		if err != nil || !ok {
			return nil, "", badCursor(err)
		}
		after = place{at: float64(at), id: id}
	}
	if err := s.listed(ctx); err != nil {
		return nil, "", err
	}
	for ahead := limit + 1; ; {
		places, whole, err := s.places(ctx, f.lists(), after, ahead)
		if err != nil {
			return nil, "", err
		}
		if len(places) == 0 && !whole { // more jobs of one millisecond than were read
			ahead *= 4
			continue
		}
		for chunk := range slices.Chunk(places, limit+1) {
			found, err := s.readJobs(ctx, chunk)
			if err != nil {
				return nil, "", err
			}
			for i, job := range found {
				if (f.State != "" && job.State != f.State) || (f.Kind != "" && job.Kind != f.Kind) || job.ID == "" {
					continue
				}
				if len(jobs) == limit {
					return jobs, cursor(after.text()), nil
				}
				jobs, after = append(jobs, job), chunk[i]
			}
		}
		if whole {
			return jobs, "", nil
		}
		after = places[len(places)-1]
	}
}

// places reads the positions after a given one, in order; it reads about `ahead` of each
// index. Whole tells that there are no more. Cost: one round trip.
func (s *Store) places(ctx context.Context, lists []string, after place, ahead int) (out []place, whole bool, err error) {
	upper := "+inf"
	if !math.IsInf(after.at, 1) {
		upper = strconv.FormatFloat(after.at, 'f', -1, 64)
	}
	pipe := s.rdb.Pipeline()
	ranges := make([]*redis.ZSliceCmd, len(lists))
	for i, list := range lists {
		ranges[i] = pipe.ZRevRangeByScoreWithScores(ctx, list, &redis.ZRangeBy{Min: "-inf", Max: upper, Count: int64(ahead)})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, classify("jobs", err)
	}
	// An index that was not read to its end may have unread entries that come before the last
	// entries of the others, so the result ends where the first such index was left.
	horizon := place{at: math.Inf(-1)}
	whole = true
	for i, r := range ranges {
		entries := r.Val()
		for _, entry := range entries {
			id, _ := entry.Member.(string)
			if p := (place{entry.Score, id, lists[i]}); after.compare(p) < 0 {
				out = append(out, p)
			}
		}
		if len(entries) == ahead {
			last := entries[ahead-1]
			id, _ := last.Member.(string)
			if end := (place{at: last.Score, id: id}); end.compare(horizon) < 0 {
				horizon = end
			}
			whole = false
		}
	}
	slices.SortFunc(out, place.compare)
	if !whole {
		out = slices.DeleteFunc(out, func(p place) bool { return p.compare(horizon) > 0 })
	}
	return out, whole, nil
}

// readJobs reads the records at these positions. An expired record is empty, and its
// entry is removed; a record in the index of another state is moved. Cost: one round trip.
func (s *Store) readJobs(ctx context.Context, at []place) ([]nexus.Job, error) {
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.MapStringStringCmd, len(at))
	for i, p := range at {
		rows[i] = pipe.HGetAll(ctx, jobKey(nexus.JobID(p.id)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify("jobs", err)
	}
	jobs := make([]nexus.Job, len(at))
	var gone []place
	for i, row := range rows {
		var err error
		if len(row.Val()) == 0 {
			gone = append(gone, at[i])
		} else if jobs[i], err = decodeJob(row.Val()); err != nil {
			return nil, err
		}
		if list := at[i].list; len(row.Val()) > 0 && list != jobsKey && list != stateIndex(jobs[i].Kind, jobs[i].State) {
			_ = s.reindex(ctx, list, "job", stateOf(list), at[i].id) // else the next look does it
		}
	}
	if len(gone) > 0 {
		pipe := s.rdb.Pipeline()
		for _, p := range gone {
			pipe.ZRem(ctx, p.list, p.id)
		}
		_, _ = pipe.Exec(ctx) // else the next look does it
	}
	return jobs, nil
}

// TenantFilter says which tenants to list, by name; see JobFilter.
type TenantFilter struct {
	State  nexus.TenantState
	Cursor string
	Limit  int
}

// Tenants lists tenants by site name. Next is empty on the last page; every other page is
// full. Cost: two round trips, more where rows are gone.
func (s *Store) Tenants(ctx context.Context, f TenantFilter) (tenants []nexus.Tenant, next string, err error) {
	limit, after, err := page(f.Limit, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	list := tenantsKey
	if f.State != "" {
		list += ":" + string(f.State)
	}
	if err := s.listed(ctx); err != nil {
		return nil, "", err
	}
	for {
		from := "-"
		if after != "" {
			from = "(" + after
		}
		names, err := s.rdb.ZRangeByLex(ctx, list, &redis.ZRangeBy{Min: from, Max: "+", Count: int64(limit + 1)}).Result()
		if err != nil {
			return nil, "", classify("tenants", err)
		}
		found, err := s.readTenants(ctx, names)
		if err != nil {
			return nil, "", err
		}
		for _, tenant := range found {
			if f.State != "" && tenant.State != f.State || tenant.State == "" {
				continue // removed since the index was read, or changed by a former version
			}
			if len(tenants) == limit {
				return tenants, cursor(after), nil
			}
			tenants, after = append(tenants, tenant), string(tenant.Site)
		}
		if len(names) <= limit {
			return tenants, "", nil
		}
		after = names[len(names)-1]
	}
}

// readTenants reads the rows of these sites; a missing row has no state. Cost: one round
// trip.
func (s *Store) readTenants(ctx context.Context, names []string) ([]nexus.Tenant, error) {
	if len(names) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	rows := make([]*redis.MapStringStringCmd, len(names))
	for i, name := range names {
		rows[i] = pipe.HGetAll(ctx, tenantKey(nexus.SiteName(name)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify("tenants", err)
	}
	out := make([]nexus.Tenant, len(names))
	for i, row := range rows {
		var err error
		if out[i], err = decodeTenant(nexus.SiteName(names[i]), row.Val()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Tenant reads one row; not_found if there is none.
func (s *Store) Tenant(ctx context.Context, site nexus.SiteName) (nexus.Tenant, error) {
	f, err := s.rdb.HGetAll(ctx, tenantKey(site)).Result()
	if err != nil {
		return nexus.Tenant{}, classify("tenant", err)
	}
	if len(f) == 0 {
		return nexus.Tenant{}, refuse("tenant", nexus.NotFound, "There is no tenant %s.", site)
	}
	return decodeTenant(site, f)
}

func decodeTenant(site nexus.SiteName, f map[string]string) (nexus.Tenant, error) {
	numbers, err := decodeJob(map[string]string{"createdAt": f["createdAt"], "nextAt": f["purgeAt"], "gen": f["stateGen"]})
	if err != nil {
		return nexus.Tenant{}, err
	}
	return nexus.Tenant{
		Site: site, State: nexus.TenantState(f["state"]), Plan: nexus.PlanName(f["plan"]), Email: f["email"],
		Bench: f["bench"], DB: f["db"], MadeBy: nexus.JobID(f["madeBy"]), Job: nexus.JobID(f["job"]),
		PurgeAt: numbers.NextAt, StateGen: numbers.Gen, CreatedAt: numbers.CreatedAt,
		Road: nexus.Road(f["road"]), Template: nexus.SiteName(f["template"]),
	}, nil
}

// SiteFree tells whether a site's name is free now.
func (s *Store) SiteFree(ctx context.Context, site nexus.SiteName) (bool, error) {
	n, err := s.rdb.Exists(ctx, tenantKey(site), restingKey+string(site)).Result()
	if err != nil {
		return false, classify("site_free", err)
	}
	return n == 0, nil
}

func page(limit int, from string) (int, string, error) {
	if limit <= 0 {
		limit = 50
	}
	text, err := base64.RawURLEncoding.DecodeString(from)
	if err != nil {
		return 0, "", badCursor(err)
	}
	return min(limit, 200), string(text), nil
}

const sayCursor = "This cursor is not one of ours; start the list anew without it."

func badCursor(err error) error {
	return &nexus.Error{Code: nexus.Invalid, Op: "store.list", Err: err, Msg: sayCursor, Fields: []nexus.FieldError{{Field: "cursor", Message: sayCursor}}}
}

func cursor(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }
