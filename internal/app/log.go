package app

import (
	"io"
	"log/slog"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// NewLog writes JSON lines; attributes of the context go into every line.
func NewLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(nexus.LogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})))
}
