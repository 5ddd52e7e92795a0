// Package store keeps jobs, tenants and sealed secrets in Redis. It has every Redis key
// and every Lua script of the product. A job's record is authoritative; asynq only
// delivers its id to a worker (dispatch.go). All keys share the hash tag {nexus}, so each
// script is a transaction.
//
// May import: internal/nexus.
// Imported by: api, worker, internal/app.
package store
