package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// onSandbox runs API, worker and sandbox in this process, on ports of their own, and calls
// use with a client that has the scope operate. Nothing is left when it returns. It reads
// nothing from the environment but NEXUS_SANDBOX_DELAY, so it uses no other Redis or bench.
func onSandbox(ctx context.Context, log io.Writer, use func(*client.Client) error) error {
	token := freshToken()
	environ := []string{"NEXUS_HTTP_ADDR=127.0.0.1:0", "NEXUS_SANDBOX_ADDR=127.0.0.1:0", "NEXUS_TOKENS=local:operate:" + token}
	if pace := os.Getenv("NEXUS_SANDBOX_DELAY"); pace != "" {
		environ = append(environ, "NEXUS_SANDBOX_DELAY="+pace)
	}
	c, _, err := app.Load(environ)
	if err != nil {
		return usage("The sandbox cannot be started: %v", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready, done := make(chan app.Addresses, 1), make(chan error, 1)
	go func() {
		parts := app.Parts{API: true, Worker: true, Sandbox: true, Dev: true}
		done <- app.Run(ctx, c, parts, app.NewLog(log, slog.LevelInfo), func(at app.Addresses) { ready <- at })
	}()
	select {
	case err := <-done:
		if ctx.Err() != nil {
			return errStopped
		}
		return fmt.Errorf("the sandbox did not start: %w", err)
	case at := <-ready:
		c := client.New(at.API, nexus.Secret(token))
		defer c.Close()
		err := use(c)
		stop()
		return errors.Join(err, <-done)
	}
}
