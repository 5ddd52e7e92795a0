// Package ui holds the signup page: plain HTML, CSS and JavaScript, no build step.
//
// May import: nothing.
// Imported by: api.
package ui

import "embed"

// Files are the files of the page, with index.html.
//
//go:embed *.html *.css *.js *.svg
var Files embed.FS
