//go:build !faults

package nexus

// FaultPoint is a place where a test build can be made to die; here it is
// nothing. See faultpoint_on.go.
func FaultPoint(string) {}
