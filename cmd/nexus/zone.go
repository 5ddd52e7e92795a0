package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// ownZone is this machine's time zone by its IANA name; empty where it cannot be
// told. It is found as the C library does: TZ, then the link /etc/localtime.
func ownZone() string {
	link, _ := os.Readlink("/etc/localtime") // no link tells nothing
	return zoneOf(os.Getenv("TZ"), link)
}

// zoneOf takes UTC for a machine that nobody has set.
func zoneOf(env, link string) string {
	name := strings.TrimPrefix(env, ":")
	if name == "" {
		_, name, _ = strings.Cut(link, "zoneinfo/")
	}
	if _, err := time.LoadLocation(name); err != nil || !strings.Contains(name, "/") || strings.HasPrefix(name, "Etc/") {
		return ""
	}
	return name
}

// refusesZone tells whether a request was refused for its time zone.
func refusesZone(err error) bool {
	e, ok := errors.AsType[*nexus.Error](err)
	return ok && slices.ContainsFunc(e.Fields, func(f nexus.FieldError) bool { return f.Field == "timezone" })
}
