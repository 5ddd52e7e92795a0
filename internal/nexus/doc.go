// Package nexus is the domain package: jobs and their states, events, errors,
// tenants, plans, signup rules, the operations of a bench, and the keys that seal
// secrets. It uses no database, no network, and no clock but the one it is given.
//
// May import: the standard library only.
// Imported by: every other package.
package nexus
