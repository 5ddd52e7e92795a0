package bench_test

import (
	"net/http"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// testSavedUser saves the user after each way of setting a key: Frappe removes the secret
// of every Password field that is empty in a saved document.
func testSavedUser(t *testing.T, n *tenant) {
	former := n.pair
	user := nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "An0therPassword"}
	for _, pair := range []nexus.IssueKey{former, n.key(7, "e"), n.key(7, "f")} {
		n.run(t, pair)
		n.works(t, pair, true)
		n.saved(t, pair)
		n.works(t, pair, true)
		n.run(t, user)
		n.works(t, pair, true)
		if result := n.run(t, pair); result.Changed {
			t.Error("the same key was given again")
		}
	}
	n.works(t, former, false)
	n.pair = n.key(7, "f")
}

// saved edits the user's own profile over HTTP, with a key of his.
func (n *tenant) saved(t *testing.T, key nexus.IssueKey) {
	t.Helper()
	if !n.frappe || key.Key == "" {
		return
	}
	if status, said := n.ask(t, key, http.MethodPut, "/api/resource/User/"+n.email, map[string]any{"bio": nexus.NewJobID()}); status != http.StatusOK {
		t.Fatalf("the user could not save his profile: %d %s", status, said)
	}
}
