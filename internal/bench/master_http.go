package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// call is one request to the master site.
type call struct {
	method, path string
	body         any      // nil: none
	open         bool     // without our key
	token        string   // instead of our key
	hide         []string // secrets in the body, to be kept out of errors
}

func token(key, secret nexus.Secret) string { return "token " + key.Reveal() + ":" + secret.Reveal() }

// send does one request. It fails only if there is no answer, of whatever status.
func (m *Master) send(ctx context.Context, c call) (status int, body []byte, header http.Header, err error) {
	var reader io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return 0, nil, nil, &nexus.Error{Code: nexus.Internal, Op: "master.send", Err: err}
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, m.o.URL+c.path, reader)
	if err != nil {
		return 0, nil, nil, misled("ERP_NEXT_URL cannot be asked.")
	}
	request.Host = string(m.o.Site)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Accept-Language", "en") // some refusals are recognized by their text
	switch {
	case c.token != "":
		request.Header.Set("Authorization", c.token)
	case !c.open:
		request.Header.Set("Authorization", token(m.o.Key, m.o.Secret))
	}
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := m.client.Do(request)
	if err != nil {
		return 0, nil, nil, m.away(ctx, reasonOf(err))
	}
	defer response.Body.Close() //nolint:errcheck // read-only
	body, err = io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return 0, nil, nil, m.away(ctx, reasonOf(err))
	}
	return response.StatusCode, body, response.Header, nil
}

// reasonOf removes the URL from a connection's error, since it holds the e-mail.
func reasonOf(err error) error { return errors.New(reason(err)) }

// ask does one request and decodes its answer; a refusal becomes a *nexus.Error.
func (m *Master) ask(ctx context.Context, c call, into any) error {
	status, body, header, err := m.send(ctx, c)
	if err != nil {
		return err
	}
	if status == http.StatusOK || status == http.StatusAccepted { // 202: deleted
		if into == nil {
			return nil
		}
		if err := decode(body, into); err != nil {
			return misled("What answers at ERP_NEXT_URL does not answer as a Frappe site does.")
		}
		return nil
	}
	return m.refusal(ctx, c, readRefusal(status, header, body))
}

func decode(body []byte, into any) error { return json.Unmarshal(body, into) }

// refusal is a refused request's status, class of exception, and the site's messages.
type refusal struct {
	status int
	kind   string // exc_type; empty: the answer is not Frappe's
	title  string
	text   string
	after  time.Duration
	to     string // of a redirect
}

func readRefusal(status int, header http.Header, body []byte) refusal {
	r := refusal{status: status, to: header.Get("Location")}
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		r.after = time.Duration(seconds) * time.Second
	}
	// The body's "exc" is a traceback with values in it, so it is not read.
	var said struct {
		Kind      string `json:"exc_type"`
		Exception string `json:"exception"`
		Messages  string `json:"_server_messages"`
	}
	if json.Unmarshal(body, &said) != nil {
		return r
	}
	r.kind = said.Kind
	_, r.text, _ = strings.Cut(said.Exception, ": ")
	var list []string
	if json.Unmarshal([]byte(said.Messages), &list) == nil && len(list) > 0 {
		var last struct{ Title, Message string }
		if json.Unmarshal([]byte(list[len(list)-1]), &last) == nil && last.Message != "" {
			r.title, r.text = last.Title, last.Message
		}
	}
	return r
}

// refusal converts a refused request into a *nexus.Error. The site's own text is shown to
// users only where it is about what they typed.
func (m *Master) refusal(ctx context.Context, c call, r refusal) error {
	path, _, _ := strings.Cut(c.path, "?")
	if strings.HasPrefix(path, userPath) {
		path = userPath + "…" // an e-mail
	}
	text := plain(r.text, append(c.hide, m.o.Key.Reveal(), m.o.Secret.Reveal()))
	cause := fmt.Errorf("%s %s: status %d %s: %s", c.method, path, r.status, r.kind, text)
	out := &nexus.Error{Op: "master.refusal", Err: cause}
	say := func(code nexus.Code, format string, args ...any) error {
		out.Code, out.Msg = code, fmt.Sprintf(format, args...)
		return out
	}
	switch {
	case r.status == http.StatusUnauthorized:
		out.Wait, out.RetryAfter = nexus.WaitOperator, time.Minute
		return say(nexus.Unavailable, "The master site does not know our API key; its operator must check ERP_API_KEY and ERP_API_SECRET.")
	case r.status == http.StatusForbidden:
		return powerless(cause)
	case r.status == http.StatusTooManyRequests:
		out.Wait, out.RetryAfter = nexus.WaitCapacity, max(r.after, 30*time.Second)
		return say(nexus.Limit, "The master site is asked too often just now; it goes on in a moment.")
	case r.status >= 300 && r.status < 400:
		return misled("ERP_NEXT_URL is answered with a redirect; set it to the address that answers itself.")
	case r.status == http.StatusNotFound && r.kind == "":
		return misled("There is no site %s at ERP_NEXT_URL; its operator must check both.", m.o.Site)
	case r.status == http.StatusNotFound:
		return say(nexus.NotFound, "The user is not on the master site.")
	case r.status >= 500:
		return m.away(ctx, cause)
	}
	return ofUser(out, r, text)
}

// ofUser is the error for a user that Frappe refuses.
func ofUser(out *nexus.Error, r refusal, text string) error {
	out.Code = nexus.Invalid
	switch {
	case r.kind == "DuplicateEntryError":
		out.Code, out.Msg = nexus.Conflict, "Somebody has a user with this e-mail address on the master site already; sign in there, or use another address."
		out.Fields = []nexus.FieldError{{Field: "email", Message: out.Msg}}
	case r.kind == "ValidationError" && strings.EqualFold(text, "Throttled"):
		// By default a site takes 60 new users an hour (throttle_user_limit).
		out.Code, out.Wait, out.RetryAfter = nexus.Limit, nexus.WaitCapacity, time.Minute
		out.Msg = "The master site takes no more new users this hour; it goes on by itself."
	case r.kind == "InvalidEmailAddressError":
		out.Msg = "The master site does not take this e-mail address."
		out.Fields = []nexus.FieldError{{Field: "email", Message: out.Msg}}
	case r.kind == "LinkValidationError":
		out.Msg = "The master site lacks something that this account needs; its operator must add it or change NEXUS_ADMIN_ROLES. It says: " + text
	case r.kind == "UniqueValidationError":
		// Two users with one first name at the same moment; the next attempt finds another
		// username.
		out.Code, out.Msg = nexus.Internal, "The master site has given one of this user's names or keys to another; it is tried again."
	case r.kind == "TimestampMismatchError":
		out.Code, out.Msg, out.RetryAfter = nexus.Unavailable, "The user was changed on the master site at the same moment; it is tried again.", time.Second
	case r.kind == "LinkExistsError":
		out.Code, out.Msg = nexus.Conflict, "Documents on the master site belong to this user, so it stays disabled and is not deleted; an operator must look at them."
	case strings.Contains(text, "decrypt"): // the site has another encryption_key now: it answers every call so
		return misled("The master site cannot read its own keys (encryption_key in its site_config.json); its operator must look at it.")
	case r.kind == "ValidationError" && text != "":
		out.Msg = "The master site refuses this " + subject(r.title) + ": " + text
	case r.kind != "":
		out.Msg = "The master site refuses this account; its operator can see why in the worker's log."
	default:
		out.Code, out.Msg = nexus.Internal, "The master site gave an answer we do not understand."
	}
	return out
}

// subject returns what a refusal is about: only that of a password has a title.
func subject(title string) string {
	if title == "Invalid Password" {
		return "password"
	}
	return "account"
}

// away is the error of an outage; the request is tried again.
func (m *Master) away(ctx context.Context, cause error) error {
	e, ok := errors.AsType[*nexus.Error](away(ctx, cause))
	if ok && e.Code == nexus.Unavailable {
		e.Op, e.Msg, e.RetryAfter = "master.send", "The master site does not answer; it is asked again.", 30*time.Second
	}
	return e
}

// misled is the error of a wrong configuration: jobs wait until an operator corrects it.
func misled(format string, args ...any) error {
	return &nexus.Error{Code: nexus.Unavailable, Op: "master.send", Wait: nexus.WaitOperator, RetryAfter: time.Minute, Msg: fmt.Sprintf(format, args...)}
}

func powerless(cause error) error {
	return &nexus.Error{Code: nexus.Forbidden, Op: "master.refusal", Err: cause,
		Msg: "Our API key on the master site may not make users; its operator must give the key's user the role System Manager."}
}

var (
	tags    = regexp.MustCompile(`<[^>]*>`)
	address = regexp.MustCompile(`[^\s'"<>()@]+@[^\s'"<>()@,]+`)
)

// plain returns a text of the site without markup, addresses and secrets, cut to a
// bounded length.
func plain(text string, hide []string) string {
	for _, secret := range hide {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	text = address.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(text, " ")), "…@…")
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) > 300 {
		runes = append(runes[:300], '…')
	}
	return string(runes)
}
