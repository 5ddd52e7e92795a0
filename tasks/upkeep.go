package tasks

import (
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Upkeep is what a worker does about the templates of its bench.
type Upkeep struct {
	Build []nexus.TemplateSpec // wanted, and there is none that sites can be copied from, or it is to be renewed
	Drop  []nexus.Template     // no site will be copied from these any more
}

// UpkeepOf decides on a bench's templates by what it lists: wanted are built for signups
// with these apps. Dropped are those that have a problem, unless a newer version of Nexus
// made them, and those that a newer template of the same key replaces. Busy tells of jobs
// that are not over: what they make is left alone. So is what a job of an unknown past left
// unfinished, which the doctor tells of.
func UpkeepOf(wanted []nexus.TemplateSpec, apps []string, have []nexus.Template, busy func(nexus.JobID) bool) Upkeep {
	var out Upkeep
	newest := nexus.NewestTemplates(have)
	for _, t := range have {
		switch {
		case t.Version == 0 || t.Version > nexus.TemplateVersion || busy(t.Job):
		case t.Problem != "" || newest[t.Spec.Key(t.Apps)].Name != t.Name:
			out.Drop = append(out.Drop, t)
		}
	}
	for _, spec := range wanted {
		if t, there := newest[spec.Key(apps)]; !there || t.Renew {
			out.Build = append(out.Build, spec)
		}
	}
	return out
}
