package bench_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestSandboxDocuments: documents that a client creates on a site of the sandbox can be listed
// and read, and are removed with the site.
func TestSandboxDocuments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sandbox, err := bench.NewSandbox(bench.SandboxOptions{Dir: dir, Install: "5a4d"})
	if err != nil {
		t.Fatal(err)
	}
	defer sandbox.Close() //nolint:errcheck // nothing to lose
	owner := nexus.NewJobID()
	run := func(args nexus.Args) {
		t.Helper()
		op := nexus.Op{Site: "acme.localhost", DB: owner.Database("5a4d"), Owner: owner, Gen: 1, Email: "jane@example.com", Args: args}
		if _, err := sandbox.Run(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	ready := func() {
		run(nexus.NewSite{})
		run(nexus.EnsureUser{Email: "jane@example.com", FullName: "Jane", Password: "Passw0rdXyz"})
		run(nexus.IssueKey{Email: "jane@example.com", Key: "key", Secret: "secret"})
		run(nexus.Mark{State: nexus.TenantActive})
	}
	ask := func(call, body string) (status int, answer string) {
		method, path, _ := strings.Cut(call, " ")
		request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		request.Host = "acme.localhost"
		request.Header.Set("Authorization", "token key:secret")
		w := httptest.NewRecorder()
		sandbox.Handler().ServeHTTP(w, request)
		return w.Code, w.Body.String()
	}
	ready()
	status, text := ask("POST /api/resource/Sales%20Order", `{"customer":"Müller","name":"SO-1"}`)
	var made struct{ Data map[string]any }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != 200 || made.Data["customer"] != "Müller" || made.Data["name"] != "SO-1" ||
		made.Data["doctype"] != "Sales Order" || made.Data["owner"] != "jane@example.com" || made.Data["docstatus"] != 0.0 || made.Data["creation"] == nil {
		t.Errorf("created: %d %s", status, text)
	}
	if _, text := ask("GET /api/resource/Sales%20Order/SO-1", ""); text != jsonLine(t, map[string]any{"data": made.Data}) {
		t.Errorf("read: %s", text)
	}
	for _, row := range []struct {
		call, body string
		status     int
		says       string
	}{
		{"POST /api/resource/Sales%20Order", `{"name":"SO-1"}`, 409, "DuplicateEntryError"},
		{"POST /api/resource/Sales%20Order", `{"customer":"Meier"}`, 200, `"customer":"Meier"`},
		{"POST /api/resource/Sales%20Order", `[]`, 400, "one JSON object"},
		{"POST /api/resource/Sales%20Order", `null`, 400, "one JSON object"},
		{"POST /api/resource/Sales%20Order", `{"customer":"` + strings.Repeat("x", 20000) + `"}`, 400, "at most"},
		{"POST /api/resource/Customer", `{"customer_name":"Müller","name":"Müller"}`, 200, `"name":"Müller"`},
		{"GET /api/resource/Customer", "", 200, `{"data":[{"name":"Müller"}]}`},
		{"GET /api/resource/Item", "", 200, `{"data":[]}`},
		{"GET /api/resource/User", "", 200, `{"data":[{"name":"jane@example.com"}]}`},
		{"POST /api/resource/User", `{"name":"jane@example.com"}`, 409, "DuplicateEntryError"},
		{"GET /api/resource/Customer/Meier", "", 404, "DoesNotExistError"},
	} {
		if status, text := ask(row.call, row.body); status != row.status || !strings.Contains(text, row.says) {
			t.Errorf("%s %.40s: %d %s", row.call, row.body, status, text)
		}
	}
	if _, text := ask("GET /api/resource/Sales%20Order", ""); strings.Count(text, `"name"`) != 2 || !strings.Contains(text, `"SO-1"`) {
		t.Errorf("listed: %s", text)
	}
	for i := range 97 {
		if status, text := ask("POST /api/resource/Item", fmt.Sprintf(`{"name":"%d"}`, i)); status != 200 {
			t.Fatalf("item %d: %d %s", i, status, text)
		}
	}
	if status, text := ask("POST /api/resource/Item", `{}`); status != 417 || !strings.Contains(text, "100 documents") {
		t.Errorf("one too many: %d %s", status, text)
	}
	run(nexus.DropSite{})
	if _, err := os.Stat(filepath.Join(dir, "documents", "acme.localhost")); !os.IsNotExist(err) {
		t.Errorf("left of the site's documents: %v", err)
	}
	if status, _ := ask("POST /api/resource/Item", `{}`); status != http.StatusNotFound {
		t.Errorf("on a removed site: %d", status)
	}
}

func jsonLine(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}
