// Package client is the API as a Go program sees it: what the command line is
// made of. Problems come back as *nexus.Error with the server's own words.
//
// May import: internal/nexus, api/gen.
// Imported by: cmd/nexus, internal/e2e.
package client
