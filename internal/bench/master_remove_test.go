package bench_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestMasterHeldBack delays each write of a removal until the address has a new owner: none
// may touch the new user.
func TestMasterHeldBack(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	f.users["jane@example.com"] = marked("9f3c-job1", "active 1")
	type kept struct {
		r    *http.Request
		body []byte
	}
	var late []kept
	f.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			late = append(late, kept{r.Clone(r.Context()), body})
		}
		return false
	}
	gen := nexus.Gen(100)
	for _, args := range []nexus.Args{nexus.IssueKey{Email: jane.Email, Key: "k", Secret: "s"}, nexus.Mark{State: nexus.TenantSuspended},
		nexus.Mark{State: nexus.TenantActive}, nexus.Mark{State: nexus.TenantDeleting}, nexus.DropSite{}} {
		gen++
		op := masterOp(args, gen)
		op.Email = ""
		if _, err := m.Run(t.Context(), op); err != nil {
			t.Fatalf("%s: %v", args.Op(), err)
		}
	}
	if len(f.users) != 1 {
		t.Fatalf("left: %v", f.users)
	}
	f.answer = nil
	f.users["jane@example.com"] = marked("9f3c-job2", "active 900")
	f.users["jane@example.com"]["modified"] = "later"
	if len(late) < 5 {
		t.Fatalf("only %d writes were seen", len(late))
	}
	for _, k := range late {
		k.r.Body = io.NopCloser(bytes.NewReader(k.body))
		f.ServeHTTP(httptest.NewRecorder(), k.r)
	}
	if user := f.users["jane@example.com"]; user == nil || user["enabled"] != 1 || user["api_key"] != "theirs" {
		t.Errorf("the new owner of the address is %v", user)
	}
}

// TestMasterKeepsWhatIsReferredTo: a user that documents refer to is kept, under its name.
func TestMasterKeepsWhatIsReferredTo(t *testing.T) {
	t.Parallel()
	f, m := newFrappe(t)
	f.users["jane@example.com"] = marked("9f3c-job1", "deleting 1")
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			if !strings.Contains(r.URL.Path, "@removed.invalid") {
				t.Errorf("deleted by the name %s", r.URL.Path)
			}
			respond(w, 417, said("LinkExistsError", "Message", "Cannot delete"))
		}
		return r.Method == http.MethodDelete
	}
	op := masterOp(nexus.DropSite{}, 100)
	op.Email = ""
	if _, err := m.Run(t.Context(), op); nexus.CodeOf(err) != nexus.Conflict || !strings.Contains(nexus.MessageOf(err), "Documents") {
		t.Errorf("%v", err)
	}
	if f.users["jane@example.com"] == nil || len(f.users) != 2 {
		t.Errorf("users: %v", f.users)
	}
}
