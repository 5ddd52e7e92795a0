package store

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// remedy says what ends an error of Redis.
type remedy int

const (
	remedyTime     remedy = iota // time: it passes by itself
	remedyOperator               // an operator repairs the server; processes keep running meanwhile
	remedySetup                  // an operator corrects the configuration; no process starts until then
	remedyCode                   // a release: one of our scripts or records is broken
)

// answer is one kind of error reply of Redis.
type answer struct {
	text   string // its prefix, without "ERR "
	remedy remedy
	say    string // what is wrong and what to do, for operators
}

// The sentences that several answers share.
const (
	sayRights  = "The user that REDIS_URL names lacks rights in Redis; give it those that docs/SETUP.md lists (ACL SETUSER)."
	sayCluster = "Redis is a cluster, which is not supported: asynq's keys lie in other slots, and no job would be delivered. Point REDIS_URL at a single server (a primary with replicas is fine)."
	sayAway    = "Redis cannot be reached; check REDIS_URL and that the server runs."
)

// answers lists the error replies of Redis with the remedy of each. A reply that is not in
// the list is remedyCode.
var answers = []answer{
	{"LOADING", remedyTime, "Redis is loading its data; it answers when that is done."},
	{"BUSY ", remedyTime, "Redis is busy with a script; it answers when that is done (SLOWLOG GET says which script)."},
	{"MASTERDOWN", remedyTime, "Redis is a replica that lost its primary; point REDIS_URL at the primary."},
	{"TRYAGAIN", remedySetup, sayCluster},
	{"EXECABORT", remedyTime, "Redis refused a transaction; the line before says why."},
	{"READONLY", remedyOperator, "Redis is a replica and takes no writes; point REDIS_URL at the primary, or promote this server (REPLICAOF NO ONE)."},
	{"OOM", remedyOperator, "Redis has used all of its maxmemory and takes no writes; raise it (CONFIG SET maxmemory), or give the server more memory."},
	{"MISCONF", remedyOperator, "Redis cannot write to its disk and takes no writes; make room on it, or look at the server's log for the reason."},
	{"NOREPLICAS", remedyOperator, "Redis takes no writes, since it has fewer replicas than min-replicas-to-write; bring them back, or lower it."},
	{"max number of clients", remedyOperator, "Redis has as many clients as maxclients allows; raise it, or end some."},
	{"NOAUTH", remedySetup, "Redis wants a password; put user and password into REDIS_URL (redis://user:password@host:6379/0)."},
	{"WRONGPASS", remedySetup, "Redis does not know the user and password of REDIS_URL; correct them there, or in Redis (ACL SETUSER)."},
	{"invalid password", remedySetup, "Redis does not know the password of REDIS_URL; correct it there."},
	{"AUTH <password> called without any password", remedySetup, "REDIS_URL has a password and Redis has none; take it out there, or set one in Redis (requirepass)."},
	{"NOPERM", remedySetup, sayRights},
	{"The user executing the script can't", remedySetup, sayRights}, // Redis 7.0, within a script
	{"ACL failure in script", remedySetup, sayRights},               // Redis 7.2
	{"DENIED", remedySetup, "Redis is in protected mode and takes no connections from other hosts; set a password in it (requirepass), and bind it to a private address."},
	{"DB index is out of range", remedySetup, "Redis has no database of the number that REDIS_URL ends with; use /0."},
	{"unknown command", remedySetup, "Redis lacks a command that is needed; use Redis 7 or later, and rename no commands."},
	{"Unknown Redis command called from script", remedySetup, "Redis lacks a command that is needed; use Redis 7 or later, and rename no commands."},
	{"MOVED", remedySetup, sayCluster},
	{"ASK ", remedySetup, sayCluster},
	{"CROSSSLOT", remedySetup, sayCluster},
	{"CLUSTERDOWN", remedySetup, sayCluster},
}

// answerOf returns the answer for an error. An error that is not a reply of Redis, such as
// a lost connection, is remedyTime.
func answerOf(err error) answer {
	var netErr net.Error
	var answered redis.Error
	if errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, redis.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) || !errors.As(err, &answered) {
		return answer{remedy: remedyTime, say: sayAway}
	}
	return lookUp(answered.Error())
}

func lookUp(text string) answer {
	text = strings.TrimPrefix(text, "ERR ")
	for _, a := range answers {
		if strings.HasPrefix(text, a.text) {
			return a
		}
	}
	return answer{remedy: remedyCode, say: "Redis answers with an error that is not expected of it: " + text}
}

// classify turns an error of Redis into a nexus.Error: internal if the remedy is
// remedyCode, else unavailable.
func classify(op string, err error) error {
	code, msg := nexus.Unavailable, "Our registry cannot be reached just now. Nothing was lost; please try again in a moment."
	if answerOf(err).remedy == remedyCode {
		code, msg = nexus.Internal, "Something went wrong on our side. It was noted; please try again in a moment."
	}
	return &nexus.Error{Code: code, Op: "store." + op, Msg: msg, Err: err}
}
