package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// once escapes the path in the same way for every client, so that the parameters in it are
// unescaped exactly once.
func once(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		u.RawPath = u.EscapedPath()
		return next(c)
	}
}

// legible refuses a URL that is not UTF-8 or not escaped properly. The parsers would drop
// or replace such a part.
func legible(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		query, err := url.QueryUnescape(u.RawQuery)
		if err != nil || strings.Contains(u.RawQuery, ";") || !utf8.ValidString(query) || !utf8.ValidString(u.Path) {
			return &nexus.Error{Code: nexus.Invalid, Op: "api.read", Err: err,
				Msg: "The address of this request is malformed: write it in UTF-8, percent-encoded, with & between parameters."}
		}
		return next(c)
	}
}

// readJSON reads the body, one JSON object with known fields, and refuses any other.
func readJSON(c echo.Context, into any) error {
	kind, params, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return echo.NewHTTPError(http.StatusUnsupportedMediaType)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return echo.NewHTTPError(http.StatusUnsupportedMediaType)
	}
	body, err := io.ReadAll(c.Request().Body)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return echo.NewHTTPError(http.StatusRequestTimeout)
	case err != nil:
		if he, ok := errors.AsType[*echo.HTTPError](err); ok { // the body limit
			return he
		}
		return unreadable("The request broke off; send it again.", err)
	}
	// Remove the deadline of the body: it would end a long poll.
	_ = http.NewResponseController(c.Response()).SetReadDeadline(time.Time{})
	return decodeObject(body, into)
}

func unreadable(message string, err error) error {
	return &nexus.Error{Code: nexus.Invalid, Op: "api.json", Msg: message, Err: err}
}

// decodeObject decodes one object, and refuses what encoding/json accepts: characters that
// it replaces by U+FFFD, names in another case, and names that come twice.
func decodeObject(body []byte, into any) error {
	if !utf8.Valid(body) {
		return unreadable("The request is not UTF-8; send its JSON in that encoding.", nil)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); !errors.Is(err, io.EOF) {
			err = errors.New("more than one value")
		} else if err = nil; loneSurrogate(body) {
			return unreadable("A \\u escape in the request is half a character; send both halves, or the character itself.", nil)
		}
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
		return invalid(e.Field, fmt.Sprintf("The field %s must be a %s.", e.Field, e.Type))
	}
	if err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return unknownField(strings.Trim(name, `"`))
		}
		return unreadable("The request is not one JSON object; check its brackets and quotes.", err)
	}
	return checkNames(body, into)
}

func unknownField(name string) error {
	name = shorten(name)
	return invalid(name, fmt.Sprintf("There is no field %s; /openapi.yaml lists the fields.", name))
}

// checkNames checks that each name of an object is exactly that of a field, and comes once.
func checkNames(body []byte, into any) error {
	unused := map[string]bool{}
	for i, t := 0, reflect.TypeOf(into).Elem(); i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		unused[name] = true
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return unreadable("The request is not one JSON object; check its brackets and quotes.", err)
	}
	for decoder.More() {
		token, err := decoder.Token()
		name, _ := token.(string)
		var skipped json.RawMessage
		if err == nil {
			err = decoder.Decode(&skipped)
		}
		left, known := unused[name]
		switch {
		case err != nil:
			return unreadable("The request is not one JSON object; check its brackets and quotes.", err)
		case !known:
			return unknownField(name)
		case !left:
			return invalid(name, fmt.Sprintf("The field %s comes twice; send it once.", name))
		}
		unused[name] = false
	}
	return nil
}

// loneSurrogate reports whether valid JSON has a \u escape that is half of a surrogate pair
// (RFC 8259 §8.2).
func loneSurrogate(body []byte) bool {
	escape := func(at int) (rune, bool) {
		if at+6 > len(body) || body[at] != '\\' || body[at+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(body[at+2:at+6]), 16, 16)
		return rune(n), err == nil
	}
	for at := 0; at < len(body); at++ {
		if body[at] != '\\' {
			continue
		}
		first, ok := escape(at)
		switch {
		case !ok:
			at++ // the next byte is escaped
		case !utf16.IsSurrogate(first):
			at += 5
		default:
			second, _ := escape(at + 6)
			if utf16.DecodeRune(first, second) == utf8.RuneError {
				return true
			}
			at += 11
		}
	}
	return false
}
