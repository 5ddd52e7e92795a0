package bench

import (
	_ "embed"
	"encoding/json"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// sandboxKnows are the lists of Frappe 16, as the runner tells them.
//
//go:embed sandbox_knows.json
var sandboxKnows []byte

func knows() (*nexus.Knows, error) {
	var k nexus.Knows
	if err := json.Unmarshal(sandboxKnows, &k); err != nil {
		return nil, fail(nexus.Internal, nexus.OpHello, "The sandbox's lists cannot be read: %v", err)
	}
	return &k, nil
}
