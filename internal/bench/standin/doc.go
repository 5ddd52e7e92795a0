// Package standin starts the stand-in bench of this folder for tests: a
// container that looks like a Frappe bench, on a real MariaDB and real Redis.
//
// May import: internal/nexus.
// Imported by: the tests of internal/bench and internal/e2e.
package standin
