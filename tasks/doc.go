// Package tasks says what a job does: one file for each kind, with an ordered list of
// steps, each with its Do and its Undo. It also decides what the doctor finds. It does
// not know the queue, the store or Docker.
//
// May import: internal/nexus.
// Imported by: api (for the names of the steps), worker, internal/app.
package tasks
