package nexus_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// TestRepeats: a line that repeats is written once and then each half minute, with the number
// of lines that were left out. Other lines are written as usual.
func TestRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log, repeats := slog.New(slog.NewTextHandler(&said, nil)), nexus.Repeats{}
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for range 130 { // 32.5 s
			repeats.Log(t.Context(), log, slog.LevelWarn, "tick", "due index not read")
			<-tick.C
		}
		repeats.Log(t.Context(), log, slog.LevelWarn, "other", "something else")
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		if len(lines) != 3 || strings.Contains(lines[0], nexus.LogRepeated) || !strings.HasSuffix(lines[1], nexus.LogRepeated+"=119") || !strings.Contains(lines[2], "something else") {
			t.Errorf("%q", lines)
		}
	})
}
