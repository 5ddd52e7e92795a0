// Command worker does the jobs that the API records.
package main

import (
	"os"

	"github.com/nexus-erp/provisioner/internal/app"
)

func main() { os.Exit(app.Main("worker", app.Parts{Worker: true})) }
