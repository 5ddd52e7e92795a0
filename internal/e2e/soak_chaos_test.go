//go:build service

package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	soakWorkers = 3
	soakPace    = 2500 * time.Millisecond // between two faults, on average
)

// breaker breaks one part after the other and replaces it.
type breaker struct {
	k       *soak
	workers [soakWorkers]*process
	api     *process
	stop    chan struct{}
	done    sync.WaitGroup
	frozen  sync.WaitGroup
}

// breakThings starts the workers and the API, and the faults.
func (k *soak) breakThings() *breaker {
	b := &breaker{k: k, stop: make(chan struct{})}
	b.startAPI()
	for i := range b.workers {
		b.workers[i] = b.worker()
	}
	b.done.Go(b.run)
	return b
}

func (b *breaker) startAPI() {
	b.api = start(b.k.t, b.k.log, b.k.env, filepath.Join(binaries, "api"))
	b.up()
}

// up waits until the API answers, ready or not.
func (b *breaker) up() {
	eventually(b.k.t, 30*time.Second, "the api answers", func() bool {
		response, err := http.Get(b.k.api + "/healthz")
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
}

func (b *breaker) worker() *process {
	return start(b.k.t, b.k.log, b.k.env, filepath.Join(binaries, "worker"))
}

// fault is a way to break something, and its frequency.
type fault struct {
	what  string
	times int
	do    func()
}

// faults are all faults, most of them on one of the workers.
func (b *breaker) faults() []fault {
	one := func() *(*process) { return &b.workers[rand.IntN(soakWorkers)] }
	return []fault{
		{"worker killed", 8, func() { w := one(); (*w).end(os.Kill); *w = b.worker() }},
		{"worker replaced", 3, func() { w := one(); (*w).send(syscall.SIGTERM); *w = b.worker() }}, // the old worker drains meanwhile
		{"worker frozen past its leases", 3, func() { b.freeze(*one(), 5*time.Second+rand.N(4*time.Second)) }},
		{"api killed", 2, func() { b.api.end(os.Kill); b.startAPI() }},
		{"api replaced", 1, func() { b.api.end(syscall.SIGTERM); b.startAPI() }},
		{"Redis killed", 2, func() { b.k.redis.kill(); b.k.redis.start(b.k.log) }},
		{"Redis frozen", 1, func() { b.freeze(b.k.redis.process, 500*time.Millisecond+rand.N(4*time.Second)) }},
	}
}

// run breaks things until it is told to stop: first each fault once, so that a short run
// on a slow machine has all of them, then at random by frequency.
func (b *breaker) run() {
	deck := shuffled(b.faults())
	for {
		if len(deck) == 0 {
			for _, f := range b.faults() {
				deck = append(deck, slices.Repeat([]fault{f}, f.times)...)
			}
			deck = shuffled(deck)
		}
		select {
		case <-b.stop:
			return
		case <-time.After(soakPace/2 + rand.N(soakPace)):
		}
		deck[0].do()
		b.k.mu.Lock()
		b.k.faults[deck[0].what]++
		b.k.mu.Unlock()
		deck = deck[1:]
	}
}

func shuffled(deck []fault) []fault {
	rand.Shuffle(len(deck), func(i, k int) { deck[i], deck[k] = deck[k], deck[i] })
	return deck
}

// freeze stops a process for a while. It waits for Redis to continue; other faults go on
// while a worker is stopped, and may even kill it.
func (b *breaker) freeze(p *process, d time.Duration) {
	p.send(syscall.SIGSTOP)
	thaw := func() {
		select {
		case <-time.After(d):
		case <-p.done: // killed meanwhile
		case <-b.stop:
		}
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	if p == b.k.redis.process {
		thaw()
		return
	}
	b.frozen.Go(thaw)
}

// rest stops the faults and leaves a system that works. Each fault must have happened.
func (b *breaker) rest() {
	close(b.stop)
	b.done.Wait()
	b.frozen.Wait()
	b.up()
	for _, f := range b.faults() {
		if b.k.faults[f.what] == 0 {
			b.k.t.Errorf("no %s: this showed too little", f.what)
		}
	}
}
