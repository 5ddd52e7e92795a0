package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caarlos0/env/v11"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Config is the configuration, read from the environment; secrets may also come from files
// (…_FILE). Use Load to make one.
type Config struct {
	RedisURLFile nexus.Secret `env:"REDIS_URL_FILE,file"`
	RedisURL     nexus.Secret `env:"REDIS_URL"` // may hold a password; empty: redis://127.0.0.1:6379/0; nexus dev: an embedded one

	HTTPAddr     string `env:"NEXUS_HTTP_ADDR" envDefault:"127.0.0.1:8300"`
	MetricsAddr  string `env:"NEXUS_METRICS_ADDR"` // where a worker serves /metrics and /healthz; empty: nowhere
	SandboxAddr  string `env:"NEXUS_SANDBOX_ADDR" envDefault:"127.0.0.1:8301"`
	SandboxDir   string `env:"NEXUS_SANDBOX_DIR"`   // needed unless all parts are in one process
	SandboxDelay string `env:"NEXUS_SANDBOX_DELAY"` // time each sandbox operation takes, or "real"; empty: none
	Bench        string `env:"NEXUS_BENCH" envDefault:"sandbox"`
	BenchSlots   int    `env:"NEXUS_BENCH_SLOTS"` // 0: 64 on the sandbox, 8 on docker
	Service      string `env:"DOCKER_SERVICE" envDefault:"backend"`
	Domain       string `env:"NEXUS_DOMAIN" envDefault:"localhost"`
	SiteURL      string `env:"NEXUS_SITE_URL"`    // pattern with {site}
	VerifyAddr   string `env:"NEXUS_VERIFY_ADDR"` // host:port; empty: SandboxAddr

	Mode             string       `env:"NEXUS_MODE"` // single: signups become users of the master site; empty: multi
	MasterURL        string       `env:"ERP_NEXT_URL"`
	MasterKey        nexus.Secret `env:"ERP_API_KEY"`
	MasterSecret     nexus.Secret `env:"ERP_API_SECRET"`
	MasterSecretFile nexus.Secret `env:"ERP_API_SECRET_FILE,file"`
	MasterSite       string       `env:"FRAPPE_SITE_NAME"` // protected; empty: the host of ERP_NEXT_URL

	Apps          []string     `env:"NEXUS_APPS" envDefault:"erpnext,nexus_core?"`
	Templates     []string     `env:"NEXUS_TEMPLATES"`                     // that workers build
	Country       string       `env:"NEXUS_COUNTRY"`                       // ISO 3166 code, of signups that name no country; empty: they have none
	Pool          string       `env:"NEXUS_POOL"`                          // least and most standbys of a shelf; empty: 0 on the sandbox, 2-20 on docker
	PoolBytes     string       `env:"NEXUS_POOL_BYTES" envDefault:"10GiB"` // that a bench's standbys may take on the database's disk
	AdminRoles    []string     `env:"NEXUS_ADMIN_ROLES"`                   // empty: all enabled roles
	AdminPassword nexus.Secret `env:"ADMIN_PASSWORD"`                      // Administrator of new sites; empty: random
	TimeZone      string       `env:"NEXUS_TIME_ZONE" envDefault:"UTC"`
	DBAccount     string       `env:"NEXUS_DB_ACCOUNT" envDefault:"nexus"`
	DBPassword    nexus.Secret `env:"NEXUS_DB_PASSWORD"`
	DBPassFile    nexus.Secret `env:"NEXUS_DB_PASSWORD_FILE,file"`

	SecretKeys     nexus.Secret `env:"NEXUS_SECRET_KEYS"` // id:base64-of-32-bytes,…
	SecretKeysFile nexus.Secret `env:"NEXUS_SECRET_KEYS_FILE,file"`
	Tokens         nexus.Secret `env:"NEXUS_TOKENS"` // name:scope:token,…
	TokensFile     nexus.Secret `env:"NEXUS_TOKENS_FILE,file"`
	Signup         string       `env:"NEXUS_SIGNUP" envDefault:"open"`
	CORSOrigins    []string     `env:"NEXUS_CORS_ORIGINS"`
	RateLimit      string       `env:"NEXUS_RATE_LIMIT"`      // on | off; empty: on, in nexus dev off
	TrustedProxies []string     `env:"NEXUS_TRUSTED_PROXIES"` // addresses or networks, such as 10.0.0.0/8

	ProvisionTimeout time.Duration `env:"NEXUS_PROVISION_TIMEOUT" envDefault:"24h"`
	OutputLimit      int64         `env:"NEXUS_OUTPUT_LIMIT" envDefault:"10485760"` // bytes of one operation
	JobRetention     time.Duration `env:"NEXUS_JOB_RETENTION" envDefault:"720h"`
	DeleteGrace      time.Duration `env:"NEXUS_DELETE_GRACE" envDefault:"168h"`
	Concurrency      int           `env:"NEXUS_CONCURRENCY" envDefault:"16"`
	EventStreams     int           `env:"NEXUS_EVENT_STREAMS" envDefault:"1000"` // open at once in one API process
	LogLevel         slog.Level    `env:"NEXUS_LOG_LEVEL" envDefault:"INFO"`
}

// cliSettings are the settings that the command line reads.
var cliSettings = []string{"NEXUS_API_URL", "NEXUS_API_TOKEN"}

// Load reads the configuration from the environment ("NAME=value" entries). The error has
// all problems, one in each line. The warnings are for the log.
func Load(environ []string) (c Config, warnings []string, err error) {
	vars := env.ToMap(environ)
	unread := settingErrors(env.ParseWithOptions(&c, env.Options{Environment: vars}))
	c.mergeFiles()
	warnings = append(unknown(vars), c.useMaster()...)
	if c.SiteURL == "" {
		c.SiteURL = c.defaultSiteURL()
	}
	if c.VerifyAddr == "" && c.Bench == "sandbox" {
		c.VerifyAddr = c.SandboxAddr
	}
	if c.BenchSlots == 0 {
		c.BenchSlots = 64
		if c.Bench == "docker" {
			c.BenchSlots = 8
		}
	}
	if c.Pool == "" {
		c.Pool = "0"
		if c.Bench == "docker" {
			c.Pool = "2-20"
		}
	}
	return c, warnings, errors.Join(append(unread, c.problems()...)...)
}

func (c *Config) mergeFiles() {
	for _, m := range []struct{ direct, file *nexus.Secret }{
		{&c.RedisURL, &c.RedisURLFile}, {&c.DBPassword, &c.DBPassFile}, {&c.SecretKeys, &c.SecretKeysFile}, {&c.Tokens, &c.TokensFile},
		{&c.MasterSecret, &c.MasterSecretFile},
	} {
		if *m.direct == "" {
			*m.direct = nexus.Secret(strings.TrimSpace(m.file.Reveal()))
		}
	}
}

// defaultSiteURL is the pattern of a site's URL, if none is configured.
func (c *Config) defaultSiteURL() string {
	if c.Bench != "sandbox" {
		return "https://{site}"
	}
	_, port, _ := net.SplitHostPort(c.SandboxAddr)
	return "http://{site}:" + port
}

func (c *Config) problems() []error {
	var out []error
	say := func(format string, args ...any) { out = append(out, fmt.Errorf(format, args...)) }
	for name, addr := range map[string]string{"NEXUS_HTTP_ADDR": c.HTTPAddr, "NEXUS_METRICS_ADDR": c.MetricsAddr, "NEXUS_SANDBOX_ADDR": c.SandboxAddr, "NEXUS_VERIFY_ADDR": c.VerifyAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil && addr != "" {
			say("%s: %q is not host:port", name, addr)
		}
	}
	switch c.Bench {
	case "sandbox":
	case masterBench:
		if !c.single() {
			say("NEXUS_BENCH: %q is neither sandbox nor docker", c.Bench)
		}
	case "docker":
		if c.VerifyAddr == "" {
			say("NEXUS_VERIFY_ADDR is needed with NEXUS_BENCH=docker: the bench's internal host:port, e.g. backend:8000")
		}
		if n := len(c.DBPassword.Reveal()); n > 0 && n < shortestDBPassword {
			say("NEXUS_DB_PASSWORD is too short: %d characters or more, such as $(openssl rand -hex 24); a new one takes effect with: nexus bench init", shortestDBPassword)
		}
		if weak := weakPassword(c.AdminPassword); weak {
			say("ADMIN_PASSWORD is too weak: 8 characters or more, with small and capital letters and digits; or leave it unset")
		}
	default:
		say("NEXUS_BENCH: %q is neither sandbox nor docker", c.Bench)
	}
	out = append(out, c.singleProblems()...)
	if !slices.Contains([]string{"open", "token", "closed"}, c.Signup) {
		say("NEXUS_SIGNUP: %q is none of open, token, closed", c.Signup)
	}
	if !slices.Contains([]string{"", "on", "off"}, c.RateLimit) {
		say("NEXUS_RATE_LIMIT: %q is neither on nor off", c.RateLimit)
	}
	out = append(out, c.templateProblems()...)
	if _, err := c.shelfLimits(); err != nil {
		out = append(out, err)
	}
	if _, _, err := c.sandboxDelay(); err != nil {
		out = append(out, err)
	}
	if _, err := c.proxies(); err != nil {
		say("NEXUS_TRUSTED_PROXIES: %w", err)
	}
	if _, err := redisOptions(c.RedisURL.Reveal()); err != nil {
		out = append(out, err)
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "Local" {
		say("NEXUS_TIME_ZONE: %q is no time zone; use a name such as UTC or Europe/Berlin", c.TimeZone)
	}
	if c.DeleteGrace < time.Minute {
		say("NEXUS_DELETE_GRACE must be 1m or more; DELETE with ?purge=now removes at once")
	}
	if u, err := url.Parse(strings.ReplaceAll(c.SiteURL, "{site}", "acme.example.com")); !c.single() && (err != nil || u.Host == "" || !strings.Contains(c.SiteURL, "{site}")) {
		say("NEXUS_SITE_URL is not a URL with {site} in it, such as https://{site}")
	}
	if !domainOK(c.Domain) {
		say("NEXUS_DOMAIN: %q is not a domain name in small letters", c.Domain)
	}
	if c.BenchSlots < 1 || c.Concurrency < 1 || c.EventStreams < 1 {
		say("NEXUS_BENCH_SLOTS, NEXUS_CONCURRENCY and NEXUS_EVENT_STREAMS must be 1 or more")
	}
	if c.ProvisionTimeout < time.Minute || c.ProvisionTimeout > 48*time.Hour {
		say("NEXUS_PROVISION_TIMEOUT must be between 1m and 48h")
	}
	return out
}

// sandboxDelay is the time that each operation of the sandbox takes, or that they take the times
// of a real bench.
func (c *Config) sandboxDelay() (delay time.Duration, asReal bool, err error) {
	switch c.SandboxDelay {
	case "":
		return 0, false, nil
	case "real":
		return 0, true, nil
	}
	if delay, err = time.ParseDuration(c.SandboxDelay); err != nil || delay < 0 {
		return 0, false, fmt.Errorf("NEXUS_SANDBOX_DELAY: %q is no time; write one such as 500ms or 2s, 0 for none, or real for the times of a real bench", c.SandboxDelay)
	}
	return delay, false, nil
}

// benchName is the bench's name in the registry: its service, without the project.
func (c *Config) benchName() string {
	if c.Bench == "docker" {
		return c.Service[strings.LastIndex(c.Service, "/")+1:]
	}
	return c.Bench
}

// masterBench is the name of the bench in single-tenant mode.
const masterBench = "master"

func (c *Config) single() bool { return c.Mode == "single" }

// checksMaster reports whether all settings to ask the master site are there.
func (c *Config) checksMaster() bool {
	return c.MasterKey != "" && c.MasterSecret != "" && siteURLOK(c.MasterURL)
}

// useMaster sets what follows from the settings of the master site. It returns warnings
// about settings that are probably wrong, but do not keep the process from starting.
func (c *Config) useMaster() (warnings []string) {
	c.MasterSite = strings.ToLower(strings.TrimSpace(c.MasterSite))
	if c.single() {
		c.Bench, c.SiteURL = masterBench, strings.TrimSuffix(c.MasterURL, "/")
		switch {
		case len(c.AdminRoles) == 0:
			warnings = append(warnings, "NEXUS_ADMIN_ROLES is not set: new users of the master site get no role; name those that they need")
		case slices.Contains(c.AdminRoles, "System Manager"):
			warnings = append(warnings, "NEXUS_ADMIN_ROLES contains System Manager: everybody who signs up becomes an administrator of the master site")
		}
		return warnings
	}
	if u, err := url.Parse(c.MasterURL); err == nil && c.MasterSite == "" && domainOK(strings.ToLower(u.Hostname())) && net.ParseIP(u.Hostname()) == nil {
		c.MasterSite = strings.ToLower(u.Hostname())
	}
	if (c.MasterURL != "" || c.MasterKey != "" || c.MasterSecret != "") && !c.checksMaster() {
		warnings = append(warnings, "the master site is not checked: that needs ERP_NEXT_URL (such as https://erp.example.com), ERP_API_KEY and ERP_API_SECRET")
	}
	return warnings
}

func (c *Config) singleProblems() (out []error) {
	if !slices.Contains([]string{"", "multi", "single"}, c.Mode) {
		out = append(out, fmt.Errorf("NEXUS_MODE: %q is neither multi nor single", c.Mode))
	}
	if !c.single() {
		return out
	}
	for _, need := range []struct {
		name, is string
		set      bool
	}{
		{"ERP_NEXT_URL", "the master site's address, such as https://erp.example.com", c.MasterURL != ""},
		{"FRAPPE_SITE_NAME", "the master site's name on its bench, such as erp.example.com", c.MasterSite != ""},
		{"ERP_API_KEY", "the API key of a user of the master site with the role System Manager", c.MasterKey != ""},
		{"ERP_API_SECRET", "the secret to that key (or ERP_API_SECRET_FILE)", c.MasterSecret != ""},
	} {
		if !need.set {
			out = append(out, fmt.Errorf("%s is needed with NEXUS_MODE=single: %s", need.name, need.is))
		}
	}
	if c.MasterURL != "" && !siteURLOK(c.MasterURL) {
		out = append(out, errors.New("ERP_NEXT_URL is not an address such as https://erp.example.com")) // do not print it: it may contain a password
	}
	if c.MasterSite != "" && !domainOK(c.MasterSite) {
		out = append(out, fmt.Errorf("FRAPPE_SITE_NAME: %q is not a site's name", c.MasterSite))
	}
	return out
}

// siteURLOK accepts a URL of scheme and host only.
func siteURLOK(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

// proxies are the networks whose X-Forwarded-For is trusted.
func (c *Config) proxies() ([]*net.IPNet, error) {
	var out []*net.IPNet
	for _, text := range c.TrustedProxies {
		if ip := net.ParseIP(strings.TrimSpace(text)); ip != nil {
			text = fmt.Sprintf("%s/%d", ip, 8*len(shortest(ip)))
		}
		_, network, err := net.ParseCIDR(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
		}
		out = append(out, network)
	}
	return out, nil
}

func shortest(ip net.IP) net.IP {
	if four := ip.To4(); four != nil {
		return four
	}
	return ip
}

func weakPassword(p nexus.Secret) bool {
	text := p.Reveal()
	return text != "" && (len(text) < 8 || !strings.ContainsFunc(text, unicode.IsLower) ||
		!strings.ContainsFunc(text, unicode.IsUpper) || !strings.ContainsFunc(text, unicode.IsDigit))
}

func domainOK(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(domain) <= 200
}

// settingErrors splits the parser's error into one for each variable, with its name.
func settingErrors(err error) []error {
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return []error{err}
	}
	for i, each := range all.Errors {
		if p, ok := errors.AsType[env.ParseError](each); ok {
			field, _ := reflect.TypeFor[Config]().FieldByName(p.Name)
			all.Errors[i] = fmt.Errorf("%s: %w", field.Tag.Get("env"), p.Err)
		}
	}
	return all.Errors
}

// unknown returns a warning for each variable NEXUS_… that is not a setting, since it may
// be misspelled.
func unknown(vars map[string]string) []string {
	known := slices.Clone(cliSettings)
	for field := range reflect.TypeFor[Config]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		known = append(known, name)
	}
	var out []string
	for name := range vars {
		if strings.HasPrefix(name, "NEXUS_") && !strings.HasPrefix(name, "NEXUS_TEST_") && !slices.Contains(known, name) {
			out = append(out, fmt.Sprintf("%s is not a setting of this version; check its spelling", name))
		}
	}
	slices.Sort(out)
	return out
}
