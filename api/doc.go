// Package api is the HTTP API: Echo handlers, problem+json, tokens, the signup page, and
// the OpenAPI document, which is the contract. No other package knows HTTP.
//
// May import: internal/nexus, internal/store, tasks, api/gen, api/ui.
// Imported by: internal/app.
package api

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml
