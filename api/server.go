package api

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// Options configure a server. Store, Keys, Domain, SiteURL and Log are required.
type Options struct {
	Store       *store.Store
	Keys        *nexus.Keyring
	Tokens      *Tokens        // nil: none
	Signup      string         // open, token or closed; empty: open
	Domain      string         // sites are <subdomain>.<Domain>
	SiteURL     string         // pattern with {site}
	Master      nexus.SiteName // the master site, whose name is reserved; empty: none
	Single      bool           // signups become users of the master site; SiteURL is its address
	Apps        []string       // installed on every new site
	Country     string         // ISO 3166 code of signups that name no country; empty: they have none
	Roles       []string       // of the admin user; empty: all enabled roles
	Timeout     time.Duration  // after which a job is given up; 0: 24 h
	Grace       time.Duration  // from a suspension to the purge; 0: 7 days
	Limits      Limits         // of signups; the zero value has no limits
	Slowest     time.Duration  // how long a request's body may take to arrive; 0: 10 s
	Sent        time.Duration  // how long a client may take to read an answer, except streams; 0: 1 min
	Proxies     []*net.IPNet   // whose X-Forwarded-For is trusted
	CORSOrigins []string
	Streams     Streams              // limits of event streams
	Leaving     <-chan struct{}      // closed when the process stops, to end streams and polls; nil: never
	Lists       time.Duration        // how long the lists of the benches are cached; 0: 1 min
	Queues      http.Handler         // asynq's own view, served read-only below /ops/queues; nil: not served
	Registry    *prometheus.Registry // nil: one of its own
	Log         *slog.Logger
}

// Server serves the API and the signup page.
type Server struct {
	Options
	echo     *echo.Echo
	requests *prometheus.HistogramVec
	errors   prometheus.Counter
	gauges   *gauges
	shown    *lru.Cache[shownKey, shownJob]
	streams  *openStreams
	lists    *lists
	scrape   sync.Mutex
}

var _ gen.ServerInterface = (*Server)(nil)

// New makes a server. Serve its Handler.
func New(o Options) *Server {
	if o.Timeout == 0 {
		o.Timeout = 24 * time.Hour
	}
	if o.Grace == 0 {
		o.Grace = 7 * 24 * time.Hour
	}
	if o.Slowest == 0 {
		o.Slowest = 10 * time.Second
	}
	if o.Sent == 0 {
		o.Sent = time.Minute
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Tokens == nil {
		o.Tokens = &Tokens{}
	}
	o.Streams = o.Streams.withDefaults()
	s := &Server{Options: o, echo: echo.New(), requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nexus_http_request_seconds", Help: "Time of a request, by route, method and status.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 30}}, []string{"route", "method", "status"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "nexus_http_errors_total",
			Help: "Requests that were answered with a status of 500 or more, except those to /readyz."})}
	o.Registry.MustRegister(s.requests, s.errors)
	s.gauges, s.streams = newGauges(o.Registry), newOpenStreams(o.Registry)
	s.lists = newLists(o)
	s.shown, _ = lru.New[shownKey, shownJob](4096) // fails only for a size below one
	s.echo.HTTPErrorHandler = s.writeError
	s.echo.IPExtractor = addresses(o.Proxies)
	s.echo.Pre(once)
	s.echo.Use(s.prompt, s.observe, s.recovered(), secure)
	if len(o.CORSOrigins) > 0 { // before guard, so that a page of another origin can read a refusal
		s.echo.Use(middleware.CORSWithConfig(middleware.CORSConfig{AllowOrigins: o.CORSOrigins,
			AllowHeaders:  []string{"Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer", "X-Request-Id"},
			ExposeHeaders: []string{"ETag", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"}}))
	}
	s.echo.Use(joined, s.guard(routes()), legible, s.protect, bounded(), compressed())
	gen.RegisterHandlers(withHead{s.echo}, s)
	s.servePage()
	s.serveQueues()
	return s
}

// Handler returns the handler of all requests.
func (s *Server) Handler() http.Handler { return s.echo }

// url is the address of a site.
func (s *Server) url(site nexus.SiteName) string {
	return strings.ReplaceAll(s.SiteURL, "{site}", string(site))
}

func (s *Server) site(subdomain string) nexus.SiteName {
	return nexus.SiteName(subdomain + "." + s.Domain)
}

func statusURL(id nexus.JobID) string { return "/jobs/" + string(id) }

func eventsURL(id nexus.JobID) string { return statusURL(id) + "/events" }

// recovered turns a panic into a 500, with its stack in the log only.
func (s *Server) recovered() echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		DisableErrorHandler: true,
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			s.Log.ErrorContext(c.Request().Context(), "handler panicked", "panic", nexus.PanicText(err), "stack", string(stack))
			return &nexus.Error{Code: nexus.Internal, Op: "api", Err: errors.New("panic")}
		},
	})
}

// prompt sets the deadlines of a request, so that a slow client does not hold a connection:
// for its body, also if the handler does not read it, and for the answer. net/http removes
// the read deadline before the next request. A stream sets its own write deadlines.
func (s *Server) prompt(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		control := http.NewResponseController(c.Response())
		_ = control.SetWriteDeadline(time.Now().Add(s.Sent)) // fails only for connections of tests
		if c.Request().ContentLength != 0 {
			_ = control.SetReadDeadline(time.Now().Add(s.Slowest))
		}
		return next(c)
	}
}

// secure sets the security headers of every answer.
func secure(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cache-Control", "no-store")
		return next(c)
	}
}
