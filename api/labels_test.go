package api_test

import (
	"fmt"
	"strings"
	"testing"
)

// series returns the lines of /metrics that count requests, one for each series.
func (s *server) series() (out []string) {
	s.t.Helper()
	_, _, body := s.text("GET", "/metrics", "", "")
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "nexus_http_request_seconds_count{") {
			out = append(out, line)
		}
	}
	return out
}

// TestCallersMakeNoSeries: requests with unknown methods and paths are counted, but make no
// new series. Else anybody could fill the memory.
func TestCallersMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, path := range []string{"/nowhere", "/signup", "/jobs/" + strings.Repeat("a", 32)} { // the answers there are
		s.text("MADEUP", path, "", "")
	}
	s.text("GET", "/nowhere", "", "")
	s.series() // this request is counted too
	before := s.series()
	for i := range 50 {
		for _, call := range []string{"X%d /nowhere", "x%d /signup", "GETS%d /jobs/" + strings.Repeat("a", 32)} {
			method, path, _ := strings.Cut(fmt.Sprintf(call, i), " ")
			s.text(method, path, "", "")
		}
		s.text("GET", fmt.Sprintf("/made/up/%d", i), "", "")
	}
	after := s.series()
	if len(after) != len(before) {
		t.Errorf("%d series became %d:\n%s", len(before), len(after), strings.Join(after, ""))
	}
	others := 0
	for _, line := range after {
		if strings.Contains(line, `method="other"`) {
			others++
		}
		if strings.Contains(line, `method="X`) || strings.Contains(line, "MADEUP") || strings.Contains(line, "made/up") {
			t.Errorf("a caller's own word is a label: %s", line)
		}
	}
	if others == 0 {
		t.Errorf("calls by an unknown method are not counted:\n%s", strings.Join(after, ""))
	}
}
