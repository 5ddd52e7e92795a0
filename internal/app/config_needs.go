package app

import (
	"errors"
	"fmt"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Misconfigured is an error in the configuration. A process ends with 2 for it: it would
// fail again until the configuration is changed.
type Misconfigured struct{ error }

// Unwrap returns the cause.
func (e Misconfigured) Unwrap() error { return e.error }

// shortestDBPassword is the least length of the database password. Nobody has to type it,
// and whoever guesses it has the rights of the workers.
const shortestDBPassword = 16

// needs returns an error for each setting that these parts need and that is missing. Load
// does not check them, since other processes need other settings.
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

// benchNeeds returns an error for each missing setting that work on the bench needs.
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
