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

// soon is how long nothing, or an old list, is kept: a worker may come, or Redis.
const soon = 2 * time.Second

// lists keeps what the benches know: signups are held against it, and the page
// offers it.
type lists struct {
	read func(context.Context) (map[string]nexus.Knows, error)
	keep time.Duration
	log  *slog.Logger
	mu   sync.Mutex
	next time.Time // when it is read anew
	have nexus.Knows
}

func newLists(o Options) *lists {
	l := &lists{read: o.Store.Knows, keep: cmp.Or(o.Lists, time.Minute), log: o.Log}
	if o.Single { // the master site tells none, and a bench of former days does not count
		l.read = func(context.Context) (map[string]nexus.Knows, error) { return map[string]nexus.Knows{}, nil }
	}
	return l
}

// get is what the benches know, empty until one has told. What cannot be read keeps
// nobody from signing up: the former lists count, and the bench looks again.
func (l *lists) get(ctx context.Context) nexus.Knows {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.next) {
		return l.have
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), soon) // it is for all who wait
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

// Choices tells what a signup may choose from.
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
