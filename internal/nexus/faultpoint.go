//go:build !faults

package nexus

// FaultPoint does nothing, except in builds with the tag faults; see faultpoint_on.go.
func FaultPoint(string) {}
