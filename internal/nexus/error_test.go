package nexus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

func TestHTTPStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name nexus.Code // the stored text
		code nexus.Code
		want int
	}{
		{"invalid", nexus.Invalid, 400},
		{"unauthenticated", nexus.Unauthenticated, 401},
		{"forbidden", nexus.Forbidden, 403},
		{"not_found", nexus.NotFound, 404},
		{"conflict", nexus.Conflict, 409},
		{"limit", nexus.Limit, 429},
		{"unavailable", nexus.Unavailable, 503},
		{"timeout", nexus.Timeout, 504},
		{"canceled", nexus.CodeCanceled, 409},
		{"draining", nexus.Draining, 503},
		{"fenced", nexus.Fenced, 503},
		{"undo_failed", nexus.UndoFailed, 500},
		{"internal", nexus.Internal, 500},
		{"", "", 500},
		{"unheard of", "unheard of", 500},
	} {
		t.Run(string(tc.name), func(t *testing.T) {
			t.Parallel()
			if got := tc.code.HTTPStatus(); tc.code != tc.name || got != tc.want {
				t.Errorf("%q is %d, want %q and %d", tc.code, got, tc.name, tc.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const silence = "Something went wrong on our side. It was noted; please try again in a moment."
	taken := &nexus.Error{Code: nexus.Conflict, Op: "store.submit", Msg: "This name is taken.", Err: io.EOF}
	for _, tc := range []struct {
		name          string
		err           error
		code          nexus.Code
		message, text string
	}{
		{"ours", taken, nexus.Conflict, "This name is taken.", "store.submit: conflict: This name is taken.: EOF"},
		{"ours without a cause", &nexus.Error{Code: nexus.Limit, Op: "op", Msg: "Full."}, nexus.Limit, "Full.", "op: limit: Full."},
		{"wrapped", fmt.Errorf("api: %w", taken), nexus.Conflict, "This name is taken.", "api: store.submit: conflict: This name is taken.: EOF"},
		{"joined", errors.Join(io.ErrUnexpectedEOF, taken), nexus.Conflict, "This name is taken.", "unexpected EOF\nstore.submit: conflict: This name is taken.: EOF"},
		{"ours around ours", &nexus.Error{Code: nexus.Unavailable, Op: "op", Msg: "Away.", Err: taken}, nexus.Unavailable, "Away.",
			"op: unavailable: Away.: store.submit: conflict: This name is taken.: EOF"},
		{"ours without words", &nexus.Error{Code: nexus.Timeout, Op: "op", Err: errors.New("password=x")}, nexus.Timeout, silence, "op: timeout: : password=x"},
		{"nobody's", errors.New("password=x"), nexus.Internal, silence, "password=x"},
		{"of a context", context.Canceled, nexus.Internal, silence, "context canceled"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := nexus.CodeOf(tc.err); got != tc.code {
				t.Errorf("code %q, want %q", got, tc.code)
			}
			if got := nexus.MessageOf(tc.err); got != tc.message {
				t.Errorf("message %q, want %q", got, tc.message)
			}
			if got := tc.err.Error(); got != tc.text {
				t.Errorf("text %q, want %q", got, tc.text)
			}
		})
	}
	if code := nexus.CodeOf(nil); code != "" {
		t.Errorf("no error has the code %q", code)
	}
	if !errors.Is(taken, io.EOF) {
		t.Error("the cause is not to be found")
	}
}
