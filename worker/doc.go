// Package worker says how a job is done, whatever it does: the lease and its
// renewal, the saga with its journal, the verdict on an error, compensation,
// and the reconciler that repairs what dies. It knows no ERP word.
//
// May import: internal/nexus, internal/store, tasks.
// Imported by: internal/app.
package worker
