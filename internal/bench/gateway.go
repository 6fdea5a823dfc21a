package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// GatewayConfig says what to measure. Dial, URL and the log are required.
type GatewayConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// URL is the gateway's, http://…, and Token one with the scope connect, or "".
	URL, Token string
	// InFlight is how many joins are under way at once. Default 64.
	InFlight int
	// Duration of one turn, and how many turns there are of each. Defaults 2 s and 5.
	Duration time.Duration
	Turns    int
	// Keys is how many backends the joins are spread over. Default 1000.
	Keys     int
	Progress func(what string)
	Log      *slog.Logger
}

// GatewayResult is what was measured: the same joins over NATS and through the gateway, in turns.
type GatewayResult struct {
	NATS    Figures `json:"nats"`
	Gateway Figures `json:"gateway"`
	// Ratio is how many joins the gateway made for one over NATS.
	Ratio float64 `json:"ratio"`
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *GatewayConfig) Validate() error {
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "http" || u.Host == "":
		return errors.New("the gateway's URL must be http://HOST:PORT")
	case c.InFlight < 1 || c.InFlight > 4096:
		return errors.New("concurrency must be 1 to 4096")
	case c.Duration < 10*time.Millisecond || c.Duration > 10*time.Minute:
		return errors.New("duration must be 10ms to 10m")
	case c.Turns < 1 || c.Turns > 1000:
		return errors.New("turns must be 1 to 1000")
	case c.Keys < 1 || c.Keys > messages.MaxNamed:
		return fmt.Errorf("keys must be 1 to %d", messages.MaxNamed)
	}
	return nil
}

// Gateway measures joins through a gateway beside the same ones over NATS.
func Gateway(ctx context.Context, cfg GatewayConfig) (*GatewayResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	stop, err := startDrones(ctx, cfg.Dial, cfg.Log, "dr-bench-"+run, cluster(run), 1)
	if err != nil {
		return nil, err
	}
	defer stop()
	c := newClient(nc, run, cluster(run))
	for n := range cfg.Keys {
		if err := c.connect(ctx, "join", n); err != nil {
			return nil, fmt.Errorf("spawn a backend to join: %w", err)
		}
	}
	conns, err := dialGateway(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, h := range conns {
			_ = h.conn.Close()
		}
	}()
	key := func(n int) int { return n * 7919 % cfg.Keys }
	var over, through sample
	for turn := range cfg.Turns {
		cfg.Progress(fmt.Sprintf("turn %d of %d: joins over NATS", turn+1, cfg.Turns))
		over.add(take(ctx, cfg.InFlight, cfg.Duration, func(ctx context.Context, n int) error { return c.connect(ctx, "join", key(n)) }))
		cfg.Progress(fmt.Sprintf("turn %d of %d: joins through the gateway", turn+1, cfg.Turns))
		through.add(take(ctx, cfg.InFlight, cfg.Duration, func(_ context.Context, n int) error {
			return conns[n%cfg.InFlight].connect(c.rest, key(n))
		}))
	}
	r := &GatewayResult{NATS: figures("joins over NATS", over.took, over.elapsed, 1), Gateway: figures("joins through the gateway", through.took, through.elapsed, 1)}
	for f, s := range map[*Figures]*sample{&r.NATS: &over, &r.Gateway: &through} {
		if f.Failed = s.failed; s.err != nil {
			f.Error = s.err.Error()
		}
	}
	r.Ratio = r.Gateway.Rate / max(r.NATS.Rate, 1)
	return r, errors.Join(ctx.Err(), figuresError(r.NATS), figuresError(r.Gateway))
}

// keptAlive is one connection to the gateway, with one request at a time: as cheap an asker as that over NATS.
type keptAlive struct {
	conn net.Conn
	in   *bufio.Reader
	head []byte
	body []byte
}

func dialGateway(ctx context.Context, cfg *GatewayConfig) ([]*keptAlive, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	head := "POST /v1/connect HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: application/json\r\n"
	if cfg.Token != "" {
		head += "Authorization: Bearer " + cfg.Token + "\r\n"
	}
	var conns []*keptAlive
	for range cfg.InFlight {
		conn, err := (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return conns, err
		}
		conns = append(conns, &keptAlive{conn: conn, in: bufio.NewReader(conn), head: []byte(head)})
	}
	return conns, nil
}

func (h *keptAlive) connect(rest string, n int) error {
	h.body = append(h.body[:0], `{"key":{"name":"join-`...)
	h.body = append(strconv.AppendInt(h.body, int64(n), 10), rest...)
	out := append([]byte(nil), h.head...)
	out = append(strconv.AppendInt(append(out, "Content-Length: "...), int64(len(h.body)), 10), "\r\n\r\n"...)
	if err := h.conn.SetDeadline(time.Now().Add(2 * askTimeout)); err != nil {
		return err
	}
	if _, err := h.conn.Write(append(out, h.body...)); err != nil {
		return err
	}
	status, length := "", 0
	for {
		line, err := h.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if status == "" {
			status = string(line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if _, err := io.CopyN(io.Discard, h.in, int64(length)); err != nil {
		return err
	}
	if status != "HTTP/1.1 200 OK" {
		return errors.New(status)
	}
	return nil
}
