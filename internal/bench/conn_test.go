package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// runner is a fake runner that follows the test's script.
type runner struct {
	t      *testing.T
	driver *bench.Docker
	conn   bench.Conn
	pipe   net.Conn
	asked  chan map[string]any // the frames that were sent, except pings
	pings  chan time.Time
	log    *bytes.Buffer // read it when the connection is over
}

// onRunner runs a script in a synctest bubble. If reads is set the runner reads what it is
// sent; else the script does.
func onRunner(t *testing.T, reads bool, script func(*runner)) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		r := &runner{t: t, pipe: theirs, asked: make(chan map[string]any, 100), pings: make(chan time.Time, 1000), log: &bytes.Buffer{}}
		var err error
		r.driver, r.conn, err = bench.Attach(t.Context(), bench.DockerOptions{Service: "none", Install: "9f3c", DBAccount: "nexus",
			DBPassword: "db-pass", OutputLimit: 1000, Log: slog.New(slog.NewTextHandler(r.log, nil))}, ours, false)
		if err != nil {
			t.Fatal(err)
		}
		if reads {
			go r.read()
		}
		script(r)
		_ = theirs.Close()
		if err := r.driver.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (r *runner) read() {
	for lines := bufio.NewScanner(r.pipe); lines.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			r.t.Errorf("sent what is not JSON: %s", lines.Bytes())
		}
		if line["op"] == "ping" {
			r.pings <- time.Now()
			continue
		}
		r.asked <- line
	}
}

// say sends whole lines or parts of lines to the worker.
func (r *runner) say(format string, args ...any) {
	r.t.Helper()
	if _, err := fmt.Fprintf(r.pipe, format, args...); err != nil {
		r.t.Error(err)
	}
	synctest.Wait()
}

type outcome struct {
	result nexus.Result
	err    error
	at     time.Time
}

// ask starts an operation and returns its id on the wire and its outcome.
func (r *runner) ask(ctx context.Context, op nexus.Op) (string, <-chan outcome) {
	r.t.Helper()
	out := make(chan outcome, 1)
	go func() {
		result, err := r.driver.Run(ctx, op)
		out <- outcome{result, err, time.Now()}
	}()
	line := <-r.asked
	id, _ := line["id"].(string)
	if id == "" || line["op"] != string(op.Args.Op()) {
		r.t.Fatalf("asked %v", line)
	}
	return id, out
}

// want compares an outcome with a code, or with a note, by which these tests tell answers
// apart.
func (r *runner) want(out <-chan outcome, note string, code nexus.Code) outcome {
	r.t.Helper()
	got := <-out
	if got.result.Note != note || nexus.CodeOf(got.err) != code {
		r.t.Errorf("got %+v, %v; want note %q, code %q", got.result, got.err, note, code)
	}
	return got
}

var inspect = nexus.Op{Site: "acme.localhost", DB: "nx9f3c", Owner: "job", Gen: 7, Args: nexus.Inspect{}}

func TestConnRequest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args    nexus.Args
		room    nexus.Room
		want    map[string]any // of the arguments
		secrets map[string]any // besides the account's
	}{
		{nexus.EnsureUser{Email: "jane@example.com", FullName: "Jane \n Doe", Password: "Secret-Horse-7"}, "",
			map[string]any{"email": "jane@example.com", "full_name": "Jane \n Doe"}, map[string]any{"password": "Secret-Horse-7"}},
		{nexus.Claim{Standby: "standby-4567", Maker: "4567", Plan: nexus.ApplyPlan{Plan: "free", StorageBytes: 1 << 30, HostName: "https://acme.example.com", TimeZone: "Europe/Berlin"}}, "",
			map[string]any{"standby": "standby-4567", "maker": "4567",
				"plan": map[string]any{"plan": "free", "users": 0.0, "storage_bytes": float64(1 << 30), "host_name": "https://acme.example.com", "time_zone": "Europe/Berlin"}}, nil},
		{nexus.Shelve{}, nexus.RoomStandby, map[string]any{}, nil},
		{nexus.Warm{}, nexus.RoomStandby, map[string]any{}, nil},
		{nexus.Company{Name: "Wood & \"Sons\""}, "", map[string]any{"name": "Wood & \"Sons\""}, nil},
	} {
		t.Run(string(tc.args.Op()), func(t *testing.T) {
			t.Parallel()
			onRunner(t, true, func(r *runner) {
				ctx, cancel := context.WithTimeout(r.t.Context(), 90*time.Second)
				defer cancel()
				op := nexus.Op{Site: "acme.localhost", Room: tc.room, DB: "nx9f3c", Owner: "0123", Gen: 1_795_451_262_824_428, Submitted: 1_795_451_262_824_427, Email: "jane@example.com", Args: tc.args}
				done := make(chan outcome, 1)
				go func() {
					result, err := r.driver.Run(ctx, op)
					done <- outcome{result: result, err: err}
				}()
				want := map[string]any{"id": "1", "op": string(tc.args.Op()), "install": "9f3c", "site": "acme.localhost", "db": "nx9f3c", "owner": "0123",
					"gen": "1795451262824428", "submitted": "1795451262824427", "timeout_s": 90.0, "output_limit": 1000.0, "args": tc.want,
					"secrets": map[string]any{"db_account": "nexus", "db_password": "db-pass"}}
				if tc.room != "" {
					want["room"] = string(tc.room)
				}
				maps.Copy(want["secrets"].(map[string]any), tc.secrets) //nolint:forcetypeassert // as just made
				if diff := cmp.Diff(want, <-r.asked); diff != "" {
					r.t.Error(diff)
				}
				r.say(`{"id":"1","ok":true}` + "\n")
				r.want(done, "", "")
			})
		})
	}
}

func TestConnHello(t *testing.T) {
	t.Parallel()
	onRunner(t, true, func(r *runner) {
		r.say(`{"event":"hello","protocol":1,"frappe":"15.72.4","apps":{"erpnext":"15.71.1"},"install":"9f3c","host":"box",` +
			`"problems":[{"what":"no mariadb","mend":"install it"}]}` + "\n")
		want := nexus.HelloResult{Protocol: 1, Frappe: "15.72.4", Apps: map[string]string{"erpnext": "15.71.1"}, Install: "9f3c", Host: "box",
			Problems: []nexus.Problem{{What: "no mariadb", Mend: "install it"}}}
		if diff := cmp.Diff(want, <-r.conn.Hello()); diff != "" {
			r.t.Error(diff)
		}
		r.say("%s", strings.Repeat(`{"event":"hello","protocol":2}`+"\n", 3)) // repeated greetings are ignored
		id, out := r.ask(r.t.Context(), inspect)
		r.say(`{"id":%q,"ok":true,"result":{"note":"fine"}}`+"\n", id)
		r.want(out, "fine", "")
	})
}

// TestConnAnswers: answers reach their operations in any order, whatever else the runner
// sends between them.
func TestConnAnswers(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 2<<20)
	for _, tc := range []struct{ name, noise string }{
		{"nothing between", ""},
		{"a ping", `{"event":"ping"}` + "\n"},
		{"a print", "Updating DocTypes…\n\n\r\n"},
		{"JSON that is no frame", "[1,2]\n\"text\"\n7\nnull\ntrue\n{}\n"},
		{"a frame cut short", `{"id":"1","ok":tr` + "\n"},
		{"a frame of other types", `{"id":1,"ok":"yes"}` + "\n"},
		{"an answer for nobody", `{"id":"99","ok":true}` + "\n" + `{"id":"99","event":"progress","message":"m"}` + "\n"},
		{"bytes", "\x00\xff\xfe{\x1b[31m\n"},
		{"2 MB in one line", huge + "\n"},
		{"2 MB of JSON in one line", `{"id":"1","ok":true,"result":{"note":"` + huge + `"}}` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRunner(t, true, func(r *runner) {
				var ids [3]string
				var outs [3]<-chan outcome
				for i := range ids {
					ids[i], outs[i] = r.ask(r.t.Context(), inspect)
				}
				for _, i := range []int{2, 0, 1} {
					r.say("%s", tc.noise)
					r.say(`{"id":%q,"ok":true,"result":{"note":"for %d"}}`+"\n", ids[i], i)
					r.want(outs[i], fmt.Sprintf("for %d", i), "")
					r.say(`{"id":%q,"ok":false}`+"\n", ids[i]) // sent twice: the first one counts
				}
				if text := r.log.String(); strings.Contains(text, "DocTypes") || strings.Contains(text, "xxx") {
					r.t.Errorf("the log quotes what nobody knows: %.300s", text)
				}
			})
		})
	}
}

func TestConnProgress(t *testing.T) {
	t.Parallel()
	onRunner(t, true, func(r *runner) {
		var told []string
		op := inspect
		op.Progress = func(message string, percent int) { told = append(told, fmt.Sprintf("%s %d", message, percent)) }
		id, out := r.ask(r.t.Context(), op)
		quiet, other := r.ask(r.t.Context(), inspect)
		r.say(`{"id":%q,"event":"progress","message":"Updating","percent":41}`+"\n", id)
		r.say(`{"id":%q,"event":"progress","message":"for nobody","percent":1}`+"\n", quiet)
		r.say(`{"id":%q,"event":"progress","message":"Waiting","percent":-1}`+"\n", id)
		r.say(`{"id":%q,"ok":true}`+"\n"+`{"id":%q,"ok":true}`+"\n", id, quiet)
		r.want(out, "", "")
		r.want(other, "", "")
		r.say(`{"id":%q,"event":"progress","message":"too late","percent":100}`+"\n", id)
		if diff := cmp.Diff([]string{"Updating 41", "Waiting -1"}, told); diff != "" {
			r.t.Error(diff)
		}
	})
}

func TestConnErrors(t *testing.T) {
	t.Parallel()
	const vague = "The bench gave an answer that is not understood."
	for _, tc := range []struct {
		name, frame string
		want        nexus.Error
		cause       string
	}{
		{"fenced", `{"code":"fenced","message":"A newer run works on this site.","detail":"gen 1 below 2","seen":"1795451262824428"}`,
			nexus.Error{Code: nexus.Fenced, Msg: "A newer run works on this site.", Seen: 1_795_451_262_824_428}, "gen 1 below 2"},
		{"conflict", `{"code":"conflict","message":"Not ours."}`, nexus.Error{Code: nexus.Conflict, Msg: "Not ours."}, ""},
		{"outdated", `{"code":"conflict","message":"Too late.","outdated":true}`, nexus.Error{Code: nexus.Conflict, Msg: "Too late.", Outdated: true}, ""},
		{"unavailable", `{"code":"unavailable","message":"Away.","detail":"x"}`, nexus.Error{Code: nexus.Unavailable, Msg: "Away.", Wait: nexus.WaitBench}, "x"},
		{"timeout", `{"code":"timeout","message":"Too slow."}`, nexus.Error{Code: nexus.Timeout, Msg: "Too slow."}, ""},
		{"not a token", `{"code":"fenced","message":"m","seen":"soon"}`, nexus.Error{Code: nexus.Fenced, Msg: "m"}, ""},
		{"no error", `null`, nexus.Error{Code: nexus.Internal, Msg: vague}, ""},
		{"an error without a code", `{}`, nexus.Error{Code: nexus.Internal, Msg: vague}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onRunner(t, true, func(r *runner) {
				id, out := r.ask(r.t.Context(), inspect)
				r.say(`{"id":%q,"ok":false,"result":{"note":"ignored"},"error":%s}`+"\n", id, tc.frame)
				got := r.want(out, "", tc.want.Code)
				e, ok := errors.AsType[*nexus.Error](got.err)
				if !ok {
					r.t.Fatalf("answered %v", got.err)
				}
				cause := ""
				if e.Err != nil {
					cause = e.Err.Error()
				}
				if e.Op != "bench.inspect" || e.Msg != tc.want.Msg || e.Seen != tc.want.Seen || e.Wait != tc.want.Wait || e.Outdated != tc.want.Outdated || cause != tc.cause {
					r.t.Errorf("got %+v", e)
				}
			})
		})
	}
}
