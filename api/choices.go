package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// soon is how long empty lists, or old ones after an error, are kept.
const soon = 2 * time.Second

// lists caches what the benches know. Signups are checked against it, and /choices
// returns it.
type lists struct {
	read func(context.Context) (map[string]nexus.Knows, error)
	keep time.Duration
	log  *slog.Logger
	mu   sync.Mutex
	next time.Time // when it is read again
	have nexus.Knows
}

func newLists(o Options) *lists {
	l := &lists{read: o.Store.Knows, keep: cmp.Or(o.Lists, time.Minute), log: o.Log}
	if o.Single { // the master site has no lists; those of a bench that was used before do not count
		l.read = func(context.Context) (map[string]nexus.Knows, error) { return map[string]nexus.Knows{}, nil }
	}
	return l
}

// get returns what the benches know; it is empty until a worker has written it. After an
// error it returns the last lists, so that signups go on; the worker checks the values
// again.
func (l *lists) get(ctx context.Context) nexus.Knows {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.next) {
		return l.have
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon) // other requests wait for the result too
	defer cancel()
	benches, err := l.read(short)
	keep := l.keep
	if err != nil {
		l.log.WarnContext(ctx, "lists of the benches not read", nexus.LogErr, err)
	} else {
		l.have = nexus.MergeKnows(benches)
	}
	if len(l.have.Countries) == 0 || err != nil {
		keep = min(keep, soon)
	}
	l.next = time.Now().Add(keep)
	return l.have
}

// Choices returns what a signup may choose from.
func (s *Server) Choices(c echo.Context) error {
	k := s.lists.get(c.Request().Context())
	out := gen.Choices{Countries: make([]gen.Country, len(k.Countries)), Languages: make([]gen.Language, len(k.Languages)),
		Timezones: append([]string{}, k.TimeZones...), Currencies: append([]string{}, k.Currencies...)}
	for i, country := range k.Countries {
		out.Countries[i] = gen.Country{Code: country.Code, Name: country.Name, Currency: optional(country.Currency)}
		if len(country.TimeZones) > 0 {
			out.Countries[i].Timezones = &k.Countries[i].TimeZones
		}
	}
	for i, language := range k.Languages {
		out.Languages[i] = gen.Language{Code: language.Code, Name: language.Name}
	}
	c.Response().Header().Set("Cache-Control", "max-age=60")
	return c.JSON(http.StatusOK, out)
}
