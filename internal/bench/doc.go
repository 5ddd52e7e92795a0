// Package bench carries out operations on benches, and is the only package that knows
// Frappe. It holds the sandbox (a bench in a folder, for development and tests), the
// Docker driver with the runner that works inside the bench's container, the driver of
// a single master site, and the checks of a site over HTTP.
//
// May import: internal/nexus.
// Imported by: internal/app.
package bench
