package drone

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Times of the probe: one that is up soon is found soon, one that takes long is not
// bothered much. Each wait is an eighth longer than the one before, so that what the
// probe adds to a start is a small part of it.
const (
	probeFirst   = 250 * time.Microsecond
	probeMost    = 250 * time.Millisecond
	probeTimeout = 5 * time.Second
	// explainFrom is the wait from which it is looked why there is no answer, at most once in
	// explainEvery: most programs answer before.
	explainFrom  = 100 * time.Millisecond
	explainEvery = time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 10
	// maxMet bounds the text about it.
	maxMet = 512
)

// probe asks until the instance of a backend answers HTTP, which is true; false when ctx or the
// instance ended before. What it meets it notes for the person who waits for that answer.
func (a *agent) probe(ctx context.Context, h *held, instance runtime.Instance) bool {
	return probe(ctx, h.group, instance, func(met string) {
		a.mu.Lock()
		defer a.mu.Unlock()
		h.met = met
	})
}

// probe is agent.probe of what runs in a cgroup, "" if it has none. It tells what it meets.
func probe(ctx context.Context, group string, instance runtime.Instance, tell func(met string)) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	explained := time.Time{}
	for wait := probeFirst; ; wait = min(wait*9/8, probeMost) {
		select {
		case <-ctx.Done():
			return false
		case <-instance.Done():
			return false
		case <-timer.C:
		}
		err := ask(ctx, instance.Address())
		if err == nil {
			return true
		}
		if wait >= explainFrom && time.Since(explained) >= explainEvery && ctx.Err() == nil {
			tell(clean(explain(ctx, group, instance, err), maxMet))
			explained = time.Now()
		}
		timer.Reset(wait)
	}
}

// ask is nil when the address answers HTTP/1.1, whatever it answers. It is asked often while nobody
// listens yet, so it costs no more than the call that is refused then.
func ask(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+address+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// answersHTTP2 says whether the address answers HTTP/2 without TLS.
func answersHTTP2(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+address+"/", http.NoBody)
	if err != nil {
		return false
	}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return true
}

// explain says in words for the author of a program why it does not answer.
func explain(ctx context.Context, group string, instance runtime.Instance, err error) string {
	wanted, where := instance.Address(), "HOST and PORT of its environment"
	if inside, ok := instance.(interface{ ListensAt() string }); ok { // elsewhere than it is reached at
		wanted = inside.ListensAt()
		where = fmt.Sprintf("%s, which is %s", wanted, where)
	}
	if elsewhere := listensElsewhere(wanted, listening(instance.PID(), group)); elsewhere != "" {
		return fmt.Sprintf("%s; it listens on %s only, and must listen at %s", refusalOf(err), elsewhere, where)
	}
	switch text := refusalOf(err); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s: it must listen at %s", text, where)
	case isTLS(text):
		return "it speaks TLS: it must serve plain HTTP/1.1, browsers get TLS from the proxy"
	case !isTimeout(err) && answersHTTP2(ctx, instance.Address()):
		return "it speaks HTTP/2 only: it must serve HTTP/1.1"
	default:
		return text
	}
}

// refusalOf is the cause of a request's error in a few words.
func refusalOf(err error) string {
	const malformed = "malformed HTTP"
	text := err.Error()
	if cause, ok := errors.AsType[syscall.Errno](err); ok && cause != syscall.ECONNRESET && cause != syscall.EPIPE {
		return cause.Error()
	}
	if at := strings.Index(text, malformed); at >= 0 {
		return "its answer is not HTTP/1.1: " + text[at:]
	}
	switch {
	case isTimeout(err):
		return fmt.Sprintf("no answer within %s", probeTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it closes connections without an answer"
	}
	return text
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isTLS tells by the beginning of an alert, as the text of an error quotes it.
func isTLS(text string) bool { return strings.Contains(text, `"\x15\x03`) }

// listensElsewhere says where a program listens, if it does, but not where it is wanted.
func listensElsewhere(wanted string, sockets []netip.AddrPort) string {
	want, err := netip.ParseAddrPort(wanted)
	if err != nil {
		return ""
	}
	var texts []string
	for _, socket := range sockets {
		all := socket.Addr().IsUnspecified() && (socket.Addr().Is6() || want.Addr().Is4())
		if socket.Port() == want.Port() && (all || socket.Addr() == want.Addr()) {
			return ""
		}
		texts = append(texts, socket.String())
	}
	return strings.Join(texts, ", ")
}
