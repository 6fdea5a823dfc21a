package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// silence is how long an answer may be awaited until it is doubted that the
	// database is there. A statement may well take longer.
	silence = time.Second
	// defaultProbeTimeout bounds the question that settles it.
	defaultProbeTimeout = 2 * time.Second
	// lookEvery is how often it is looked for silence. It costs no round trip.
	lookEvery = 250 * time.Millisecond
	// returnPause is the longest pause between the questions while it is away.
	returnPause = 500 * time.Millisecond
)

// errAway is of everything that is asked while the database is known to be away.
var errAway = errors.New("it is known to be away")

// link is the way to the database, below the pool. It sees to it that nobody waits for
// a database that is not there, for each statement until its deadline (I8): when a
// connection breaks or an answer is long in coming, it tries to connect by
// itself. If that fails, the database is away: all connections are cut, which ends
// the statements on them, and new ones are refused at once, until it can be
// reached again.
type link struct {
	dial  pgconn.DialFunc
	probe func(ctx context.Context) error
	// probeTimeout bounds one probe.
	probeTimeout time.Duration
	// reset closes the pool's idle connections, for which a break of one is none of theirs yet.
	reset func()
	// suspect holds one suspicion.
	suspect chan struct{}
	stop    context.CancelFunc
	stopped chan struct{}

	mu    sync.Mutex
	away  bool
	lines map[*line]struct{}
	// present ends when the database goes away; and with it dialing.
	present context.Context
	leave   context.CancelFunc
}

// line is one connection, or the attempt at one.
type line struct {
	net.Conn
	link *link
	// since is when the oldest unanswered word was sent, by the link's clock; 0: none is.
	since atomic.Int64
}

// clock is monotonic.
var clock = time.Now()

func nowNanos() int64 { return int64(time.Since(clock)) }

// newLink puts a link below the connections that config makes. The caller sets reset
// and calls run.
func newLink(config *pgx.ConnConfig, probeTimeout time.Duration) *link {
	direct := config.Copy()
	direct.ConnectTimeout = probeTimeout
	l := &link{
		dial: config.DialFunc, probeTimeout: probeTimeout,
		suspect: make(chan struct{}, 1), stopped: make(chan struct{}), lines: make(map[*line]struct{}),
	}
	l.present, l.leave = context.WithCancel(context.Background())
	l.probe = func(ctx context.Context) error {
		conn, err := pgx.ConnectConfig(ctx, direct)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	config.DialFunc = l.connect
	return l
}

// connect dials, unless the database is away.
func (l *link) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	c := &line{link: l}
	c.since.Store(nowNanos())
	l.mu.Lock()
	if l.away {
		l.mu.Unlock()
		return nil, errAway
	}
	l.lines[c] = struct{}{}
	present := l.present
	l.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(present, cancel)()
	conn, err := l.dial(ctx, network, addr)
	c.since.Store(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && present.Err() != nil {
		err = errors.Join(errAway, conn.Close())
	}
	if err != nil {
		delete(l.lines, c)
		l.doubt()
		return nil, err
	}
	c.Conn = conn
	return c, nil
}

// Write notes since when an answer is awaited.
func (c *line) Write(b []byte) (int, error) {
	c.since.CompareAndSwap(0, nowNanos())
	n, err := c.Conn.Write(b)
	c.check(err)
	return n, err
}

// Read notes that one came.
func (c *line) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.since.Store(0)
	}
	c.check(err)
	return n, err
}

// check doubts the database when a connection breaks. A deadline is its owner's.
func (c *line) check(err error) {
	var netErr net.Error
	if err == nil || errors.Is(err, net.ErrClosed) || errors.As(err, &netErr) && netErr.Timeout() {
		return
	}
	c.link.doubt()
}

// Close forgets it.
func (c *line) Close() error {
	c.link.mu.Lock()
	delete(c.link.lines, c)
	c.link.mu.Unlock()
	return c.Conn.Close()
}

func (l *link) doubt() {
	select {
	case l.suspect <- struct{}{}:
	default:
	}
}

// run settles doubts until close is called.
func (l *link) run() {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	go func() {
		defer close(l.stopped)
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.suspect:
				// What else is idle has probably broken too, and must not fail statements later.
				l.reset()
			case <-look.C:
				if !l.silent() {
					continue
				}
			}
			l.settle(ctx)
		}
	}()
}

// close ends run. Connections stay.
func (l *link) close() {
	l.stop()
	<-l.stopped
}

// silent says whether an answer is long in coming.
func (l *link) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := nowNanos()
	for c := range l.lines {
		if since := c.since.Load(); since != 0 && now-since > int64(silence) {
			return true
		}
	}
	return false
}

// settle finds out whether the database is there, and if it is not, returns when it
// is again, or ctx ends.
func (l *link) settle(ctx context.Context) {
	for pause := lookEvery / 4; ; pause = min(2*pause, returnPause) {
		began := time.Now()
		probing, cancel := context.WithTimeout(ctx, l.probeTimeout)
		err := l.probe(probing)
		cancel()
		if ctx.Err() != nil {
			return
		}
		gone := unreachable(err)
		if gone {
			l.goAway()
		} else {
			l.comeBack()
		}
		if !gone {
			pause = silence / 2 // what is only slow is not asked all the time
		}
		select {
		case <-time.After(pause - min(pause, time.Since(began))):
		case <-ctx.Done():
			return
		}
		if !gone {
			return
		}
	}
}

// unreachable tells a database that is away, starting or stopping from one that answers,
// be it with a refusal.
func unreachable(err error) bool {
	if err == nil {
		return false
	}
	c := code(err)
	return c == "" || strings.HasPrefix(c, classConnection) || strings.HasPrefix(c, classShutdown)
}

// goAway cuts all connections.
func (l *link) goAway() {
	l.mu.Lock()
	first := !l.away
	l.away = true
	l.leave()
	var open []io.Closer
	for c := range l.lines {
		if c.Conn != nil {
			open = append(open, c.Conn)
		}
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	if first {
		l.reset()
	}
}

func (l *link) comeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		l.away = false
		l.present, l.leave = context.WithCancel(context.Background())
	}
}
