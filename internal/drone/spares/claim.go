package spares

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

const (
	// claimTimeout is how long a spare may take to answer a claim.
	claimTimeout = 2 * time.Second
	// maxAnswer bounds what is read of an answer, of which only the beginning is shown.
	maxAnswer = 200
	maxHeader = 16 << 10
)

// Claim tells a program which backend it is from now on. deploy/BACKEND.md says so too.
type Claim struct {
	BackendID    string `json:"backend_id"`
	Key          string `json:"key"`
	Namespace    string `json:"namespace"`
	Tag          string `json:"tag"`
	FencingToken int64  `json:"fencing_token"`
	StaticToken  string `json:"static_token,omitempty"`
	Drone        string `json:"drone"`
}

// Claim tells the program of a spare which backend it is, by a POST to the path. After nil it is that backend, and ready, and its output goes to log. After an error
// nothing of it runs any more (I1), unless ctx has ended. start ends the telling, not the waiting for the end.
func (s *Spare) Claim(ctx, start context.Context, path string, claim Claim, log func(runtime.Line)) error {
	s.lines.pass(log)
	err := post(start, s.instance.Address(), path, claim)
	s.settle(claim.BackendID, err)
	if err == nil || mutant.On(mutant.ClaimLate) {
		return err
	}
	s.pool.cfg.Kill(ctx, s.ID, s.instance)
	return err
}

// GiveUp ends a spare that was taken and not claimed, and returns when it has ended, or ctx has.
func (s *Spare) GiveUp(ctx context.Context) { s.pool.cfg.Kill(ctx, s.ID, s.instance) }

// settle counts what came of a claim.
func (s *Spare) settle(backendID string, err error) {
	p := s.pool
	defer p.Wake()
	if err != nil {
		p.cfg.Log.Warn("a spare could not be claimed", "template", s.template.Name, "spare", s.ID, "backend_id", backendID, "err", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		s.of.claims++
		s.of.retry.reset()
		s.of.err = ""
	case errors.Is(err, context.Canceled): // the backend was ended meanwhile
		s.of.misses++
	default:
		s.of.misses++
		s.of.retry.later(s.begunAt)
		p.sayLocked(s.of, err.Error())
	}
}

// claimer connects anew for each claim, to nothing but the address, and follows nobody elsewhere.
var claimer = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post is nil when the program says that it is the backend now.
func post(ctx context.Context, address, path string, claim Claim) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, bytes.NewReader(messages.Encode(claim)))
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "jetway")
	resp, err := claimer.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("it did not answer POST %s within %s: answer with a status 200 to 299 once the program is the backend", path, claimTimeout)
		}
		return fmt.Errorf("it did not answer POST %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return fmt.Errorf("it answered POST %s with %s, and not with a status 200 to 299: %.200q", path, resp.Status, said)
}
