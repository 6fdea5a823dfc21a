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
	"sync"
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
	Claimed   bool // it was a spare
	PID       int  `json:"-"` // who it was that told, by the kernel
}

// What a backend may be asked to be, as its first argument.
const (
	plain      = "plain"
	ignoreTerm = "ignore-term" // has to be killed
	slowTerm   = "slow-term"
	shortLived = "short-lived" // ends by itself
	failing    = "failing"     // never becomes ready
)

// templateName is the template of the backends of half of the keys, which has spares; claimPath is where they are claimed.
const (
	templateName = "torture"
	claimPath    = "/claim"
)

// playBackend is a backend, or a spare that becomes one when it is claimed: it tells the register that it runs, writes to it as the
// owner of its key until it ends, and answers HTTP with its id. It does not return.
func playBackend(args []string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	token, _ := strconv.ParseInt(os.Getenv("SESSION_BACKEND_FENCING_TOKEN"), 10, 64)
	me := begun{
		BackendID: os.Getenv("SESSION_BACKEND_ID"), Namespace: os.Getenv("SESSION_BACKEND_NAMESPACE"),
		Key: os.Getenv("SESSION_BACKEND_KEY"), Token: token,
	}
	client := &http.Client{Timeout: testkit.Patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", os.Getenv(registerEnv))
		},
	}}
	say := func(path string) {
		body, _ := json.Marshal(me)
		resp, err := client.Post("http://register"+path, "application/json", bytes.NewReader(body))
		if err != nil {
			os.Exit(3) // the harness is gone
		}
		_ = resp.Body.Close()
	}
	var known sync.Mutex // me
	claimed := make(chan struct{})
	if os.Getenv("SESSION_BACKEND_SPARE") == "" {
		say("/begun")
		close(claimed)
	}
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
			known.Lock()
			defer known.Unlock()
			if r.URL.Path == claimPath {
				var claim struct {
					ID           string `json:"backend_id"`
					FencingToken int64  `json:"fencing_token"`
					Key          string
					Namespace    string
				}
				if json.NewDecoder(r.Body).Decode(&claim) != nil || me.Claimed {
					http.Error(w, "no claim, or it is a backend already", http.StatusBadRequest)
					return
				}
				me = begun{BackendID: claim.ID, Namespace: claim.Namespace, Key: claim.Key, Token: claim.FencingToken, Claimed: true}
				say("/begun")
				close(claimed)
			}
			w.Header().Set("Backend", me.BackendID)
			_, _ = fmt.Fprintln(w, me.BackendID)
		}))
	}()
	select { // until then it does nothing
	case <-claimed:
	case <-term:
		os.Exit(0)
	}
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
