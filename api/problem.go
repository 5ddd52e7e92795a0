package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// manual is the page that explains the types of problems.
const manual = "https://github.com/nexus-erp/provisioner/blob/main/docs/PROBLEMS.md#"

// problemError is the error of a job that a request waited for.
type problemError struct {
	error
	jobID  nexus.JobID
	status int // 0: by the code
}

func (p problemError) Unwrap() error { return p.error }

// writeError answers a request with an error. No other code does.
func (s *Server) writeError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := s.problem(err, c)
	if p.Status >= 500 {
		s.Log.ErrorContext(c.Request().Context(), "request failed", nexus.LogCode, p.Code, nexus.LogErr, err)
	}
	h := c.Response().Header()
	h.Set("Content-Type", "application/problem+json")
	if p.RetryAfter != nil {
		h.Set("Retry-After", strconv.Itoa(*p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		h.Set("WWW-Authenticate", `Bearer realm="nexus"`)
	}
	c.Response().WriteHeader(p.Status)
	if c.Request().Method != http.MethodHead {
		_ = json.NewEncoder(c.Response()).Encode(p) // fails only if the client has disconnected
	}
}

func (s *Server) problem(err error, c echo.Context) gen.Problem {
	e := classify(err)
	status := e.Code.HTTPStatus()
	if he, ok := errors.AsType[*echo.HTTPError](err); ok && e.Code != nexus.Internal {
		status = he.Code
	}
	p := gen.Problem{Code: string(e.Code), RequestId: requestID(c), Detail: optional(nexus.MessageOf(e))}
	if special, ok := errors.AsType[problemError](err); ok {
		if special.status != 0 {
			status = special.status
		}
		p.JobId = optional(string(special.jobID))
	}
	switch {
	case errors.Is(err, store.ErrKeyReused):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, store.ErrGone):
		status = http.StatusGone
	}
	p.Status, p.Title, p.Type = status, http.StatusText(status), manual+string(e.Code)
	p.Suggestion, p.Action = optional(e.Suggestion), optional(e.Action)
	p.Reason = optional(gen.Reason(e.Reason))
	after := e.RetryAfter
	if status == http.StatusServiceUnavailable && after == 0 {
		after = 2 * time.Second
	}
	if after > 0 {
		seconds := int((after + time.Second - 1) / time.Second)
		p.RetryAfter = &seconds
	}
	if len(e.Fields) > 0 {
		list := make([]gen.FieldError, len(e.Fields))
		for i, f := range e.Fields {
			list[i] = gen.FieldError{Field: f.Field, Message: f.Message}
		}
		p.Errors = &list
	}
	return p
}

// classify returns the *nexus.Error in a chain, or converts an error of Echo.
func classify(err error) *nexus.Error {
	if e, ok := errors.AsType[*nexus.Error](err); ok {
		return e
	}
	he, ok := errors.AsType[*echo.HTTPError](err)
	if !ok {
		return &nexus.Error{Code: nexus.Internal, Op: "api", Err: err}
	}
	known := map[int]struct {
		code nexus.Code
		msg  string
	}{
		http.StatusUnauthorized:          {nexus.Unauthenticated, "Give a token of the scope read as the password; the name does not matter."},
		http.StatusNotFound:              {nexus.NotFound, "There is nothing at this address; /openapi.yaml lists what there is."},
		http.StatusMethodNotAllowed:      {nexus.Invalid, "This address does not take this method; /openapi.yaml lists what there is."},
		http.StatusRequestTimeout:        {nexus.Invalid, "The request did not arrive in time; send it again."},
		http.StatusRequestEntityTooLarge: {nexus.Invalid, "The request is too large: 64 KiB at most."},
		http.StatusUnsupportedMediaType:  {nexus.Invalid, "Send the request as application/json."},
		http.StatusBadRequest:            {nexus.Invalid, "A parameter of this request is not of the right form; /openapi.yaml says what it takes."},
	}
	if k, ok := known[he.Code]; ok {
		return &nexus.Error{Code: k.code, Op: "api", Msg: k.msg, Err: he}
	}
	return &nexus.Error{Code: nexus.Internal, Op: "api", Err: he}
}

func invalid(field, message string) error {
	return &nexus.Error{Code: nexus.Invalid, Op: "api", Msg: message, Fields: []nexus.FieldError{{Field: field, Message: message}}}
}

// optional returns nil for the zero value, for optional fields of generated types.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
