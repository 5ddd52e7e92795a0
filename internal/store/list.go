package store

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// JobFilter says which jobs to list: newest first, at most Limit (1–200, 0: 50)
// from an earlier list's cursor on. Empty State and Kind mean any.
type JobFilter struct {
	State  nexus.State
	Kind   nexus.Kind
	Cursor string
	Limit  int
}

// Jobs lists jobs; next is empty on the last page. Invalid: a cursor that is
// none of ours. Cost: one range and one HGETALL a job looked at.
func (s *Store) Jobs(ctx context.Context, f JobFilter) (jobs []nexus.Job, next string, err error) {
	limit, after, err := page(f.Limit, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	// A page is counted in places of the index, not in hits: a rare state costs
	// bounded work per call, and an empty page with a cursor is a valid answer.
	const look = 500
	upper := "+inf"
	if after != "" {
		var ok bool
		upper, _, ok = strings.Cut(after, "/")
		if _, err := strconv.ParseUint(upper, 10, 63); err != nil || !ok {
			return nil, "", badCursor(err)
		}
	}
	entries, err := s.rdb.ZRevRangeByScoreWithScores(ctx, jobsKey, &redis.ZRangeBy{Min: "-inf", Max: upper, Count: look}).Result()
	if err != nil {
		return nil, "", classify("jobs", err)
	}
	for _, entry := range entries {
		id, _ := entry.Member.(string)
		place := strconv.FormatFloat(entry.Score, 'f', -1, 64) + "/" + id
		if after != "" && !before(place, after) {
			continue
		}
		job, err := s.Job(ctx, nexus.JobID(id))
		if nexus.CodeOf(err) == nexus.NotFound { // its time to live is over
			s.rdb.ZRem(ctx, jobsKey, id)
			continue
		}
		if err != nil {
			return nil, "", err
		}
		next = place
		if (f.State == "" || job.State == f.State) && (f.Kind == "" || job.Kind == f.Kind) {
			if jobs = append(jobs, job); len(jobs) == limit {
				return jobs, cursor(next), nil
			}
		}
	}
	if len(entries) < look {
		next = ""
	}
	return jobs, cursor(next), nil
}

// before tells whether a place comes after the cursor in the listing: older, or
// of the same millisecond with a smaller id (the index' own order, reversed).
func before(place, after string) bool {
	score, id, _ := strings.Cut(place, "/")
	otherScore, otherID, _ := strings.Cut(after, "/")
	if score == otherScore {
		return id < otherID
	}
	return len(score) < len(otherScore) || (len(score) == len(otherScore) && score < otherScore)
}

// TenantFilter says which tenants to list, by name; see JobFilter.
type TenantFilter struct {
	State  nexus.TenantState
	Cursor string
	Limit  int
}

// Tenants lists tenants by site name; next is empty on the last page.
func (s *Store) Tenants(ctx context.Context, f TenantFilter) (tenants []nexus.Tenant, next string, err error) {
	limit, after, err := page(f.Limit, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	const look = 500
	from := "-"
	if after != "" {
		from = "(" + after
	}
	names, err := s.rdb.ZRangeByLex(ctx, tenantsKey, &redis.ZRangeBy{Min: from, Max: "+", Count: look}).Result()
	if err != nil {
		return nil, "", classify("tenants", err)
	}
	for _, name := range names {
		tenant, err := s.Tenant(ctx, nexus.SiteName(name))
		if nexus.CodeOf(err) == nexus.NotFound {
			continue // deleted since
		}
		if err != nil {
			return nil, "", err
		}
		next = name
		if f.State == "" || tenant.State == f.State {
			if tenants = append(tenants, tenant); len(tenants) == limit {
				return tenants, cursor(next), nil
			}
		}
	}
	if len(names) < look {
		next = ""
	}
	return tenants, cursor(next), nil
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
	times, err := decodeJob(map[string]string{"createdAt": f["createdAt"], "nextAt": f["purgeAt"]})
	if err != nil {
		return nexus.Tenant{}, err
	}
	return nexus.Tenant{
		Site: site, State: nexus.TenantState(f["state"]), Plan: nexus.PlanName(f["plan"]), Email: f["email"],
		Bench: f["bench"], DB: f["db"], MadeBy: nexus.JobID(f["madeBy"]), Job: nexus.JobID(f["job"]),
		PurgeAt: times.NextAt, CreatedAt: times.CreatedAt,
	}, nil
}

// SiteFree tells whether a site's name can be taken now.
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

func badCursor(err error) error {
	return &nexus.Error{Code: nexus.Invalid, Op: "store.list", Err: err, Msg: "This cursor is not one of ours; start the list anew without it."}
}

func cursor(place string) string { return base64.RawURLEncoding.EncodeToString([]byte(place)) }
