// Package bench is the hands of the product, and the only place that knows
// Frappe: the sandbox (a bench in a folder, for development and tests), the
// Docker driver with the runner that works inside the bench's container, and
// the HTTP verification both share.
//
// May import: internal/nexus.
// Imported by: internal/app.
package bench
