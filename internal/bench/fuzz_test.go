package bench_test

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// FuzzConn sends anything from the runner while an operation waits: the connection must
// stay open, and the answer that follows must be found.
func FuzzConn(f *testing.F) {
	for _, seed := range []string{"", "\n", "junk\n", "{\n", "{}\n", "null\n", "[1]\n", `{"id":"1"}` + "\n", `{"id":1,"ok":"yes"}` + "\n", `{"id":"1","event":"progress","percent":1e9}` + "\n",
		`{"id":"1","event":"progress","message":7}` + "\n", `{"event":"hello","protocol":9}` + "\n" + `{"event":"hello"}` + "\n", `{"event":"hello","apps":7}` + "\n",
		`{"id":"1","ok":false,"error":{"code":7}}` + "\n", `{"id":"1","ok":true,"result":{"site":{"made_at":"yesterday"}}}` + "\n", `{"id":"1","ok":false,"error":{"seen":"-9"}}` + "\n",
		"\x00\xff\xfe\n", strings.Repeat("[", 20_000) + "\n", strings.Repeat("x", 1<<20) + "\n", `{"id":"` + strings.Repeat("1", 1<<17) + `"}` + "\n", `{"id":"1","ok":tr`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		driver, _, err := bench.Attach(t.Context(), bench.DockerOptions{Service: "none", Log: slog.New(slog.DiscardHandler)}, ours, false)
		if err != nil {
			t.Fatal(err)
		}
		drained := make(chan struct{})
		asked := make(chan struct{})
		go func() {
			defer close(drained)
			first := make([]byte, 1)
			if _, err := theirs.Read(first); err == nil {
				close(asked)
			}
			_, _ = io.Copy(io.Discard, theirs) // until it is closed
		}()
		done := make(chan error, 1)
		go func() {
			op := inspect
			op.Progress = func(string, int) {}
			_, err := driver.Run(t.Context(), op)
			done <- err
		}()
		<-asked
		_ = theirs.SetWriteDeadline(time.Now().Add(20 * time.Second))
		for _, text := range [][]byte{said, []byte("\n" + `{"id":"1","ok":true}` + "\n")} {
			if _, err := theirs.Write(text); err != nil {
				t.Errorf("the connection takes nothing in: %v", err)
			}
		}
		select {
		case err := <-done:
			if code := nexus.CodeOf(err); code == nexus.Unavailable {
				t.Errorf("the connection was given up: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the answer was not found")
		}
		_ = driver.Close() // of a client that was never used
		_ = theirs.Close()
		<-drained
	})
}
