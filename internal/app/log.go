package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// NewLog writes JSON lines; attributes of the context go into every line.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(nexus.LogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})))
}

// redisLog hands go-redis' own lines to slog. In an outage there are hundreds: those
// of one form are written once, and then now and again.
type redisLog struct {
	log     *slog.Logger
	repeats *nexus.Repeats
}

// Printf is what go-redis calls.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.repeats.Log(ctx, l.log, slog.LevelWarn, format, "redis client", "line", fmt.Sprintf(format, v...))
}

// logRedis sends the lines of go-redis to a log. It has one logger for the whole
// process, so this belongs to the start of one.
func logRedis(log *slog.Logger) { redis.SetLogger(redisLog{log, &nexus.Repeats{}}) }
