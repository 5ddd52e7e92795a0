package bench_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// commonPassword stands as admin_password in the bench's common config, where
// Frappe takes it for the Administrator of each new site.
const commonPassword, ownPassword = "C0mmonToAllSites", "0nlyOfThisSite"

// testAdministrator logs in as the Administrator of a new site.
func testAdministrator(t *testing.T, n *tenant) {
	if !n.frappe {
		return
	}
	for password, want := range map[string]int{ownPassword: http.StatusOK, commonPassword: http.StatusUnauthorized} {
		if status, said := n.ask(t, nexus.IssueKey{}, http.MethodPost, "/api/method/login", map[string]any{"usr": "Administrator", "pwd": password}); status != want {
			t.Errorf("the Administrator with %s: %d, want %d\n%s", password, status, want, said)
		}
	}
}

// testPackage lets the tenant's admin, with all his roles, import a package: its
// archive could hold links that lead out of the site's folder.
func testPackage(t *testing.T, n *tenant) {
	if !n.frappe {
		return
	}
	name := "nexus-unpacked-" + string(nexus.NewJobID())
	for range 2 { // the first one might have removed what stops it
		var made struct{ Data struct{ Name string } }
		status, said := n.ask(t, n.pair, http.MethodPost, "/api/resource/Package Import", map[string]any{"activate": 0})
		if err := json.Unmarshal([]byte(said), &made); err != nil || status != http.StatusOK {
			t.Fatalf("a Package Import could not be made: %d %s", status, said)
		}
		if status, said = n.ask(t, n.pair, http.MethodPost, "/api/resource/File", map[string]any{"file_name": "package-1.0.0.tar.gz", "content": archive(t, name),
			"decode": 1, "is_private": 1, "attached_to_doctype": "Package Import", "attached_to_name": made.Data.Name}); status != http.StatusOK {
			t.Fatalf("the package could not be attached: %d %s", status, said)
		}
		if status, said = n.ask(t, n.pair, http.MethodPut, "/api/resource/Package Import/"+made.Data.Name, map[string]any{"activate": 1, "force": 1}); status < 400 {
			t.Errorf("a package was imported: %d %s", status, said)
		}
		if where := n.search(t, name); where != "" {
			t.Fatalf("a package was unpacked: %s", where)
		}
	}
}

// archive is a package of one file, in base64.
func archive(t *testing.T, name string) string {
	t.Helper()
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	files := tar.NewWriter(packed)
	if err := files.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, each := range []io.Closer{files, packed} {
		if err := each.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}

// ask sends a request to the tenant's site, with a key if there is one.
func (n *tenant) ask(t *testing.T, key nexus.IssueKey, method, path string, body map[string]any) (status int, said string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+strings.ReplaceAll(path, " ", "%20"), bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = string(n.site)
	request.Header.Set("Content-Type", "application/json")
	if key.Key != "" {
		request.Header.Set("Authorization", "token "+key.Key.Reveal()+":"+key.Secret.Reveal())
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}
