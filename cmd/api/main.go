// Command api serves the HTTP API and the signup page.
package main

import (
	"os"

	"github.com/nexus-erp/provisioner/internal/app"
)

func main() { os.Exit(app.Main("api", app.Parts{API: true})) }
