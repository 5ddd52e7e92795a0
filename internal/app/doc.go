// Package app is the one place that sees everything: the configuration, read
// once from the environment, and the wiring that the three commands share.
//
// May import: every package of the product.
// Imported by: cmd, internal/e2e.
package app
