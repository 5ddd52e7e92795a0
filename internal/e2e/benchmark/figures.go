package main

import "slices"

// The units of figures. A ratio has no unit.
const (
	unitMillis  = "ms"
	unitRate    = "/s"
	unitPercent = "%" // of a core
	unitMemory  = "MB"
	unitKilo    = "KB"
)

// spread is a figure of each run, with their median, minimum and maximum.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Runs   []float64 `json:"runs"`
}

// spreadOf returns the spread of the figures of all runs; there must be at least one.
func spreadOf(runs []float64) spread {
	return spread{Median: quantile(runs, 0.5), Min: slices.Min(runs), Max: slices.Max(runs), Runs: runs}
}

// quantile returns the q-quantile of all by the nearest rank; all must not be empty.
func quantile(all []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// budget is the limit of a row: for its own figure, or for its ratio to the peer's figure.
// One of AtMost and AtLeast is set.
type budget struct {
	Of      string  `json:"of"` // "ours" or "ratio"
	AtMost  float64 `json:"atMost,omitempty"`
	AtLeast float64 `json:"atLeast,omitempty"`
}

// atMost limits a row's own figure, in its unit.
func atMost(limit float64) *budget { return &budget{Of: "ours", AtMost: limit} }

// ofPeer requires at least this part of the peer's figure.
func ofPeer(part float64) *budget { return &budget{Of: "ratio", AtLeast: part} }

// judge tells whether the median is within the limit, and whether some runs are within it
// and others are not.
func (b budget) judge(s spread) (met, straddles bool) {
	keeps := func(v float64) bool {
		if b.AtLeast > 0 {
			return v >= b.AtLeast
		}
		return v <= b.AtMost
	}
	return keeps(s.Median), keeps(s.Min) != keeps(s.Max)
}

// peerFigures are the figures of a peer.
type peerFigures struct {
	What string `json:"what"`
	spread
	// Unfinished: some measurements had not ended, so the real figures are larger.
	Unfinished bool `json:"unfinished,omitempty"`
}

// row is one figure of the table, with the peer's figure and the budget.
type row struct {
	ID        string      `json:"id"` // stays the same in all versions
	What      string      `json:"what"`
	Unit      string      `json:"unit"` // of ours and of the peer
	Ours      spread      `json:"ours"`
	Peer      peerFigures `json:"peer"`
	Ratio     *spread     `json:"ratio"`     // ours / peer of each run; nil if the peer has a zero
	Budget    *budget     `json:"budget"`    // nil: none
	Met       *bool       `json:"met"`       // whether the median is within the budget; nil without a budget
	Straddles bool        `json:"straddles"` // some runs are within the budget and others are not
}

// judged completes a row with the figures of each run.
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
	case r.Ratio == nil: // a peer with a zero is no measure
		r.Met = new(false)
	default:
		met, straddles := r.Budget.judge(*r.Ratio)
		r.Met, r.Straddles = &met, straddles
	}
	return r
}
