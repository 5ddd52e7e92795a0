// Package tasks says what a job does: one file per kind, an ordered list of step
// rows, each with its Do and its Undo. Read a file top to bottom and you have
// read the business process. It knows neither queue nor database nor Docker.
//
// May import: internal/nexus.
// Imported by: api (for the names of the steps), worker, internal/app.
package tasks
