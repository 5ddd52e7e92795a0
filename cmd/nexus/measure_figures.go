package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// measured is the JSON of nexus bench measure.
type measured struct {
	Signups     int               `json:"signups"` // for each road
	Concurrency int               `json:"concurrency"`
	GapSeconds  float64           `json:"gapSeconds"`
	Roads       []measuredRoad    `json:"roads"`
	Left        map[string]string `json:"left"` // site → why it could not be removed
}

// measuredRoad has the figures of the signups that asked for a road.
type measuredRoad struct {
	Road    nexus.Road         `json:"road"`
	N       int                `json:"n"`      // how many took it and succeeded; the times are theirs
	Others  map[nexus.Road]int `json:"others"` // how many succeeded by another road
	Failed  int                `json:"failed"`
	Error   string             `json:"error,omitempty"` // of the first that failed
	Seconds *quantiles         `json:"seconds"`         // of the whole; null if N is 0
	Steps   []measuredStep     `json:"steps"`
	PerHour float64            `json:"perHour"` // of those N
	Ratio   float64            `json:"ratio"`   // of the medians, to that of the first road; 0: not known
}

type measuredStep struct {
	Name    string    `json:"name"`
	Seconds quantiles `json:"seconds"`
}

// quantiles are by the nearest rank.
type quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// quantilesOf returns the quantiles of times, in seconds; there must be one or more.
func quantilesOf(all []time.Duration) quantiles {
	all = slices.Sorted(slices.Values(all))
	at := func(q float64) float64 { return all[max(0, int(math.Ceil(q*float64(len(all))))-1)].Seconds() }
	return quantiles{P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// took returns the road of a signup that succeeded. A former version recorded none.
func (s *sample) took() nexus.Road {
	return nexus.Road(cmp.Or(value(s.job.Road), string(nexus.RoadNewSite)))
}

// end is when the last step ended.
func (s *sample) end() (at time.Time) {
	for _, step := range s.job.Steps {
		if step.EndedAt != nil && step.EndedAt.After(at) {
			at = *step.EndedAt
		}
	}
	return at
}

func (s *sample) whole() time.Duration { return s.end().Sub(s.job.CreatedAt) }

// said describes a signup that has ended in a few words.
func (s *sample) said() string {
	switch {
	case s.failed != nil:
		return join(refuse(s.failed).Message, refuse(s.failed).Action)
	case s.took() != s.asked:
		return fmt.Sprintf("took %s, and not %s", s.took(), s.asked)
	}
	return fmt.Sprintf("%s %.3f s", s.took(), s.whole().Seconds())
}

// measuredOf computes the figures of a road from all signups.
func measuredOf(road nexus.Road, all []*sample) measuredRoad {
	out := measuredRoad{Road: road, Others: map[nexus.Road]int{}, Steps: []measuredStep{}}
	var names []string
	var wholes []time.Duration
	var began, ended time.Time
	steps := map[string][]time.Duration{}
	for _, s := range all {
		switch {
		case s.asked != road || !s.ended():
			continue
		case s.job.State != gen.StateSucceeded:
			if out.Failed++; out.Error == "" {
				out.Error = s.said()
			}
			continue
		case s.took() != road:
			out.Others[s.took()]++
			continue
		}
		wholes = append(wholes, s.whole())
		if began.IsZero() || s.job.CreatedAt.Before(began) {
			began = s.job.CreatedAt
		}
		if s.end().After(ended) {
			ended = s.end()
		}
		for _, step := range s.job.Steps {
			if step.StartedAt == nil || step.EndedAt == nil {
				continue
			}
			if !slices.Contains(names, step.Name) {
				names = append(names, step.Name)
			}
			steps[step.Name] = append(steps[step.Name], step.EndedAt.Sub(*step.StartedAt))
		}
	}
	if out.N = len(wholes); out.N == 0 {
		return out
	}
	out.Seconds = new(quantilesOf(wholes))
	for _, name := range names {
		out.Steps = append(out.Steps, measuredStep{name, quantilesOf(steps[name])})
	}
	if hours := ended.Sub(began).Hours(); hours > 0 {
		out.PerHour = math.Round(float64(out.N) / hours)
	}
	return out
}

// compare sets the ratios to the first road that has figures.
func (m *measured) compare() {
	var first float64
	for i := range m.Roads {
		row := &m.Roads[i]
		if row.Seconds == nil {
			continue
		}
		if first == 0 {
			first = row.Seconds.P50
		}
		if first > 0 {
			row.Ratio = math.Round(100*row.Seconds.P50/first) / 100
		}
	}
}

func (m *measured) rows() [][]string {
	rows := [][]string{{"ROAD", "STEP", "N", "P50", "P95", "P99", "MAX", "TENANTS/H", "RATIO", "NOTE"}}
	for _, road := range m.Roads {
		head := []string{string(road.Road), "whole", fmt.Sprint(road.N), "", "", "", "", "", "", road.note()}
		if road.Seconds != nil {
			copy(head[3:], road.Seconds.cells())
			head[7], head[8] = fmt.Sprintf("%.0f", road.PerHour), fmt.Sprintf("%.2f", road.Ratio)
		}
		rows = append(rows, head)
		for _, step := range road.Steps {
			rows = append(rows, append([]string{"", step.Name, ""}, step.Seconds.cells()...))
		}
	}
	return rows
}

func (q quantiles) cells() (out []string) {
	for _, each := range []float64{q.P50, q.P95, q.P99, q.Max} {
		out = append(out, fmt.Sprintf("%.3f", each))
	}
	return out
}

// note says how many signups are not in the times.
func (r measuredRoad) note() (text string) {
	for _, other := range slices.Sorted(maps.Keys(r.Others)) {
		text = join(text, fmt.Sprintf("%d took %s.", r.Others[other], other))
	}
	if r.Failed > 0 {
		text = join(text, fmt.Sprintf("%d failed: %s", r.Failed, r.Error))
	}
	return text
}
