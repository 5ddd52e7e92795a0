package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

var leftScript = script("left")

const leftKey = prefix + "left"

// mostLeft is the most jobs whose reason is recorded.
const mostLeft = 20

// NoteLeft records, in a sentence, why the worker that got this dispatch leaves the job
// alone. It is shown until a worker takes the job. Cost: one script.
func (s *Store) NoteLeft(ctx context.Context, id nexus.JobID, dispatch int64, why string) error {
	_, err := s.run(ctx, "note_left", leftScript(), jobKey(id), string(id), dispatch, why, eventBody(nexus.Event{Note: why}), mostLeft)
	return err
}

// leftWarnings returns sentences about the jobs that workers left alone.
func (s *Store) leftWarnings(ctx context.Context) (out []string) {
	left, err := s.rdb.HGetAll(ctx, leftKey).Result()
	if err != nil || len(left) == 0 {
		return nil
	}
	ids := make([]nexus.JobID, 0, len(left))
	for id := range left {
		ids = append(ids, nexus.JobID(id))
	}
	slices.Sort(ids)
	jobs, _, err := s.JobsByID(ctx, ids)
	if err != nil {
		return nil
	}
	for _, id := range ids {
		if job, known := jobs[id]; known && !job.State.Terminal() {
			out = append(out, fmt.Sprintf("The job %s (%s of %s) stands still: %s", id, job.Kind, job.Site, left[string(id)]))
		} else {
			s.rdb.HDel(ctx, leftKey, string(id))
		}
	}
	return out
}
