package nexus

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// The keys of log attributes.
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

	LogRepeated = "left_out" // how many lines like this one were dropped since the last
)

// PanicText is the text to log for a recovered value: the text of a runtime error, and
// the type of anything else, since its value may hold user input.
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

// LogText returns the attribute that WithLog put into the context under a key; empty if
// there is none.
func LogText(ctx context.Context, key string) (text string) {
	attrs, _ := ctx.Value(logAttrsKey{}).([]slog.Attr)
	for _, attr := range attrs {
		if attr.Key == key {
			text = attr.Value.String()
		}
	}
	return text
}

// LogHandler wraps a handler, so that it adds the attributes of WithLog to each line.
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

// repeatEvery is how often a repeated line is written.
const repeatEvery = 30 * time.Second

// Repeats limits how often a line is logged, so that an outage does not fill the log: the
// first one is written, and then one each 30 s, with the number of those dropped since.
// The zero value is ready for use. Safe for concurrent use.
type Repeats struct {
	mu   sync.Mutex
	said map[string]*repeat
}

type repeat struct {
	at   time.Time
	left int
}

// Log writes a line, unless one with the same key was written in the last 30 s.
func (r *Repeats) Log(ctx context.Context, log *slog.Logger, level slog.Level, key, msg string, args ...any) {
	r.mu.Lock()
	now := time.Now()
	last := r.said[key]
	if last == nil {
		if r.said == nil || len(r.said) >= 1000 { // there are few keys; the bound is for safety
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
