// Package e2e drives the built binaries over HTTP, as customers and operators
// do, and kills them at bad moments. Its tests carry the build tag service: they
// need redis-server in PATH, and those of the stand-in bench Docker and MariaDB.
//
// May import: nothing (its tests: api/client, internal/nexus).
// Imported by: nothing.
package e2e
