// Package gen holds the types and routes generated from api/openapi.yaml by
// oapi-codegen; `make gen` writes it anew.
//
// May import: nothing of the product.
// Imported by: api, api/client.
package gen
