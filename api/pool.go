package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const (
	fewest    = 4    // copies that a fill asks for at least, unless it says how many
	mostAsked = 1000 // copies that a fill may ask for
	usualFill = time.Hour

	mostMinutes, mostHours = 9999, 168 // about a week
)

// SetPool fills or drains shelves of a bench.
func (s *Server) SetPool(c echo.Context, name string, verb string) error {
	if _, err := s.need(c, ScopeOperate); err != nil {
		return err
	}
	if s.Single {
		return &nexus.Error{Code: nexus.Forbidden, Op: "api.pool", Msg: "Here signups become users of one site, so no sites are kept ready."}
	}
	if verb != "fill" && verb != "drain" {
		return &nexus.Error{Code: nexus.NotFound, Op: "api.pool", Msg: "There is no such call; shelves can be told to fill or drain."}
	}
	var body gen.PoolRequest
	if err := readJSON(c, &body); err != nil {
		return err
	}
	var spec nexus.TemplateSpec
	if text := value(body.Template); text != "" {
		var err error
		if spec, err = nexus.ParseTemplateSpec(text); err != nil {
			return invalid("template", nexus.MessageOf(err))
		}
	}
	members := value(body.Members)
	d, ok := fillTime(value(body.For))
	switch {
	case body.Members != nil && (members < 1 || members > mostAsked):
		return invalid("members", fmt.Sprintf("Ask for 1 to %d copies.", mostAsked))
	case !ok:
		return invalid("for", "Give a time such as 90m or 2h, from 1m to 168h.")
	}
	ctx := c.Request().Context()
	if _, err := s.findBench(ctx, name); err != nil {
		return err
	}
	shelves, err := s.shelves(ctx, name)
	if err != nil {
		return err
	}
	shelves = slices.DeleteFunc(shelves, func(shelf nexus.Shelf) bool {
		return spec != "" && shelf.Spec() != spec || verb == "fill" && !shelf.Kept
	})
	if len(shelves) == 0 {
		return &nexus.Error{Code: nexus.NotFound, Op: "api.pool", Msg: "No worker keeps a shelf there; set NEXUS_POOL on its workers and build a template."}
	}
	for _, shelf := range shelves {
		if verb == "drain" {
			err = s.Store.DrainShelf(ctx, name, shelf.Key)
		} else {
			err = s.Store.FillShelf(ctx, name, shelf.Key, cmp.Or(members, max(fewest, 2*shelf.Target)), d)
		}
		if err != nil {
			return err
		}
	}
	return s.answerBench(c, name)
}

// fillTime reads a number of minutes or hours; empty: the usual time.
func fillTime(text string) (d time.Duration, ok bool) {
	if text == "" {
		return usualFill, true
	}
	n, err := strconv.Atoi(text[:len(text)-1])
	switch {
	case err != nil || n < 1 || strconv.Itoa(n) != text[:len(text)-1]:
		return 0, false
	case text[len(text)-1] == 'm':
		return time.Duration(n) * time.Minute, n <= mostMinutes
	}
	return time.Duration(n) * time.Hour, text[len(text)-1] == 'h' && n <= mostHours
}

// shelves reads the shelves of a bench that workers keep, or that still hold something.
func (s *Server) shelves(ctx context.Context, bench string) ([]nexus.Shelf, error) {
	all, err := s.Store.Shelves(ctx, bench)
	return slices.DeleteFunc(all, func(shelf nexus.Shelf) bool { return !shelf.Kept && len(shelf.Standbys) == 0 }), err
}

func shelfOf(shelf nexus.Shelf) gen.Shelf {
	out := gen.Shelf{Template: string(shelf.Spec()), Apps: append([]string{}, shelf.Apps()...), Kept: shelf.Kept, Target: shelf.Target,
		Shelved: shelf.Count(nexus.StandbyShelved), Making: shelf.Count(nexus.StandbyMaking), Popped: shelf.Count(nexus.StandbyPopped),
		Reaping: shelf.Count(nexus.StandbyReaping), Hits: shelf.Hits, Misses: shelf.Misses, Failures: shelf.Failures, Drained: shelf.Drained}
	if shelf.Now.Before(shelf.Until) {
		out.AtLeast, out.Until = &shelf.AtLeast, &shelf.Until
	}
	return out
}
