package app_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// asked is a bench that answers each hello with the next of a list.
type asked struct {
	answers []func() (nexus.Result, error)
}

func (a *asked) Run(context.Context, nexus.Op) (nexus.Result, error) {
	next := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	return next()
}

func lacks(what ...string) func() (nexus.Result, error) {
	hello := &nexus.HelloResult{}
	for _, each := range what {
		hello.Problems = append(hello.Problems, nexus.Problem{What: each, Mend: "mend " + each})
	}
	return func() (nexus.Result, error) { return nexus.Result{Hello: hello}, nil }
}

// TestProblemsLogged: a worker logs the problems of its bench at its start and when they
// change, and not at each look.
func TestProblemsLogged(t *testing.T) {
	t.Parallel()
	away := func() (nexus.Result, error) { return nexus.Result{}, errors.New("away") }
	driver := &asked{answers: []func() (nexus.Result, error){
		lacks("redis"), lacks("redis"), lacks("redis", "disk"), away, lacks("disk"), lacks("disk", "redis"), lacks()}}
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := app.AskBench(ctx, slog.New(slog.NewTextHandler(&out, nil)), driver); err != nil {
			t.Fatal(err)
		}
		var told []string
		for line := range strings.Lines(out.String()) {
			if _, after, found := strings.Cut(line, "level=WARN msg=\"bench has a problem\" "); found {
				told = append(told, strings.TrimSpace(after))
			}
		}
		if got, want := strings.Join(told, "; "), `what=redis mend="mend redis"; what=disk mend="mend disk"; what=redis mend="mend redis"`; got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
	})
}
