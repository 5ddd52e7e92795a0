package app

import (
	"errors"
	"fmt"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Misconfigured is an error that another environment mends: a process ends with 2
// for it, and starting it again as it is would not help.
type Misconfigured struct{ error }

// Unwrap gives what is wrong.
func (e Misconfigured) Unwrap() error { return e.error }

// shortestDBPassword is the length below which a database password is refused: it is made by
// a program and typed by nobody, and whoever guesses it may call what the workers may.
const shortestDBPassword = 16

// needs says what the parts of a process lack of what Load does not ask of
// everybody, all at once.
func (c *Config) needs(p Parts) error {
	var out []error
	if c.SecretKeys == "" && !p.Dev && (p.API || p.Worker) {
		out = append(out, errors.New("NEXUS_SECRET_KEYS is not set; the API and the workers need the same keys, such as: k1:$(openssl rand -base64 32)"))
	}
	if c.SecretKeys != "" {
		if _, err := nexus.ParseKeyring(c.SecretKeys); err != nil {
			out = append(out, fmt.Errorf("NEXUS_SECRET_KEYS: %w", err))
		}
	}
	if p.API {
		if _, err := api.ParseTokens(c.Tokens); err != nil {
			out = append(out, fmt.Errorf("NEXUS_TOKENS: %w", err))
		}
	}
	return errors.Join(append(out, c.benchNeeds(p)...)...)
}

// benchNeeds says what is lacking to work on the bench, as workers and the
// operator's commands do.
func (c *Config) benchNeeds(p Parts) (out []error) {
	if c.Bench == "sandbox" && c.SandboxDir == "" && !p.Dev && (p.Worker || p.Sandbox) {
		out = append(out, errors.New("NEXUS_SANDBOX_DIR is not set: the folder of the sandbox's sites, the same for all processes; where nexus dev runs: eval \"$(nexus dev env)\""))
	}
	if c.Bench == "docker" && c.DBPassword == "" && p.Worker {
		out = append(out, errors.New("NEXUS_DB_PASSWORD is not set (nor NEXUS_DB_PASSWORD_FILE): choose a password for the workers' database account, such as "+
			"$(openssl rand -hex 24), and give the same one to nexus bench init and to all workers"))
	}
	return out
}
