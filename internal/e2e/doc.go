// Package e2e tests the built programs over HTTP, as customers and operators use them, and
// kills them at bad moments. Its tests have the build tag service: they need redis-server
// in PATH, and those of the stand-in bench Docker and MariaDB.
//
// May import: nothing (its tests: api/client, internal/nexus).
// Imported by: nothing.
package e2e
