// Command jetway is all of Jetway in one program: the roles, a whole stack for
// development, and the client. Package internal/cli is the command line; here
// are only signals and the exit code.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/cli"
)

// killTimeout is what a second signal leaves for killing child processes.
const killTimeout = 2 * time.Second

// gcPercent lets the heap grow to five times what lives before it is collected.
// What lives is small in every role, a few tens of MiB, and what passes through is
// much: with Go's default a quarter of a busy worker's time goes into collecting.
// GOGC overrules it, GOMEMLIMIT bounds it.
const gcPercent = 400

func main() {
	// A panic, or a watchdog's SIGABRT, ends the program by a signal. Go would exit with 2, as does wrong use, which
	// units do not start again.
	debug.SetTraceback("crash")
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(run())
}

// run stops softly on the first SIGINT or SIGTERM, and at once on the second.
func run() int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	kill := make(chan struct{})

	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, cli.Process{Program: os.Args[0], Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Kill: kill})
	}()
	select {
	case c := <-code:
		return c
	case <-signals:
		cancel()
	}
	select {
	case c := <-code:
		return c
	case <-signals:
		close(kill)
	}
	select {
	case c := <-code:
		return c
	case <-time.After(killTimeout):
		return cli.ExitInterrupted
	}
}
