package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
)

// One nexus dev gets devBatches batches of devBatch signups.
const (
	devBatch   = 100
	devBatches = 10
)

// dev makes a thousand signups at nexus dev, which has an embedded Redis, and compares the
// rate of the last hundred with that of the first hundred.
func dev(ctx context.Context, s *stack) ([]row, error) {
	var last, first []float64
	for i := range s.runs {
		rates, err := s.devRates(ctx, i)
		if err != nil {
			return nil, err
		}
		first, last = append(first, rates[0]), append(last, rates[len(rates)-1])
	}
	return []row{row{ID: "dev_rate", What: "nexus dev: whole provisions, signups 901 to 1000", Unit: unitRate,
		Peer: peerFigures{What: "the same process: signups 1 to 100"}, Budget: ofPeer(0.9)}.judged(last, first)}, nil
}

// devRates returns the rate of each batch, in their order.
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
