package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// askPassword asks for a password on a terminal without echo; elsewhere it reads one line.
func askPassword(prompt string) (nexus.Secret, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return readPassword()
	}
	fmt.Fprint(os.Stderr, prompt)
	type answer struct {
		text []byte
		err  error
	}
	given, stopped := make(chan answer, 1), make(chan os.Signal, 1)
	signal.Notify(stopped, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stopped)
	go func() { // a read from a terminal cannot be canceled; it ends with the process
		text, err := term.ReadPassword(fd)
		given <- answer{text, err}
	}()
	select {
	case a := <-given:
		fmt.Fprintln(os.Stderr)
		return nexus.Secret(a.text), a.err
	case <-stopped: // switch the echo on again
		_ = term.Restore(fd, before)
		fmt.Fprintln(os.Stderr)
		return "", &nexus.Error{Code: nexus.CodeCanceled, Op: "password", Msg: "No password was entered; nothing was done."}
	}
}

// readPassword reads one line of standard input.
func readPassword() (nexus.Secret, error) {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if line == "" && (err == nil || errors.Is(err, io.EOF)) {
		return "", usage("There is no password on standard input; write it there as one line.")
	}
	if line == "" {
		return "", err
	}
	return nexus.Secret(line), nil
}
