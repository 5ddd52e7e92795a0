package api_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/api"
)

// TestPage: every file that the page uses is served, with a strict Content-Security-Policy,
// and all files together are small. .ci/page tests the page's logic (ui/test).
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

// TestPageSaysWhoMaySignUp: the page that is served knows whether signups are open, closed or
// need a token, and the style sheet shows only the view for that.
func TestPageSaysWhoMaySignUp(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{"": "open", "open": "open", "token": "token", "closed": "closed"} {
		s := newServer(t, func(o *api.Options) { o.Signup = mode })
		_, _, body := s.lines("GET", "/")
		if page := string(body); !strings.Contains(page, `data-domain="example.com" data-signup="`+want+`"`) {
			t.Errorf("%q: the page does not know that signing up is %s", mode, want)
		}
	}
	_, _, css := newServer(t, nil).lines("GET", "/ui/app.css")
	for _, want := range []string{`[data-signup="open"] :is(#view-closed, #view-token)`, `[data-signup="closed"] :is(#view-form, #view-token)`,
		`[data-signup="token"] :is(#view-form, #view-closed)`} {
		if !strings.Contains(string(css), want) {
			t.Errorf("no %s in the style sheet", want)
		}
	}
}
