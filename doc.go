// Package provisioner is the root of Nexus Provisioner. It holds no code, only
// the tests that keep the rooms apart and small; see docs/ARCHITECTURE.md.
//
// May import: nothing.
// Imported by: nothing.
package provisioner
