package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// lookEvery is how often the link asks whether the database is there.
	lookEvery = 500 * time.Millisecond
	// silence is how long an answer may be awaited until the link doubts that it is. A
	// statement may well take longer.
	silence = time.Second
	// probeTimeout bounds the connection that settles it, for each host, unless the address says otherwise.
	probeTimeout = 2 * time.Second
)

// errAway is of everything that is asked while the database is known to be away.
var errAway = errors.New("the database is away")

// link sees to it that nobody waits for a database that is not there, for each statement
// until its deadline (I8). It holds a session of its own and asks that one whether it can
// write. When there is no answer, nor a host that gives it a new session, the database
// is away: all connections are cut, which ends the statements on them, and new ones are
// refused at once, until a host takes writes again. The pool connects to that host only, so
// others that are down cost it nothing.
type link struct {
	config *pgx.ConnConfig // of the link's own session
	hosts  []*pgconn.FallbackConfig
	dial   pgconn.DialFunc
	pool   *pgxpool.Pool
	log    *slog.Logger

	mu    sync.Mutex
	host  *pgconn.FallbackConfig // where the last session was had; nil: none was yet
	away  error                  // why there is none
	lines map[*line]struct{}
}

// line is a connection of the pool, or of a request to cancel a statement of one.
type line struct {
	net.Conn
	link *link
}

// Close forgets it.
func (c *line) Close() error {
	c.link.mu.Lock()
	delete(c.link.lines, c)
	c.link.mu.Unlock()
	return c.Conn.Close()
}

// newLink puts a link below the connections that config makes. The caller sets its pool
// and runs watch.
func newLink(config *pgxpool.Config, probe time.Duration, log *slog.Logger) *link {
	own := config.ConnConfig.Copy()
	own.ConnectTimeout = probe
	first := &pgconn.FallbackConfig{Host: own.Host, Port: own.Port, TLSConfig: own.TLSConfig}
	l := &link{
		config: own, hosts: append([]*pgconn.FallbackConfig{first}, own.Fallbacks...),
		dial: own.DialFunc, log: log, lines: make(map[*line]struct{}),
	}
	config.ConnConfig.DialFunc = l.connect
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.host != nil {
			only(&c.Config, l.host)
		}
		return nil
	}
	return l
}

// only has config lead to one host.
func only(config *pgconn.Config, host *pgconn.FallbackConfig) {
	config.Host, config.Port, config.TLSConfig, config.Fallbacks = host.Host, host.Port, host.TLSConfig, nil
}

// connect dials, unless the database is away.
func (l *link) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := l.gone(); err != nil {
		return nil, err
	}
	conn, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return nil, errors.Join(l.away, conn.Close())
	}
	c := &line{Conn: conn, link: l}
	l.lines[c] = struct{}{}
	return c, nil
}

func (l *link) gone() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away
}

// watch holds the link's session until ctx ends.
func (l *link) watch(ctx context.Context) {
	var own *pgconn.PgConn
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		var err error
		if own != nil {
			if err = ask(ctx, own); err != nil {
				drop(own)
				own = nil
			}
		}
		if own == nil && ctx.Err() == nil {
			own = l.settle(ctx, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if own != nil {
		drop(own)
	}
}

// ask has a session say that it can write.
func ask(ctx context.Context, own *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	return pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, own)
}

// drop closes a session without waiting for one that does not answer.
func drop(own *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	_ = own.Close(ctx)
}

// settle finds a host that takes writes, after what happened to the last session, and draws
// the conclusions.
func (l *link) settle(ctx context.Context, lost error) *pgconn.PgConn {
	own, host, err := l.reach(ctx)
	if ctx.Err() != nil {
		return own
	}
	var cut []*line
	l.mu.Lock()
	was, left := l.away, l.host
	switch {
	case err == nil:
		l.host, l.away = host, nil
	case unreachable(err):
		l.away = fmt.Errorf("%w: %w", errAway, err)
	}
	is := l.away
	if is != nil || left != nil && left != l.host {
		for c := range l.lines {
			cut = append(cut, c)
		}
	}
	l.mu.Unlock()
	for _, c := range cut {
		_ = c.Close()
	}
	// Where one session broke others probably did, and must not fail statements later. One that
	// is merely slow says nothing of others.
	if len(cut) > 0 || lost != nil && !pgconn.Timeout(lost) {
		l.pool.Reset()
	}
	switch {
	case is != nil && was == nil:
		l.log.Warn("Postgres is away: what needs it is refused until it is back", "err", err)
	case is == nil && was != nil:
		l.log.Info("Postgres is back", "host", host.Host, "port", host.Port)
	}
	return own
}

// reach opens a session at the first host that takes writes.
func (l *link) reach(ctx context.Context) (*pgconn.PgConn, *pgconn.FallbackConfig, error) {
	var errs []error
	for _, host := range l.hosts {
		config := l.config.Copy()
		only(&config.Config, host)
		own, err := pgconn.ConnectConfig(ctx, &config.Config)
		if err == nil {
			if err = checkOwn(ctx, own, &config.Config); err == nil {
				return own, host, nil
			}
			drop(own)
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

// unreachable tells a database that is away, starting, stopping or read-only from one that
// answers with a refusal, as of one session too many: what has a session keeps it.
func unreachable(err error) bool {
	c := code(err)
	return c == "" || strings.HasPrefix(c, classConnection) || strings.HasPrefix(c, classShutdown)
}
