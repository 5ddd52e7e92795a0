package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// ListBenches lists the benches with their mode and slots.
func (s *Server) ListBenches(c echo.Context) error {
	if _, err := s.need(c, ScopeRead); err != nil {
		return err
	}
	benches, err := s.Store.Benches(c.Request().Context())
	if err != nil {
		return err
	}
	list := gen.BenchList{Benches: make([]gen.Bench, len(benches))}
	for i, b := range benches {
		list.Benches[i] = bench(b)
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
	benches, err := s.Store.Benches(ctx)
	if err != nil {
		return err
	}
	for _, b := range benches {
		if b.Name == name {
			return c.JSON(http.StatusOK, bench(b))
		}
	}
	return &nexus.Error{Code: nexus.NotFound, Op: "api.bench", Msg: "There is no bench of this name."}
}

func bench(b nexus.BenchStatus) gen.Bench {
	out := gen.Bench{Name: b.Name, Mode: gen.BenchMode(b.Mode), By: optional(b.By), Slots: b.Slots, Used: b.Used, Waiting: b.Waiting,
		Failures: b.Failures, Step: optional(string(b.Step)), Code: optional(string(b.Code))}
	if !b.Until.IsZero() {
		out.Until = &b.Until
	}
	return out
}
