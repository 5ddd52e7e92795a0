package nexus

import (
	"fmt"
	"log/slog"
)

// Secret is text that must not be printed: every way of formatting, logging or
// encoding it shows ***. The empty secret prints as nothing.
type Secret string

// Reveal gives the text itself, at the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format hides the text from every verb of fmt, the wrong ones too.
func (s Secret) Format(f fmt.State, verb rune) { fmt.Fprintf(f, fmt.FormatString(f, verb), s.String()) }

// MarshalText hides the text from encoding/json and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
