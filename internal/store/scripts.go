package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

//go:embed lua/*.lua
var sources embed.FS

// script returns a function that loads lua/<name>.lua, with the libraries before it, once.
func script(name string) func() *redis.Script {
	return sync.OnceValue(func() *redis.Script {
		var all strings.Builder
		for _, part := range []string{"lib", "lib_slots", "lib_pool", "lib_end", name} {
			text, _ := sources.ReadFile("lua/" + part + ".lua") // a missing one fails every test
			all.Write(append(text, '\n'))
		}
		return redis.NewScript(all.String())
	})
}

var (
	submitScript      = script("submit")
	takeScript        = script("take")
	renewScript       = script("renew")
	checkpointScript  = script("checkpoint")
	waitScript        = script("wait")
	giveUpScript      = script("giveup")
	reserveScript     = script("reserve")
	divertScript      = script("divert")
	offerScript       = script("offer")
	withdrawScript    = script("withdraw")
	reapScript        = script("reap")
	reapedScript      = script("reaped")
	reshelveScript    = script("reshelve")
	finishScript      = script("finish")
	raiseScript       = script("raise")
	cancelScript      = script("cancel")
	resumeScript      = script("resume")
	dueScript         = script("due")
	redispatchScript  = script("redispatch")
	credentialsScript = script("credentials")
	failedScript      = script("failed")
	benchScript       = script("bench")
	probeScript       = script("probe")
	reindexScript     = script("reindex")
)

// The keys that Go code names; the scripts derive the others.
const prefix = "{nexus}:"

func jobKey(id nexus.JobID) string { return prefix + "job:" + string(id) }

func benchKey(name string) string { return prefix + "bench:" + name }

func knowsKey(bench string) string { return prefix + "knows:" + bench }

func templatesKey(bench string) string { return prefix + "templates:" + bench }

func offersKey(bench string) string { return prefix + "offers:" + bench }

func tenantKey(site nexus.SiteName) string { return prefix + "tenant:" + string(site) }

const (
	dueKey     = prefix + "due"
	jobsKey    = prefix + "jobs"
	tenantsKey = prefix + "tenants"
	wakeKey    = prefix + "wake"
	installKey = prefix + "install"
	keysKey    = prefix + "keys"
	benchesKey = prefix + "benches"
	restingKey = prefix + "resting:"
)

// reply is a script's reply: a word and its values.
type reply struct {
	word string
	rest []any
}

// run calls a script with the given key as its first.
func (s *Store) run(ctx context.Context, op string, call *redis.Script, key string, args ...any) (reply, error) {
	raw, err := call.Run(ctx, s.rdb, []string{key}, args...).Slice()
	if err != nil {
		return reply{}, classify(op, err)
	}
	word, _ := raw[0].(string)
	return reply{word: word, rest: raw[1:]}, nil
}

// job decodes the record that follows the word.
func (r reply) job() (nexus.Job, error) {
	fields := r.fields()
	if fields == nil {
		return nexus.Job{}, errors.New("no record in the answer")
	}
	return decodeJob(fields)
}

// fields returns the record that follows the word, as it is stored; nil: there is none.
func (r reply) fields() map[string]string {
	if len(r.rest) == 0 {
		return nil
	}
	flat, _ := r.rest[0].([]any)
	fields := make(map[string]string, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		fields[name], _ = flat[i+1].(string)
	}
	return fields
}

func (r reply) text(i int) string {
	if i >= len(r.rest) {
		return ""
	}
	text, _ := r.rest[i].(string)
	return text
}

// refuse returns an error of the request with a sentence for people.
func refuse(op string, code nexus.Code, format string, args ...any) error {
	return &nexus.Error{Code: code, Op: "store." + op, Msg: fmt.Sprintf(format, args...)}
}

// conflict returns a conflict with a reason, which tells programs one conflict from another.
func conflict(op string, reason nexus.Reason, format string, args ...any) error {
	return &nexus.Error{Code: nexus.Conflict, Reason: reason, Op: "store." + op, Msg: fmt.Sprintf(format, args...)}
}
