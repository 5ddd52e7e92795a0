package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// ownZone returns the IANA name of this machine's time zone, from TZ or else from the link
// /etc/localtime, as the C library does; empty if it is not known.
func ownZone() string {
	link, _ := os.Readlink("/etc/localtime") // empty without a link
	return zoneOf(os.Getenv("TZ"), link)
}

// zoneOf returns no zone for UTC, which is the default of machines that were not set up.
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

// refusesZone reports whether a request was refused because of its time zone.
func refusesZone(err error) bool {
	e, ok := errors.AsType[*nexus.Error](err)
	return ok && slices.ContainsFunc(e.Fields, func(f nexus.FieldError) bool { return f.Field == "timezone" })
}
