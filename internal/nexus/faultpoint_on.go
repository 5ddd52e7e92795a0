//go:build faults

package nexus

import (
	"os"
	"syscall"
)

// FaultPoint kills this process with SIGKILL if NEXUS_TEST_FAULT names the point. Only
// tests build with the tag faults.
func FaultPoint(name string) {
	if os.Getenv("NEXUS_TEST_FAULT") == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
}
