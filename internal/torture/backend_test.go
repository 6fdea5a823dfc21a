//go:build linux

package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// registerEnv tells a backend the Unix socket of the register, homeEnv which network is
// that of the harness's own machine.
const (
	registerEnv = "REGISTER"
	homeEnv     = "HOME_NETWORK"
)

// begun and written are what backends tell the register.
type begun struct {
	BackendID string
	Namespace string
	Key       string
	Token     int64
	PID       int `json:"-"` // who it was that told, by the kernel
}

// What a backend may be asked to be, as its first argument.
const (
	plain      = "plain"
	ignoreTerm = "ignore-term" // has to be killed
	slowTerm   = "slow-term"
	shortLived = "short-lived" // ends by itself
	failing    = "failing"     // never becomes ready
)

// playBackend is a backend: it tells the register that it runs, writes to it as the
// owner of its key until it ends, and answers HTTP with its id. It does not return.
func playBackend(args []string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	token, _ := strconv.ParseInt(os.Getenv("SESSION_BACKEND_FENCING_TOKEN"), 10, 64)
	me := begun{
		BackendID: os.Getenv("SESSION_BACKEND_ID"), Namespace: os.Getenv("SESSION_BACKEND_NAMESPACE"),
		Key: os.Getenv("SESSION_BACKEND_KEY"), Token: token,
	}
	body, _ := json.Marshal(me)
	client := &http.Client{Timeout: testkit.Patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", os.Getenv(registerEnv))
		},
	}}
	say := func(path string) {
		resp, err := client.Post("http://register"+path, "application/json", bytes.NewReader(body))
		if err != nil {
			os.Exit(3) // the harness is gone
		}
		_ = resp.Body.Close()
	}
	say("/begun")
	if slices.Contains(args, failing) {
		fmt.Println("this one fails")
		os.Exit(4)
	}
	host := "127.0.0.1"
	if !atHome(os.Getenv(homeEnv)) {
		host = machineIP
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, os.Getenv("PORT")))
	if err != nil {
		fmt.Println(err)
		os.Exit(5)
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Backend", me.BackendID)
			_, _ = fmt.Fprintln(w, me.BackendID)
		}))
	}()
	var over <-chan time.Time
	if slices.Contains(args, shortLived) {
		over = time.After(1500 * time.Millisecond)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			say("/write")
		case <-over:
			os.Exit(0)
		case <-term:
			switch {
			case slices.Contains(args, ignoreTerm):
				continue
			case slices.Contains(args, slowTerm):
				over = time.After(700 * time.Millisecond)
				continue
			}
			os.Exit(0)
		}
	}
}
