package app_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/app"
)

// TestProcessMetrics: an API and a worker show what runs, and their own memory, CPU
// and goroutines, each once.
func TestProcessMetrics(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // is closed at once
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	code := app.Process(ctx, "nexus dev", app.Parts{API: true, Worker: true, Sandbox: true, Dev: true},
		[]string{"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_SANDBOX_ADDR=127.0.0.1:0", "NEXUS_METRICS_ADDR=" + addr}, &log, func(_ app.Config, at app.Addresses) {
			go func() {
				defer stop()
				for _, url := range []string{at.API, "http://" + addr} {
					text := scrape(t, url+"/metrics")
					for _, want := range []string{"nexus_build_info{", `version="` + app.Built().Version + `"`, "process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_open_fds ", "go_goroutines "} {
						if strings.Count(text, "\n"+want)+strings.Count(text, ","+want) != 1 {
							t.Errorf("%s does not show %s once:\n%s", url, want, text)
						}
					}
				}
			}()
		})
	if code != 0 {
		t.Errorf("exit %d\n%s", code, log.String())
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
