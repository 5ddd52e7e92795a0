package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// ListBenches lists the benches with their mode and slots.
func (s *Server) ListBenches(c echo.Context) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	ctx := c.Request().Context()
	benches, err := s.Store.Benches(ctx)
	if err != nil {
		return err
	}
	list := gen.BenchList{Benches: make([]gen.Bench, len(benches))}
	for i, b := range benches {
		if list.Benches[i], err = s.bench(ctx, b); err != nil {
			return err
		}
	}
	return c.JSON(http.StatusOK, list)
}

// SetBench sets the mode of a bench.
func (s *Server) SetBench(c echo.Context, name string, verb string) error {
	actor, err := s.need(c, ScopeOperate)
	if err != nil {
		return err
	}
	modes := map[string]nexus.BenchMode{"pause": nexus.BenchPaused, "drain": nexus.BenchDrained, "resume": nexus.BenchOpen}
	mode, ok := modes[verb]
	if !ok {
		return invalid("verb", "A bench can be told to pause, drain or resume.")
	}
	ctx := c.Request().Context()
	if err := s.Store.SetBench(ctx, name, mode, actor); err != nil {
		return err
	}
	return s.answerBench(c, name)
}

// answerBench answers with one bench.
func (s *Server) answerBench(c echo.Context, name string) error {
	b, err := s.findBench(c.Request().Context(), name)
	if err != nil {
		return err
	}
	out, err := s.bench(c.Request().Context(), b)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) findBench(ctx context.Context, name string) (nexus.BenchStatus, error) {
	benches, err := s.Store.Benches(ctx)
	if err != nil {
		return nexus.BenchStatus{}, err
	}
	i := slices.IndexFunc(benches, func(b nexus.BenchStatus) bool { return b.Name == name })
	if i < 0 {
		return nexus.BenchStatus{}, &nexus.Error{Code: nexus.NotFound, Op: "api.bench", Msg: "There is no bench of this name; nexus bench list shows them."}
	}
	return benches[i], nil
}

func (s *Server) bench(ctx context.Context, b nexus.BenchStatus) (gen.Bench, error) {
	out := gen.Bench{Name: b.Name, Mode: gen.BenchMode(b.Mode), By: optional(b.By), Slots: b.Slots, Used: b.Used, Waiting: b.Waiting,
		Failures: b.Failures, Step: optional(string(b.Step)), Code: optional(string(b.Code)), Pool: []gen.Shelf{}}
	if !b.Until.IsZero() {
		out.Until = &b.Until
	}
	shelves, err := s.shelves(ctx, b.Name)
	for _, shelf := range shelves {
		out.Pool = append(out.Pool, shelfOf(shelf))
	}
	return out, err
}
