package gateway

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// The kinds of errors that only HTTP has.
const (
	Unauthorized     messages.Kind = "Unauthorized"         // 401: no token, or one that nobody knows
	Forbidden        messages.Kind = "Forbidden"            // 403: the token has not the scope or the namespace
	MethodNotAllowed messages.Kind = "MethodNotAllowed"     // 405
	TooSlow          messages.Kind = "TooSlow"              // 408: the body did not come in time
	TooLarge         messages.Kind = "TooLarge"             // 413
	NotJSON          messages.Kind = "UnsupportedMediaType" // 415
	RateLimited      messages.Kind = "RateLimited"          // 429
)

// statusOf is the HTTP status of an error.
func statusOf(kind messages.Kind) int {
	switch kind {
	case Unauthorized:
		return http.StatusUnauthorized
	case Forbidden:
		return http.StatusForbidden
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case TooSlow:
		return http.StatusRequestTimeout
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case NotJSON:
		return http.StatusUnsupportedMediaType
	case RateLimited:
		return http.StatusTooManyRequests
	}
	return kind.Code()
}

// laterError is an error with the time after which asking again is worth it.
type laterError struct {
	refused *messages.Error
	after   time.Duration
}

func (l laterError) Error() string { return l.refused.Error() }
func (l laterError) Unwrap() error { return l.refused }

// retryAfter is how long to wait before asking again; 0: asking again is of no use.
func retryAfter(err error) time.Duration {
	if l, ok := errors.AsType[laterError](err); ok {
		return l.after
	}
	if refused, ok := errors.AsType[*messages.Error](err); ok && refused.RetryAfterMS > 0 {
		return time.Duration(refused.RetryAfterMS) * time.Millisecond
	}
	switch messages.KindOf(err) {
	case messages.Overloaded, messages.NoDroneAvailable:
		return time.Second
	case messages.Unavailable:
		return 2 * time.Second
	}
	return 0
}

// problem is an error as RFC 9457 has it.
type problem struct {
	Type   string        `json:"type"`
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Kind   messages.Kind `json:"kind"`
	ID     string        `json:"id"`
}

const typeProblem = "application/problem+json"

// newID is for errors that no worker has given one.
func newID() string { return strings.ToLower(rand.Text()[:14]) }

// fail answers with an error, in the words of the route's clients.
func (c *call) fail(err error) {
	refused, ok := errors.AsType[*messages.Error](err)
	if !ok {
		if c.r.Context().Err() != nil {
			c.status = statusGone
			return // who asked has gone
		}
		refused = messages.Errorf(messages.Internal, "internal error")
		c.g.log.Error("a request failed", "route", c.route.path, "err", err)
	}
	e := *refused
	if e.ID == "" {
		e.ID = newID()
		if e.Kind == messages.Internal {
			c.g.log.Error("a request failed", "route", c.route.path, "id", e.ID, "err", err)
		}
	}
	status := statusOf(e.Kind)
	if c.route.plane {
		status = asPlane(&e)
	}
	h := c.w.Header()
	if wait := retryAfter(err); wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	if e.Kind == Unauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="jetway"`)
	}
	if e.Kind == TooSlow {
		h.Set("Connection", "close")
	}
	if strings.Contains(c.r.Header.Get("Accept"), typeProblem) {
		h.Set("Content-Type", typeProblem)
		c.write(status, messages.Encode(problem{
			Type: "urn:jetway:error:" + string(e.Kind), Title: titles(e.Kind), Status: status, Detail: e.Message, Kind: e.Kind, ID: e.ID,
		}))
		return
	}
	h.Set("Content-Type", "application/json")
	c.write(status, messages.Encode(&e))
}

// titles writes a kind as words: KeyHeld is "key held".
func titles(kind messages.Kind) string {
	var out strings.Builder
	for i, r := range string(kind) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			out.WriteByte(' ')
		}
		out.WriteRune(r)
	}
	return strings.ToLower(out.String())
}

// answer answers with a value as JSON.
func (c *call) answer(value any) {
	if raw, ok := value.(json.RawMessage); ok {
		c.w.Header().Set("Content-Type", "application/json")
		c.write(http.StatusOK, raw)
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.write(http.StatusOK, messages.Encode(value))
}

// plain answers with text, or with nothing.
func (c *call) plain(status int, text string) {
	if text != "" {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	c.write(status, []byte(text))
}

func (c *call) write(status int, body []byte) {
	c.status = status
	h := c.w.Header()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(body)
	}
}

// statusGone is what is logged where nobody was left to answer.
const statusGone = 499
