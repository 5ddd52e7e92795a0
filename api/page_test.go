package api_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestPage: whatever the page names is served, under a strict policy, and all of it
// is light. Its logic is tested in ui/test, by .ci/page.
func TestPage(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	named := regexp.MustCompile(`(?:href="/|src="/|import .* from "\./)((?:ui/)?[a-z]+\.(?:js|css|svg))"`)
	seen, size := map[string]string{}, 0
	for queue := []string{""}; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if _, ok := seen[name]; ok {
			continue
		}
		status, header, body := s.lines("GET", "/"+name)
		if csp := header.Get("Content-Security-Policy"); status != 200 || !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
			t.Errorf("/%s: %d, policy %q", name, status, csp)
		}
		if header.Get("ETag") == "" || header.Get("Content-Type") == "" {
			t.Errorf("/%s: %v", name, header)
		}
		seen[name], size = string(body), size+len(body)
		for _, match := range named.FindAllStringSubmatch(string(body), -1) {
			queue = append(queue, "ui/"+strings.TrimPrefix(match[1], "ui/"))
		}
	}
	if len(seen) < 10 || size > 60<<10 {
		t.Errorf("%d files, %d bytes; 60 KiB at most", len(seen), size)
	}
	for name, text := range seen {
		for _, match := range regexp.MustCompile(`\$\("([a-z-]+)"\)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(seen[""], ` id="`+match[1]+`"`) {
				t.Errorf("%s asks for #%s, which is not on the page", name, match[1])
			}
		}
	}
	if status, _, _ := s.lines("GET", "/ui/test/region_test.js"); status != 404 {
		t.Errorf("the page's tests are served: %d", status)
	}
}
