package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// NewLog logs JSON lines, each with the attributes of its context.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(nexus.LogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})))
}

// redisLog writes go-redis' own lines to slog. In an outage there are hundreds of them, so
// repeated ones are limited.
type redisLog struct {
	log     *slog.Logger
	repeats *nexus.Repeats
}

// Printf is what go-redis calls.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.repeats.Log(ctx, l.log, slog.LevelWarn, format, "redis client", "line", fmt.Sprintf(format, v...))
}

// logRedis sends the lines of go-redis to a log. go-redis has one logger for the whole
// process.
func logRedis(log *slog.Logger) { redis.SetLogger(redisLog{log, &nexus.Repeats{}}) }
