package nexus

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// Keys of log attributes, so that one thing has one name in every line.
const (
	LogJob     = "job"
	LogTenant  = "tenant"
	LogKind    = "kind"
	LogStep    = "step"
	LogGen     = "gen"
	LogAttempt = "attempt"
	LogHost    = "host"
	LogCode    = "code"
	LogDur     = "dur_ms"
	LogRequest = "request"
	LogWorker  = "worker"
	LogErr     = "err"

	LogRepeated = "left_out" // how many lines like this one were left out since the last
)

// PanicText is what a log may tell of a recovered value: the text of the runtime's
// own errors; of anything else the type, since it may hold what somebody entered.
// The stack tells where it was.
func PanicText(recovered any) string {
	if err, ok := recovered.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", recovered)
}

type logAttrsKey struct{}

// WithLog adds attributes to every line that is logged with the context.
func WithLog(ctx context.Context, attrs ...slog.Attr) context.Context {
	old, _ := ctx.Value(logAttrsKey{}).([]slog.Attr)
	return context.WithValue(ctx, logAttrsKey{}, append(old[:len(old):len(old)], attrs...))
}

// LogText is the text that WithLog put into the context under a key; empty without.
func LogText(ctx context.Context, key string) (text string) {
	attrs, _ := ctx.Value(logAttrsKey{}).([]slog.Attr)
	for _, attr := range attrs {
		if attr.Key == key {
			text = attr.Value.String()
		}
	}
	return text
}

// LogHandler wraps a handler so that it adds what WithLog put into the context.
func LogHandler(h slog.Handler) slog.Handler { return ctxHandler{h} }

type ctxHandler struct{ slog.Handler }

func (h ctxHandler) Handle(ctx context.Context, r slog.Record) error {
	if attrs, ok := ctx.Value(logAttrsKey{}).([]slog.Attr); ok {
		r.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, r)
}

func (h ctxHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return ctxHandler{h.Handler.WithAttrs(attrs)}
}

func (h ctxHandler) WithGroup(name string) slog.Handler { return ctxHandler{h.Handler.WithGroup(name)} }

// repeatEvery is how often a line that repeats itself is written.
const repeatEvery = 30 * time.Second

// Repeats keeps lines that come again and again, as in an outage, from filling a log:
// each is written the first time, and then each half minute with the number of those
// left out since. The zero value is ready. Safe for concurrent use.
type Repeats struct {
	mu   sync.Mutex
	said map[string]*repeat
}

type repeat struct {
	at   time.Time
	left int
}

// Log writes a line, unless one with the same key was written in the last half minute.
func (r *Repeats) Log(ctx context.Context, log *slog.Logger, level slog.Level, key, msg string, args ...any) {
	r.mu.Lock()
	now := time.Now()
	last := r.said[key]
	if last == nil {
		if r.said == nil || len(r.said) >= 1000 { // keys are few; this is for the one that is not
			r.said = map[string]*repeat{}
		}
		last = &repeat{}
		r.said[key] = last
	} else if now.Sub(last.at) < repeatEvery {
		last.left++
		r.mu.Unlock()
		return
	}
	if last.left > 0 {
		args = append(args[:len(args):len(args)], LogRepeated, last.left)
	}
	last.at, last.left = now, 0
	r.mu.Unlock()
	log.Log(ctx, level, msg, args...)
}
