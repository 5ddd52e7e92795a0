package tasks

import (
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// rotateKey gives the tenant's admin a fresh key and secret; the old pair is dead
// at once. There is no way back: the old secret is known to nobody.
func rotateKey() Process {
	return Process{Kind: nexus.KindRotateKey, Steps: []Step{
		{Name: "api_key", Do: issueKey, Timeout: 30 * time.Second, Attempts: 4},
		{Name: "verify", Do: verify, Timeout: 15 * time.Second, Attempts: Forever},
	}}
}
