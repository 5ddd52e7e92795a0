package main

import "slices"

// The units of figures. A ratio has none.
const (
	unitMillis  = "ms"
	unitRate    = "/s"
	unitPercent = "%" // of a core
	unitMemory  = "MB"
	unitKilo    = "KB"
)

// spread is what was measured of one thing, run by run, and between what it lay.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Runs   []float64 `json:"runs"`
}

// spreadOf sums up the figures of all runs, of which there must be one.
func spreadOf(runs []float64) spread {
	return spread{Median: quantile(runs, 0.5), Min: slices.Min(runs), Max: slices.Max(runs), Runs: runs}
}

// quantile is the value below which a part of all lies (nearest rank); all must
// not be empty.
func quantile(all []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// budget is what a row is held to: one limit, for its own figure or for the ratio
// to its peer's.
type budget struct {
	Of      string  `json:"of"` // "ours" or "ratio"
	AtMost  float64 `json:"atMost,omitempty"`
	AtLeast float64 `json:"atLeast,omitempty"`
}

// atMost limits a row's own figure, in its unit.
func atMost(limit float64) *budget { return &budget{Of: "ours", AtMost: limit} }

// ofPeer wants a part of the peer's figure.
func ofPeer(part float64) *budget { return &budget{Of: "ratio", AtLeast: part} }

// judge tells whether the median keeps to the limit, and whether some runs are on
// the other side of it.
func (b budget) judge(s spread) (met, straddles bool) {
	keeps := func(v float64) bool {
		if b.AtLeast > 0 {
			return v >= b.AtLeast
		}
		return v <= b.AtMost
	}
	return keeps(s.Median), keeps(s.Min) != keeps(s.Max)
}

// peerFigures are those of whom we are compared with.
type peerFigures struct {
	What string `json:"what"`
	spread
	// Unfinished: some of them were not over yet, and are more than they say.
	Unfinished bool `json:"unfinished,omitempty"`
}

// row is one figure with its peer's and what is asked of it.
type row struct {
	ID        string      `json:"id"` // stays the same from version to version
	What      string      `json:"what"`
	Unit      string      `json:"unit"` // of ours and of the peer
	Ours      spread      `json:"ours"`
	Peer      peerFigures `json:"peer"`
	Ratio     *spread     `json:"ratio"`  // ours / peer, run by run; nil where the peer has a zero
	Budget    *budget     `json:"budget"` // nil: nothing is asked
	Met       *bool       `json:"met"`    // by the median; nil without a budget
	Straddles bool        `json:"straddles"`
}

// judged completes a row by what was measured, ours and the peer's of each run.
func (r row) judged(ours, peer []float64) row {
	r.Ours, r.Peer.spread = spreadOf(ours), spreadOf(peer)
	if !slices.Contains(peer, 0) {
		ratios := make([]float64, len(ours))
		for i := range ours {
			ratios[i] = ours[i] / peer[i]
		}
		r.Ratio = new(spreadOf(ratios))
	}
	switch {
	case r.Budget == nil:
	case r.Budget.Of == "ours":
		met, straddles := r.Budget.judge(r.Ours)
		r.Met, r.Straddles = &met, straddles
	case r.Ratio == nil: // a peer that did nothing is no measure
		r.Met = new(false)
	default:
		met, straddles := r.Budget.judge(*r.Ratio)
		r.Met, r.Straddles = &met, straddles
	}
	return r
}
