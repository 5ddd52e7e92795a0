package app

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Setting is one setting, for people.
type Setting struct {
	Name    string
	Default string // empty: unset
	Text    string // what it is for
}

// Settings lists the settings that Load reads, in the order of Config, and then those of
// the command line. Names and defaults are those of Config.
func Settings() []Setting {
	var out []Setting
	for field := range reflect.TypeFor[Config]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if name != "" {
			out = append(out, Setting{Name: name, Default: field.Tag.Get("envDefault"), Text: meanings[name]})
		}
	}
	for _, name := range cliSettings {
		out = append(out, Setting{Name: name, Text: meanings[name]})
	}
	return out
}

// Dotenv writes a .env with all settings: the given ones with their values, the others as
// comments with their defaults.
func Dotenv(given map[string]nexus.Secret) []byte {
	var b strings.Builder
	b.WriteString("# The settings of Nexus Provisioner. A line #NAME=value shows a default; remove the #\n" +
		"# to change it. This file contains secrets: only you should be able to read it.\n" +
		"# To use it in a shell:  set -a; . ./.env; set +a\n")
	for _, s := range Settings() {
		b.WriteByte('\n')
		for line := range strings.Lines(s.Text) {
			b.WriteString("# " + line)
		}
		value, ok := given[s.Name]
		switch {
		case ok:
			fmt.Fprintf(&b, "\n%s=%s\n", s.Name, value.Reveal())
		case s.Default == "" && strings.Contains(s.Text, "Unset:"):
			fmt.Fprintf(&b, "\n#%s=\n", s.Name)
		case s.Default == "":
			fmt.Fprintf(&b, " Default: unset.\n#%s=\n", s.Name)
		default:
			fmt.Fprintf(&b, "\n#%s=%s\n", s.Name, s.Default)
		}
	}
	return []byte(b.String())
}

// meanings say what each setting is for. An empty value means unset.
var meanings = map[string]string{ //nolint:gosec // names of secrets
	"REDIS_URL": "The Redis that API and workers share, with the user and password in the URL.\n" +
		"Unset: redis://127.0.0.1:6379/0; nexus dev embeds one.",
	"REDIS_URL_FILE":      "Or a file that contains it.",
	"NEXUS_HTTP_ADDR":     "Where the API listens.",
	"NEXUS_METRICS_ADDR":  "Where a worker serves /metrics and /healthz, as host:port. Unset: nowhere.",
	"NEXUS_SANDBOX_ADDR":  "Where the sandbox's sites answer.",
	"NEXUS_SANDBOX_DIR":   "The folder of the sandbox's sites, the same for all processes.\nUnset: nexus dev makes one, and removes it at its end.",
	"NEXUS_SANDBOX_DELAY": "Time that each operation of the sandbox takes, such as 500ms. real: what each\ntakes on a real bench. Unset: none.",
	"NEXUS_BENCH":         "sandbox: no real sites are made. docker: the bench in the container DOCKER_SERVICE.",
	"NEXUS_BENCH_SLOTS":   "Jobs a bench admits at once. Unset: 64 on the sandbox, 8 on docker.",
	"DOCKER_SERVICE":      "The container, or Compose service, of the bench.",
	"NEXUS_DOMAIN":        "The domain of the sites: acme.<domain>.",
	"NEXUS_SITE_URL":      "A site's address, with {site} for its full name.\nUnset: https://{site}; on the sandbox http://{site}:<its port>.",
	"NEXUS_VERIFY_ADDR": "Where workers reach a new site to check it, as host:port; its name goes into the\n" +
		"Host header. Needed on docker, such as backend:8000. Unset: the sandbox's address.",
	"NEXUS_MODE": "multi: each signup gets a site. single: each becomes a user of the master site.\n" +
		"Unset: multi.",
	"ERP_NEXT_URL": "The master site's address, such as https://erp.example.com. Needed with\n" +
		"NEXUS_MODE=single; otherwise Nexus only checks at its start that the site answers.",
	"ERP_API_KEY":         "API key of a user of the master site; with NEXUS_MODE=single a System Manager.",
	"ERP_API_SECRET":      "The secret to that key.",
	"ERP_API_SECRET_FILE": "Or a file that contains it.",
	"FRAPPE_SITE_NAME": "The master site's name on its bench. No tenant may have it, and nothing removes it.\n" +
		"Unset: the host of ERP_NEXT_URL.",
	"NEXUS_APPS": "Apps of a new site, separated by commas. One with a ? is skipped if the bench lacks it.",
	"NEXUS_TEMPLATES": "Templates that workers build and renew, separated by commas; new sites are copied from\n" +
		"them in seconds. plain: without a company. US: for a country, by its ISO code, with a\n" +
		"company. DE:SKR04: with a chart of accounts of that name. Of several for one country\n" +
		"the first is taken. Unset: none.",
	"NEXUS_COUNTRY": "Country of a signup that names none, by its ISO code, such as DE. Unset: none, so its\n" +
		"site has no company.",
	"NEXUS_POOL": "How many copies of a template a bench keeps ready for signups: 0, a number such as 4, or\n" +
		"a range such as 2-20, in which it follows the demand. Unset: 0 on the sandbox, 2-20 on docker.",
	"NEXUS_POOL_BYTES":        "The most that these copies take on the database's disk, such as 10GiB or 500MiB.",
	"NEXUS_ADMIN_ROLES":       "Roles of a site's admin, separated by commas. Unset: all enabled ones.",
	"ADMIN_PASSWORD":          "Password of the Administrator of new sites. Unset: a random one, which is not kept.",
	"NEXUS_TIME_ZONE":         "Time zone of a site whose signup names none. In single mode: the master site's.",
	"NEXUS_DB_ACCOUNT":        "The workers' account in the bench's database (nexus bench init makes it).",
	"NEXUS_DB_PASSWORD":       "Its password, of 16 characters or more; nexus bench init and all workers need the same.",
	"NEXUS_DB_PASSWORD_FILE":  "Or a file that contains it.",
	"NEXUS_SECRET_KEYS":       "Keys that seal passwords and API keys, as id:base64-of-32-bytes, separated by\ncommas; the first one seals. API and workers need the same keys. If the keys are lost,\nthe signups under way are lost too.",
	"NEXUS_SECRET_KEYS_FILE":  "Or a file that contains them.",
	"NEXUS_TOKENS":            "Tokens that the API accepts, as name:scope:token, separated by commas. Scopes:\nsignup, read, operate.",
	"NEXUS_TOKENS_FILE":       "Or a file that contains them.",
	"NEXUS_SIGNUP":            "Who may sign up. open: everybody; token: who has a token; closed: nobody.",
	"NEXUS_CORS_ORIGINS":      "Other origins whose pages may call the API, such as https://www.example.com.",
	"NEXUS_RATE_LIMIT":        "on or off: limits of signups an hour. Unset: on; in nexus dev off.",
	"NEXUS_TRUSTED_PROXIES":   "Proxies whose X-Forwarded-For is trusted: addresses or networks, such as 10.0.0.0/8.",
	"NEXUS_PROVISION_TIMEOUT": "How long after it was recorded a job is given up.",
	"NEXUS_OUTPUT_LIMIT":      "Bytes of output that one operation on the bench may have.",
	"NEXUS_JOB_RETENTION":     "How long a job that is over is kept.",
	"NEXUS_DELETE_GRACE":      "How long a removed tenant can be restored.",
	"NEXUS_CONCURRENCY":       "Jobs that one worker works on at once.",
	"NEXUS_EVENT_STREAMS":     "Event streams that one API keeps open, each with some 30 KB of memory.",
	"NEXUS_LOG_LEVEL":         "DEBUG, INFO, WARN or ERROR.",
	"NEXUS_API_URL":           "The API for the command line. Unset: http://127.0.0.1:8300.",
	"NEXUS_API_TOKEN":         "The token of the command line. One with the scope operate may do everything.",
}
