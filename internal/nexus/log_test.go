package nexus_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func recovered(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

func TestPanicText(t *testing.T) {
	t.Parallel()
	const canary = "Passw0rd-of-a-person"
	var none []int
	for _, tc := range []struct {
		do   func()
		want string
	}{
		{func() { panic(canary) }, "string"},
		{func() { panic(errors.New(canary)) }, "*errors.errorString"},
		{func() { panic(nexus.Signup{Password: canary}) }, "nexus.Signup"},
		{func() { _ = none[len(none)] }, "index out of range"},
	} {
		if got := nexus.PanicText(recovered(tc.do)); !strings.Contains(got, tc.want) || strings.Contains(got, canary) {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}
