// Package store is the memory of the product: every Redis key and every Lua
// script there is. The record it keeps is the truth about a job; asynq only
// delivers "now" (dispatch.go). All keys share the hash tag {nexus}, so that one
// script is one transaction.
//
// May import: internal/nexus.
// Imported by: api, worker, internal/app.
package store
