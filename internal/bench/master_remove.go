package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// remove deletes the user that was read, and no later one with the same address. Frappe
// deletes by name, so a delayed request would delete whoever has the address by then. So
// the user is first renamed to a unique name, which Frappe refuses if the user changed
// since it was read (handler.py, run_doc_method: check_if_latest), and is deleted by that
// name. If the user is gone already, that is no error.
func (m *Master) remove(ctx context.Context, user masterUser) error {
	kept, ok := user.mark()
	if !ok {
		return fail(nexus.Conflict, nexus.OpDropSite, "The user of this account no longer carries our mark; it was left alone.")
	}
	former, grave := user.Name, graveOf(kept)
	if former != grave {
		if err := m.rename(ctx, user, grave); err != nil {
			return m.unlessGone(ctx, former, err)
		}
	}
	err := m.ask(ctx, call{method: http.MethodDelete, path: userPath + url.PathEscape(grave)}, nil)
	switch nexus.CodeOf(err) {
	case nexus.NotFound:
		return nil
	case nexus.Conflict: // documents refer to it, so it is kept under its former name
		if again, found, loadErr := m.load(ctx, grave); former != grave && loadErr == nil && found {
			if back := m.rename(ctx, again, former); back != nil {
				return back
			}
		}
	}
	return err
}

// graveOf is the unique name under which a user is deleted, made of its job's id.
func graveOf(kept mark) string { return "nexus-" + kept.owner() + "@removed.invalid" }

// rename gives a user another name, unless it changed since it was read.
func (m *Master) rename(ctx context.Context, user masterUser, name string) error {
	doc, err := json.Marshal(map[string]string{"doctype": "User", "name": user.Name, "modified": user.Modified})
	if err != nil {
		return err
	}
	return m.ask(ctx, call{method: http.MethodPost, path: "/api/method/run_doc_method",
		body: map[string]any{"docs": string(doc), "method": "rename", "args": map[string]any{"name": name, "force": true}}}, nil)
}

// unlessGone returns the error of a rename if the user still has its former name. If
// not, another run may have renamed it, and the next attempt finds it by its mark.
func (m *Master) unlessGone(ctx context.Context, name string, err error) error {
	code := nexus.CodeOf(err)
	if code != nexus.NotFound && code != nexus.Invalid {
		return err
	}
	if _, found, loadErr := m.load(ctx, name); loadErr != nil || found {
		return err
	}
	return &nexus.Error{Code: nexus.Unavailable, Op: "master.remove", Msg: "The user was changed on the master site at the same moment; it is tried again.", Err: err}
}
