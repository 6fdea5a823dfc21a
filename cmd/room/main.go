// Command room is the demo backend of Jetway: a small shared room in the browser,
// with the people in it, a counter and a canvas to draw on. It shows what a session
// backend is: one process that owns one key and keeps its state in memory, with no
// other coordination.
//
// It listens on $PORT (8080 if unset) of $HOST (127.0.0.1 if unset) and shows the
// SESSION_BACKEND_* variables that the drone gave it. Who a visitor is it takes from
// the proxy's x-verified-* headers. It does not authenticate anybody itself and
// accepts WebSockets of any Origin: it must only be reachable through the proxy.
//
// Started as a spare (SESSION_BACKEND_SPARE) it has no key yet, and is told by POST /claim.
//
// SIGTERM makes it say goodbye to everybody and exit within a second. The flags
// exist to test drones: they make it misbehave.
//
// What holds: its memory is bounded (people, queues, strokes, message sizes); one
// visitor who is too slow is dropped rather than waited for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// goodbye bounds the time from SIGTERM to the exit. Tests change it.
var goodbye = 700 * time.Millisecond

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "room:", err)
	}
	os.Exit(code)
}

// options are the flags.
type options struct {
	exitAfter  time.Duration
	exitCode   int
	ignoreTerm bool
	noListen   bool
	loadFor    time.Duration
	printLines int
}

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("room", flag.ContinueOnError)
	flags.DurationVar(&o.exitAfter, "exit-after", -1, "for testing drones: exit by itself after this time (negative: never)")
	flags.IntVar(&o.exitCode, "exit-code", 0, "for testing drones: the exit code, however it ends")
	flags.BoolVar(&o.ignoreTerm, "ignore-term", false, "for testing drones: ignore SIGTERM")
	flags.BoolVar(&o.noListen, "no-listen", false, "for testing drones: never listen")
	flags.DurationVar(&o.loadFor, "load-for", 0, "for testing drones: listen after this time")
	flags.IntVar(&o.printLines, "print-lines", 0, "for testing drones: print this many lines at the start")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}

// run returns the exit code, and an error if it did not come to its planned end.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) (int, error) {
	o, err := parseFlags(args)
	if err != nil {
		return 2, err
	}
	log := newLogger(stdout)
	// Before the first line: who reads it may send a signal at once.
	if o.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	} else {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
		defer stop()
	}
	if o.exitAfter >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.exitAfter)
		defer cancel()
	}
	info := infoFrom(getenv)
	for n := range o.printLines {
		log.printf("line %d of %d", n+1, o.printLines)
	}
	select {
	case <-time.After(o.loadFor):
	case <-ctx.Done():
	}
	if o.noListen {
		log.printf("room %s for key %q started, and does not listen", info.BackendID, info.Key)
		<-ctx.Done()
	} else if err := serve(ctx, info, getenv, log); err != nil {
		return 1, err
	}
	log.printf("room %s ended", info.BackendID)
	return o.exitCode, nil
}

// serve runs the room until ctx ends.
func serve(ctx context.Context, info info, getenv func(string) string, log *logger) error {
	address := net.JoinHostPort(or(getenv("HOST"), "127.0.0.1"), or(getenv("PORT"), "8080"))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	room := newRoom(info, log)
	room.spare = getenv("SESSION_BACKEND_SPARE") != ""
	server := &http.Server{
		Handler:           room.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // x-verified-user-data may be large
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.printf("room %s for key %q listens on %s", info.BackendID, info.Key, listener.Addr())
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// The WebSockets are no longer the server's: the room says goodbye to them.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	room.close(late)
	if server.Shutdown(late) != nil {
		server.Close()
	}
	<-failed
	return nil
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
