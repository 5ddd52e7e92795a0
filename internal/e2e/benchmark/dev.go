package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
)

// devBatches of devBatch signups each are made at one nexus dev.
const (
	devBatch   = 100
	devBatches = 10
)

// dev signs up a thousand times at nexus dev, which embeds its Redis, and holds the last
// hundred against the first.
func dev(ctx context.Context, s *stack) ([]row, error) {
	var last, first []float64
	for i := range s.runs {
		rates, err := s.devRates(ctx, i)
		if err != nil {
			return nil, err
		}
		first, last = append(first, rates[0]), append(last, rates[len(rates)-1])
	}
	return []row{row{ID: "dev_rate", What: "nexus dev: whole provisions, the tenth hundred", Unit: unitRate,
		Peer: peerFigures{What: "its first hundred"}, Budget: ofPeer(0.9)}.judged(last, first)}, nil
}

// devRates are the rates of the batches, one after the other.
func (s *stack) devRates(ctx context.Context, run int) (rates []float64, err error) {
	p, err := s.start(fmt.Sprintf("dev-%d", run), []string{"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_SANDBOX_ADDR=127.0.0.1:0",
		"HOME=" + s.dir, "XDG_RUNTIME_DIR=" + s.dir}, s.dir+"/nexus", "dev")
	if err != nil {
		return nil, err
	}
	base, err := p.says(ctx, "nexus dev started", "api")
	if err != nil {
		return nil, err
	}
	here := client.New(base, "")
	defer here.Close()
	for batch := range devBatches {
		var ids jobIDs
		n := 0
		signup := func(ctx context.Context) error {
			ids.mu.Lock()
			n++
			name := fmt.Sprintf("dev-%d-%d", batch, n)
			ids.mu.Unlock()
			accepted, err := here.Signup(ctx, gen.SignupRequest{Email: "jane@example.com", Password: "Passw0rdXyz",
				FullName: "Jane Doe", OrganizationName: name, Subdomain: &name}, "key-"+name)
			ids.add(accepted.JobId)
			return err
		}
		rate, err := round(ctx, devBatch, signup, func(ctx context.Context) error { return ended(ctx, here, ids.all) })
		if err != nil {
			return nil, err
		}
		rates = append(rates, rate)
	}
	return rates, p.end(10 * time.Second)
}

// ended waits until all jobs have succeeded.
func ended(ctx context.Context, here *client.Client, ids []string) error {
	for _, id := range ids {
		job, _, _, err := here.Job(ctx, id, "", 25*time.Second)
		if err != nil {
			return err
		}
		if job.State != gen.StateSucceeded {
			return fmt.Errorf("job %s is %s", id, job.State)
		}
	}
	return nil
}
