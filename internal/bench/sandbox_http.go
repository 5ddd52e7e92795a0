package bench

import (
	"encoding/json"
	"html/template"
	"net"
	"net/http"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// siteHandler answers a request for an existing, open site.
type siteHandler func(w http.ResponseWriter, r *http.Request, site *siteState)

// Handler serves the sandbox's sites by Host, with or without a port. It serves the
// sites that other processes make as well.
func (s *Sandbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/method/ping", s.route(ping))
	mux.HandleFunc("GET /api/method/frappe.auth.get_logged_user", s.route(loggedUser))
	mux.HandleFunc("GET /api/resource/{doctype}", s.route(s.list))
	mux.HandleFunc("POST /api/resource/{doctype}", s.route(s.create))
	mux.HandleFunc("GET /api/resource/{doctype}/{name}", s.route(s.show))
	mux.HandleFunc("GET /{$}", s.route(home))
	return mux
}

// route finds the site of a request. Like Frappe it answers 404 for an unknown site and
// 503 for one in maintenance.
func (s *Sandbox) route(h siteHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		name := strings.ToLower(host)
		if strings.ContainsAny(name, "/\\") || name == "" || strings.HasPrefix(name, ".") {
			http.NotFound(w, r)
			return
		}
		site, err := s.folder.site(nexus.SiteName(name))
		switch {
		case err != nil:
			http.Error(w, "the sandbox's folder cannot be read", http.StatusInternalServerError)
		case site == nil || !site.Made:
			http.NotFound(w, r)
		case site.State == string(nexus.TenantSuspended) || site.State == string(nexus.TenantDeleting):
			answer(w, http.StatusServiceUnavailable, map[string]string{"exc_type": "SessionStopped"})
		default:
			h(w, r, site)
		}
	}
}

func ping(w http.ResponseWriter, _ *http.Request, _ *siteState) {
	answer(w, http.StatusOK, map[string]string{"message": "pong"})
}

func loggedUser(w http.ResponseWriter, r *http.Request, site *siteState) {
	if allowed(w, r, site) {
		answer(w, http.StatusOK, map[string]string{"message": site.User.Email})
	}
}

// allowed checks "Authorization: token key:secret". Without one the answer is 403, with a
// wrong one 401.
func allowed(w http.ResponseWriter, r *http.Request, site *siteState) bool {
	pair, ok := strings.CutPrefix(r.Header.Get("Authorization"), "token ")
	if !ok {
		answer(w, http.StatusForbidden, map[string]string{"exc_type": "PermissionError"})
		return false
	}
	key, secret, _ := strings.Cut(pair, ":")
	if !site.User.holds(key, secret) {
		answer(w, http.StatusUnauthorized, map[string]string{"exc_type": "AuthenticationError"})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client is gone
}

var homePage = template.Must(template.New("home").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Site}}</title>
<h1>{{.Site}}</h1>
<p>This is a sandbox site of Nexus Provisioner: it stands where an ERPNext site would.</p>
<p>{{if .User}}Its admin is {{.User.FullName}} ({{.User.Email}}). {{end}}Apps: {{range .Apps}}{{.}} {{end}}</p>
<p>Try: <code>curl -H "Authorization: token KEY:SECRET" http://{{.Site}}/api/method/frappe.auth.get_logged_user</code> (with this page's port).</p>
</html>
`))

func home(w http.ResponseWriter, _ *http.Request, site *siteState) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = homePage.Execute(w, site)
}
