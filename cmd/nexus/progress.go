package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/nexus-erp/provisioner/api/gen"
)

// watcher shows the progress of a job.
type watcher interface {
	show(job gen.Job) // called at every change
	say(text string)  // prints a remark
	end()             // called last
}

// newWatcher returns a bar for a terminal, and lines for anything else.
func newWatcher(w io.Writer) watcher {
	if file, ok := w.(*os.File); ok && isTerminal(w) && os.Getenv("TERM") != "dumb" {
		return newBar(file)
	}
	return &lines{w: w, told: map[string]gen.StepState{}}
}

// lines writes a line for each change of a step.
type lines struct {
	w      io.Writer
	clock  bool // each line has its time
	told   map[string]gen.StepState
	wait   string
	failed bool // the error is printed
}

func (l *lines) show(job gen.Job) {
	for _, step := range job.Steps {
		if step.State != l.told[step.Name] && step.State != gen.StepStatePending {
			l.told[step.Name] = step.State
			l.step(step)
		}
	}
	if note := value(job.WaitingNote); note != l.wait {
		if l.wait = note; note != "" {
			l.line(&job.UpdatedAt, "… "+note)
		}
	}
	if job.Error != nil && !l.failed {
		l.failed = true
		l.line(&job.UpdatedAt, "✗ "+job.Error.Message)
	}
	if l.clock && over(job.State) {
		l.line(&job.UpdatedAt, string(job.State))
	}
}

func (l *lines) step(step gen.Step) {
	at, text := step.StartedAt, fmt.Sprintf("%-9s %-8s", step.Name, step.State)
	if step.State != gen.StepStateStarted {
		if step.EndedAt != nil {
			at = step.EndedAt
		}
		text = join(text+took(step), " "+value(step.Note))
	}
	l.line(at, text)
}

func took(step gen.Step) string {
	if step.State != gen.StepStateDone || step.StartedAt == nil || step.EndedAt == nil {
		return ""
	}
	return fmt.Sprintf(" %5.1fs", step.EndedAt.Sub(*step.StartedAt).Seconds())
}

func (l *lines) say(text string) { fmt.Fprintln(l.w, "  "+text) }

func (l *lines) line(at *time.Time, text string) {
	text = strings.TrimRight(text, " ")
	if l.clock && at != nil {
		text = at.Local().Format(time.TimeOnly) + "  " + text
	}
	fmt.Fprintln(l.w, "  "+text)
}

func (*lines) end() {}

func over(state gen.State) bool {
	switch state {
	case gen.StateSucceeded, gen.StateFailed, gen.StateCanceled, gen.StateRollbackFailed:
		return true
	default:
		return false
	}
}

// bar redraws the last line of a terminal: a bar, the step, the time.
type bar struct {
	w       *os.File
	began   time.Time
	stop    chan struct{}
	stopped sync.WaitGroup

	mu   sync.Mutex
	job  gen.Job
	wait string
}

func newBar(w *os.File) *bar {
	b := &bar{w: w, began: time.Now(), stop: make(chan struct{})}
	b.stopped.Go(func() { // updates the seconds between two changes
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.mu.Lock()
				b.draw()
				b.mu.Unlock()
			case <-b.stop:
				return
			}
		}
	})
	return b
}

func (b *bar) show(job gen.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.job = job
	if note := value(job.WaitingNote); note != b.wait {
		if b.wait = note; note != "" {
			b.above("… " + note)
		}
	}
	b.draw()
}

func (b *bar) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.above(text)
	b.draw()
}

// end leaves the last state of the bar as a line.
func (b *bar) end() {
	close(b.stop)
	b.stopped.Wait()
	if b.draw(); len(b.job.Steps) > 0 {
		fmt.Fprintln(b.w)
	}
}

// above prints a line above the bar.
func (b *bar) above(text string) { fmt.Fprintf(b.w, "\r\x1b[K  %s\n", text) }

func (b *bar) draw() {
	if len(b.job.Steps) == 0 {
		return
	}
	done, at := 0, gen.Step{}
	for _, step := range b.job.Steps {
		switch step.State {
		case gen.StepStateDone:
			done++
		case gen.StepStateStarted, gen.StepStateFailed:
			at = step
		case gen.StepStatePending, gen.StepStateUndone:
		}
	}
	const width = 24
	full := width * done / len(b.job.Steps)
	text := fmt.Sprintf("  %s%s %d/%d  %s  %.0fs", strings.Repeat("█", full), strings.Repeat("░", width-full), done, len(b.job.Steps),
		b.doing(at), time.Since(b.began).Seconds())
	fmt.Fprintf(b.w, "\r%s\x1b[K", b.fit(text))
}

// doing says in a few words what the job does.
func (b *bar) doing(at gen.Step) string {
	if b.job.State != gen.StateRunning || at.Name == "" {
		return strings.TrimSpace(strings.ReplaceAll(string(b.job.State), "_", " ") + " " + at.Name)
	}
	text := at.Name
	if at.Note != nil {
		text += ": " + *at.Note
	}
	if p := value(at.Percent); p > 0 {
		text += fmt.Sprintf(" (%d%%)", p)
	}
	return text
}

// fit cuts the bar to one line, since a wrapped line cannot be redrawn.
func (b *bar) fit(text string) string {
	columns, _, err := term.GetSize(int(b.w.Fd()))
	if runes := []rune(text); err == nil && columns > 1 && len(runes) >= columns {
		return string(runes[:columns-2]) + "…"
	}
	return text
}
