package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// Config says which database. DSN is required.
type Config struct {
	// DSN is a Postgres URL or keyword/value string. Its connect_timeout says how long the
	// database may take to accept a connection before it counts as away (2 s where it
	// says nothing); its statement_timeout and the like hold instead of the store's own.
	DSN string
	// MaxConns bounds the pool. Default 8.
	MaxConns int
	// Terms of the leases, for a database in which none are set yet. Default lease.DefaultTerms.
	Terms lease.Terms
	// Log is told when the database goes away and comes back, and what a migration waits for. Default: nowhere.
	Log *slog.Logger
}

// Store is the database.
type Store struct {
	pool     *pgxpool.Pool
	link     *link
	clock    *wallClock
	home     home
	lowered  lowered
	terms    atomic.Pointer[lease.Terms]
	log      *slog.Logger
	stop     context.CancelFunc
	watching sync.WaitGroup
	// spawning says that the last batch of connects found nobody to join.
	spawning atomic.Bool
}

// Open prepares a pool. It does not connect: a database that is away shows with
// the first statement.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.watching.Go(func() { s.link.watch(watching) })
	return s, nil
}

// prepare makes a store whose link does not watch.
func prepare(ctx context.Context, cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("read the Postgres address: %w", err)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 8
	}
	if cfg.Terms == (lease.Terms{}) {
		cfg.Terms = lease.DefaultTerms
	}
	pc.MaxConns = int32(min(max(cfg.MaxConns, 1), 1000))
	pc.MaxConnLifetime, pc.MaxConnLifetimeJitter, pc.PingTimeout = connLife, connJitter, probeTimeout
	conn := pc.ConnConfig
	probe := cmp.Or(conn.ConnectTimeout, probeTimeout)
	conn.ConnectTimeout = cmp.Or(conn.ConnectTimeout, 3*time.Second)
	conn.DialFunc = (&net.Dialer{Timeout: conn.ConnectTimeout}).DialContext
	conn.RuntimeParams["application_name"] = "jetway"
	log := cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Store{clock: newWallClock(cfg.Terms.TTL), log: log, stop: func() {}}
	conn.ValidateConnect = s.validate(settings(conn.RuntimeParams))
	s.link = newLink(pc, probe, log)
	s.terms.Store(&cfg.Terms)
	refuses := conn.OnPgError
	conn.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code == codeReadOnly { // it was a session that could write: others are no better
			s.pool.Reset()
			return false
		}
		return refuses(c, err)
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("open the Postgres pool: %w", err)
	}
	s.link.pool = s.pool
	return s, nil
}

// Terms are those of the leases that this store writes: once it has looked, those that are
// set in the database.
func (s *Store) Terms() lease.Terms { return *s.terms.Load() }

// Close closes the pool when its statements are done.
func (s *Store) Close() {
	s.pool.Close()
	s.stop()
	s.watching.Wait()
}

// pingSQL writes, and waits for the commit, without leaving anything behind: a message in the
// write-ahead log that nobody is told of. On a standby it fails.
const pingSQL = `
select pg_logical_emit_message(true, 'jetway', '')
where current_setting('transaction_read_only') = 'off'`

// Ping commits something, so it shows whether the database can be written to.
func (s *Store) Ping(ctx context.Context) error {
	tag, err := s.pool.Exec(ctx, pingSQL)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgconn.ErrReadOnlyConnection
	}
	return wrap("ping", err)
}

// Pool is the use of the connections.
type Pool struct {
	InUse, Idle, Limit int
	// Waits are the statements that had to wait for a connection, Waited for how long.
	Waits  int64
	Waited time.Duration
}

// Pool gives the use of the connections now. It asks nobody.
func (s *Store) Pool() Pool {
	stat := s.pool.Stat()
	return Pool{
		InUse: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Limit: int(stat.MaxConns()),
		Waits: stat.EmptyAcquireCount(), Waited: stat.EmptyAcquireWaitTime(),
	}
}

// SQLSTATE classes and codes that are branched on.
const (
	classConnection    = "08"
	classShutdown      = "57P"
	codeUndefinedTable = "42P01"
	codeUndefined      = "42703" // a column
	codeTableExists    = "42P07"
	codeUnique         = "23505"
	codeSerialization  = "40001"
	codeDeadlock       = "40P01"
	codeLockTimeout    = "55P03"
	codeCanceled       = "57014"
	codeNoRoom         = "53100"
	classResources     = "53"
	codeReadOnly       = "25006"
	codeNoDatabase     = "3D000"
	classNotLetIn      = "28"
)

// code gives the SQLSTATE of err, or "".
func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// lacks says that the database has not the tables or columns of this version.
func lacks(err error) bool {
	c := code(err)
	return c == codeUndefinedTable || c == codeUndefined
}

// wrap says what was being done, and makes an error of kind Unavailable of what
// comes from a database that is away, starting, stopping, read-only, without room or out of time. Out of time is said as that: it
// may be there, and the asker's deadline have been short.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if lacks(err) { // the workers' next look says why, and mends it
		refusal := messages.Errorf(messages.Unavailable, "the database has tables of another version, as after a restore of an earlier backup; a worker migrates it: ask again in a moment")
		refusal.Reason = messages.UnavailableMigrating
		return fmt.Errorf("%s: %w: %w", what, refusal, err)
	}
	if errors.Is(err, ErrPooled) || !away(err) && !late(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if late(err) {
		return fmt.Errorf("%s: %w: %w", what, messages.Errorf(messages.Unavailable, "not settled in time"), err)
	}
	said := "the database cannot be reached"
	switch c := code(err); {
	case c == codeReadOnly, errors.Is(err, pgconn.ErrReadOnlyConnection):
		said = "the database takes no writes: it is a standby, or default_transaction_read_only is on"
	case c == codeNoRoom:
		said = "the database's disk is full"
	}
	return fmt.Errorf("%s: %w: %w", what, messages.Errorf(messages.Unavailable, "%s", said), err)
}

// late says that there was no time left, for us or the database, and nothing that it is away.
func late(err error) bool {
	var connErr *pgconn.ConnectError
	switch c := code(err); {
	case c != "":
		return c == codeCanceled || c == codeLockTimeout
	case errors.Is(err, errAway) || errors.As(err, &connErr):
		return false
	}
	return errors.Is(err, context.DeadlineExceeded)
}

func away(err error) bool {
	if c := code(err); c != "" {
		return strings.HasPrefix(c, classConnection) || strings.HasPrefix(c, classShutdown) ||
			strings.HasPrefix(c, classResources) || c == codeReadOnly || c == codeCanceled || c == codeLockTimeout
	}
	var connErr *pgconn.ConnectError
	var netErr net.Error
	return errors.As(err, &connErr) || errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, errAway) || errors.Is(err, pgconn.ErrReadOnlyConnection) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		strings.Contains(err.Error(), "conn closed")
}

// again runs a statement until Postgres no longer ends it for a deadlock with
// another one. Nothing was done by one that was ended.
func again(ctx context.Context, run func() error) error {
	for attempt := 0; ; attempt++ {
		err := run()
		if c := code(err); (c != codeDeadlock && c != codeSerialization) || attempt == 4 || ctx.Err() != nil {
			return err
		}
	}
}

// read runs a query and scans all its rows; of one that Postgres ends for a deadlock nothing is left.
func read[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], sql string, args ...any) (list []T, err error) {
	err = again(ctx, func() error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	return list, err
}
