package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// Parts says what a process runs.
type Parts struct {
	API     bool
	Worker  bool
	Sandbox bool // serve the sandbox's sites
	Dev     bool // embedded Redis, temporary folder and new keys, unless they are configured
}

// interactive reports whether a person runs the process at a terminal. Why it does not
// start is then printed as plain text, else logged.
func (p Parts) interactive() bool { return p.Dev || p.Sandbox }

// Addresses are where a running app listens; empty for parts it does not run.
type Addresses struct {
	API     string // base URL
	Sandbox string // host:port
	Redis   string // URL of the embedded Redis of nexus dev
	Folder  string // of the sandbox's sites
}

// drainTime is how long a worker that stops waits for its runs to end a step.
const drainTime = 25 * time.Second

// app is one process while it starts and runs.
type app struct {
	c        Config
	parts    Parts
	log      *slog.Logger
	registry *prometheus.Registry
	keys     *nexus.Keyring
	redis    *connection
	install  nexus.InstallID
	group    *errgroup.Group
	closers  []func()
}

// Run runs the parts until the context ends, then drains and closes them. Ready, unless
// nil, is called with the addresses once all parts listen. If one part fails, the others
// stop.
func Run(ctx context.Context, c Config, parts Parts, log *slog.Logger, ready func(Addresses)) error {
	group, ctx := errgroup.WithContext(ctx)
	a := &app{c: c, parts: parts, log: log, registry: NewRegistry(), group: group}
	defer a.close()
	at, err := a.start(ctx)
	if err != nil {
		return err
	}
	if ready != nil {
		ready(at)
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (a *app) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
}

func (a *app) start(ctx context.Context) (at Addresses, err error) {
	if err := a.secrets(); err != nil {
		return at, err
	}
	if err := a.folder(); err != nil {
		return at, err
	}
	if a.parts.Sandbox && !a.c.single() {
		if at.Sandbox, err = a.serveSandbox(ctx); err != nil {
			return at, err
		}
		at.Folder = a.c.SandboxDir
	}
	if !a.parts.API && !a.parts.Worker {
		return at, nil
	}
	if a.redis, err = connect(a.c.RedisURL.Reveal(), a.parts.Dev); err != nil {
		return at, err
	}
	a.closers = append(a.closers, a.redis.close)
	if a.redis.embedded {
		at.Redis = "redis://" + a.redis.server.Addr() + "/0"
	}
	st := a.newStore(a.redis.worker)
	if err = st.Fit(ctx); err != nil {
		return at, Misconfigured{errors.New(nexus.MessageOf(err))}
	}
	if a.install, err = st.Install(ctx); err != nil {
		return at, err
	}
	if a.c.checksMaster() {
		a.group.Go(func() error { a.checkMaster(ctx); return nil })
	}
	if a.parts.Worker {
		if err := a.work(ctx); err != nil {
			return at, err
		}
	}
	if a.parts.API {
		at.API, err = a.serveAPI(ctx)
	}
	return at, err
}

// secrets reads the sealing keys; nexus dev makes a new one if it has none.
func (a *app) secrets() (err error) {
	if err := a.c.needs(a.parts); err != nil {
		return Misconfigured{err}
	}
	if a.c.SecretKeys == "" {
		a.keys, _ = nexus.NewKeyring()
		return nil
	}
	a.keys, err = nexus.ParseKeyring(a.c.SecretKeys)
	return err
}

// folder makes a temporary folder for the sandbox in nexus dev, unless one is configured.
func (a *app) folder() error {
	if a.c.Bench != "sandbox" || a.c.SandboxDir != "" || !a.parts.Dev {
		return nil
	}
	dir, err := os.MkdirTemp("", "nexus-sandbox-")
	if err != nil {
		return err
	}
	a.c.SandboxDir = dir
	a.closers = append(a.closers, func() { _ = os.RemoveAll(dir) })
	return nil
}

func (a *app) newStore(rdb client) *store.Store {
	return store.New(rdb, store.Options{Slots: a.c.BenchSlots, Retention: a.c.JobRetention, Embedded: a.redis.embedded})
}

// serve serves until the context ends. It returns the address it listens on, which differs
// from the given one for port 0.
func (a *app) serve(ctx context.Context, name, addr string, h http.Handler) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("%s: %w (is it running already? choose another address)", name, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	a.group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	a.group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return server.Close()
		}
		return nil
	})
	return listener.Addr().String(), nil
}

func (a *app) serveSandbox(ctx context.Context) (string, error) {
	sandbox, err := a.sandbox()
	if err != nil {
		return "", err
	}
	at, err := a.serve(ctx, "sandbox", a.c.SandboxAddr, sandbox.Handler())
	if err != nil {
		return "", err
	}
	if a.c.VerifyAddr == a.c.SandboxAddr {
		a.c.VerifyAddr = at
	}
	if a.c.SiteURL == a.c.defaultSiteURL() {
		a.c.SandboxAddr = at
		a.c.SiteURL = a.c.defaultSiteURL()
	}
	a.c.SandboxAddr = at
	return at, nil
}

func (a *app) sandbox() (*bench.Sandbox, error) {
	delay, asReal, err := a.c.sandboxDelay()
	if err != nil {
		return nil, err
	}
	return bench.NewSandbox(bench.SandboxOptions{Dir: a.c.SandboxDir, Delay: delay, Real: asReal, VerifyAddr: a.c.VerifyAddr, Install: a.install})
}

func (a *app) work(ctx context.Context) error {
	driver, err := a.bench()
	if err != nil {
		return err
	}
	st := a.newStore(a.redis.worker)
	t := tools{c: a.c, install: a.install, bench: driver, name: a.c.benchName(), store: st, listed: &atomic.Pointer[[]nexus.Template]{}, shelved: &atomic.Pointer[[]nexus.Standby]{}}
	engine := worker.NewEngine(worker.Options{
		Store: st, Bench: driver, Keys: a.keys, Log: a.log.With(nexus.LogWorker, processName()), Metrics: worker.NewMetrics(a.registry),
		Settings:    a.settings(t),
		GiveUpAfter: a.c.ProvisionTimeout, Grace: a.c.DeleteGrace,
	})
	if a.c.MetricsAddr != "" {
		if _, err := a.serve(ctx, "metrics", a.c.MetricsAddr, a.workerMetrics()); err != nil {
			return err
		}
	}
	a.group.Go(func() error { return worker.Serve(ctx, a.redis, engine, a.c.Concurrency, drainTime) })
	a.group.Go(func() error { return a.announce(ctx, st, "worker") })
	a.group.Go(func() error { return a.watchDoctor(ctx, st, driver) })
	a.group.Go(func() error { return a.askBench(ctx, st, driver) })
	a.group.Go(func() error { return a.keepTemplates(ctx, t) })
	a.group.Go(func() error { return a.keepPool(ctx, t) })
	a.group.Go(func() error { return a.keepWarm(ctx, t) })
	return nil
}

func (a *app) settings(t tools) tasks.Settings {
	s := tasks.Settings{Bench: a.c.benchName(), Install: a.install, AdminPassword: a.c.AdminPassword, Templates: t.templateSpecs, TimeZone: a.c.TimeZone}
	if a.c.single() { // users of the master site have the site's
		s.TimeZone = ""
	}
	return s
}

// bench returns the driver of the bench. It refuses operations on the master site.
func (a *app) bench() (nexus.Bench, error) {
	driver, err := a.driver()
	if err != nil {
		return nil, err
	}
	return bench.Protect(nexus.SiteName(a.c.MasterSite), driver), nil
}

func (a *app) master() *bench.Master {
	site := nexus.SiteName(a.c.MasterSite)
	return bench.NewMaster(bench.MasterOptions{URL: a.c.MasterURL, Site: site, Key: a.c.MasterKey, Secret: a.c.MasterSecret, Install: a.install,
		Name: func(email string) nexus.SiteName { return api.PersonSite(email, site) }})
}

// checkMaster logs whether the master site answers and accepts the key. The process starts
// in either case: the site may be down for a moment.
func (a *app) checkMaster(ctx context.Context) {
	master := a.master()
	defer func() { _ = master.Close() }()
	short, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := master.Check(short); err == nil {
		a.log.InfoContext(ctx, "master site checked", "site", a.c.MasterSite)
	} else if ctx.Err() == nil {
		a.log.WarnContext(ctx, "master site cannot be used: "+nexus.MessageOf(err), "site", a.c.MasterSite, nexus.LogErr, err)
	}
}

func (a *app) driver() (nexus.Bench, error) {
	if a.c.single() {
		master := a.master()
		a.closers = append(a.closers, func() { _ = master.Close() })
		return master, nil
	}
	if a.c.Bench == "sandbox" {
		sandbox, err := a.sandbox()
		if err == nil {
			a.closers = append(a.closers, func() { _ = sandbox.Close() })
		}
		return sandbox, err
	}
	runners := prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexus_runner_up",
		Help: "1 while this worker's runner in the bench's container answers."})
	a.registry.MustRegister(runners)
	docker, err := bench.NewDocker(bench.DockerOptions{Service: a.c.Service, Install: a.install, DBAccount: a.c.DBAccount,
		DBPassword: a.c.DBPassword, VerifyAddr: a.c.VerifyAddr, OutputLimit: a.c.OutputLimit, Log: a.log,
		Up: func(up bool) { runners.Set(map[bool]float64{true: 1}[up]) }})
	if err != nil {
		return nil, Misconfigured{err}
	}
	a.closers = append(a.closers, func() { _ = docker.Close() })
	return docker, nil
}

func (a *app) serveAPI(ctx context.Context) (string, error) {
	tokens, err := api.ParseTokens(a.c.Tokens)
	if err != nil {
		return "", fmt.Errorf("NEXUS_TOKENS: %w", err)
	}
	proxies, err := a.c.proxies()
	if err != nil {
		return "", err
	}
	limits := api.DefaultLimits
	if a.c.RateLimit == "off" || a.c.RateLimit == "" && a.parts.Dev {
		limits = api.Limits{}
	}
	apps := a.c.Apps
	if a.c.single() { // nothing is installed on the master site
		apps = nil
	}
	st := a.newStore(a.redis.api)
	server := api.New(api.Options{
		Store: st, Keys: a.keys, Tokens: tokens, Signup: a.c.Signup, Domain: a.c.Domain, SiteURL: a.c.SiteURL,
		Master: nexus.SiteName(a.c.MasterSite), Single: a.c.single(), Apps: apps, Country: strings.ToUpper(a.c.Country), Roles: a.c.AdminRoles, Timeout: a.c.ProvisionTimeout, CORSOrigins: a.c.CORSOrigins,
		Grace: a.c.DeleteGrace, Limits: limits, Proxies: proxies, Queues: a.queues(), Registry: a.registry, Log: a.log,
		Leaving: ctx.Done(), Streams: api.Streams{Max: a.c.EventStreams},
	})
	at, err := a.serve(ctx, "api", a.c.HTTPAddr, server.Handler())
	if err != nil {
		return "", err
	}
	a.group.Go(func() error { return st.Listen(ctx) })
	a.group.Go(func() error {
		return st.KeepLists(ctx, func(err error) { a.log.WarnContext(ctx, "indexes of jobs and tenants not rebuilt", nexus.LogErr, err) })
	})
	a.group.Go(func() error { return a.announce(ctx, st, "api") })
	return "http://" + at, nil
}

// processName is unique among the processes: host and process id.
func processName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// announce announces every 30 s, until the context ends, that this process is alive, its
// sealing keys, and the bench of a worker.
func (a *app) announce(ctx context.Context, st *store.Store, role string) error {
	name := processName()
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		skew, err := st.Skew(ctx)
		if err == nil {
			err = st.Announce(ctx, store.Presence{Role: role, Name: name, Keys: a.keys.IDs(), Skew: skew})
		}
		if err == nil && role == "worker" {
			err = st.AnnounceBench(ctx, a.c.benchName())
		}
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "presence not announced", nexus.LogErr, err)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := st.Leave(last, role, name); err != nil { // the announcement expires in two minutes
				a.log.WarnContext(last, "presence not withdrawn", nexus.LogErr, err)
			}
			return nil
		case <-tick.C:
		}
	}
}
