// Package nexus holds the words of the product: jobs and their states, events,
// errors, tenants, plans, signup rules, the operations a bench can do, and the
// keys that seal what is secret. It knows no database, no network and no clock
// but the one it is given.
//
// May import: the standard library only.
// Imported by: every other package.
package nexus
