// Package app reads the configuration from the environment and connects the other
// packages to processes: the API, the workers, and the commands of an operator.
//
// May import: every package of the product.
// Imported by: cmd, internal/e2e.
package app
