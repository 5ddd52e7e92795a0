// Package client calls the API. The command line uses it. A problem is returned as a
// *nexus.Error with the server's text.
//
// May import: internal/nexus, api/gen.
// Imported by: cmd/nexus, internal/e2e.
package client
