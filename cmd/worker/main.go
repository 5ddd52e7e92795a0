// Command worker does the jobs that the API records.
package main

import (
	"os"
	"runtime/debug"

	"github.com/nexus-erp/provisioner/internal/app"
)

// gcPercent is GOGC unless the environment sets it. A worker uses a few megabytes of heap,
// so that Go's 100 would collect garbage many times a second.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(app.Main("worker", app.Parts{Worker: true}))
}
