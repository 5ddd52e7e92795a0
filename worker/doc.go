// Package worker runs jobs of any kind: it takes and renews the lease, runs the steps of
// the saga and journals them, decides what follows an error, rolls back, and has the
// reconciler, which takes over the jobs of dead workers. It has no code about ERPNext.
//
// May import: internal/nexus, internal/store, tasks.
// Imported by: internal/app.
package worker
