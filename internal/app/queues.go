package app

import (
	"net/http"

	"github.com/hibiken/asynqmon"

	"github.com/nexus-erp/provisioner/api"
)

// queues is asynq's own view of its queues, read-only. The payloads in it are ids of jobs
// and contain no secret.
func (a *app) queues() http.Handler {
	view := asynqmon.New(asynqmon.Options{RootPath: api.QueuesPath, RedisConnOpt: a.redis, ReadOnly: true})
	a.closers = append(a.closers, func() { _ = view.Close() })
	return view
}
