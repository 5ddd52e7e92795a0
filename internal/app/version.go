package app

import (
	"runtime"
	"runtime/debug"
)

// Version is what a program says of itself.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	At       string `json:"at,omitempty"` // of the commit
	Modified bool   `json:"modified"`     // built from a tree that differs from it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Built reads what the compiler noted.
func Built() Version {
	v := Version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
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

// String is the version and the commit in one line.
func (v Version) String() string {
	text := v.Version
	if v.Commit != "" {
		text += " (" + v.Commit[:min(12, len(v.Commit))] + ")"
	}
	return text + " " + v.Go + " " + v.Platform
}
