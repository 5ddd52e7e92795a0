// Package api is the edge: Echo handlers, problem+json, tokens, the signup page
// and the OpenAPI document that is the contract of it all. Nothing behind it
// knows HTTP.
//
// May import: internal/nexus, internal/store, tasks, api/gen, api/ui.
// Imported by: internal/app.
package api

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml
