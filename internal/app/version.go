package app

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// release is the newest version in CHANGELOG.md.
const release = "2.0.0"

// commit is set by the linker where the compiler has no repository, as in the image:
// -ldflags "-X github.com/nexus-erp/provisioner/internal/app.commit=…".
var commit string //nolint:gochecknoglobals // the linker sets nothing else

// Version is the version of a program.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	At       string `json:"at,omitempty"` // of the commit
	Modified bool   `json:"modified"`     // built from a tree that differs from it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Built returns the version that the compiler and the linker have set.
func Built() Version {
	v := Version{Version: release + "-dev", Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	// Without a tag the compiler sets "(devel)", or a version v0.0.0-….
	if tag := info.Main.Version; strings.HasPrefix(tag, "v") && !strings.HasPrefix(tag, "v0.0.0-") {
		v.Version = tag
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Commit = setting.Value
		case "vcs.time":
			v.At = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}

// String returns version and commit in one line.
func (v Version) String() string {
	text := v.Version
	if v.Commit != "" {
		text += " (" + v.Commit[:min(12, len(v.Commit))] + ")"
	}
	return text + " " + v.Go + " " + v.Platform
}
