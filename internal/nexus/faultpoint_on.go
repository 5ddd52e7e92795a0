//go:build faults

package nexus

import (
	"os"
	"syscall"
)

// FaultPoint kills this process, as kill -9 would, if NEXUS_TEST_FAULT names the
// point. Only builds with the tag faults have it; they are never shipped.
func FaultPoint(name string) {
	if os.Getenv("NEXUS_TEST_FAULT") == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
}
