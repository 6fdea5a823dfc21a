package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
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
}

// Store is the database.
type Store struct {
	pool  *pgxpool.Pool
	link  *link
	clock *wallClock
	terms atomic.Pointer[lease.Terms]
}

// Open prepares a pool. It does not connect: a database that is away shows with
// the first statement.
func Open(ctx context.Context, cfg Config) (*Store, error) {
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
	probeTimeout := cmp.Or(pc.ConnConfig.ConnectTimeout, defaultProbeTimeout)
	pc.ConnConfig.ConnectTimeout = cmp.Or(pc.ConnConfig.ConnectTimeout, 3*time.Second)
	params := pc.ConnConfig.RuntimeParams
	for name, value := range map[string]string{
		"statement_timeout":                   "15s",
		"lock_timeout":                        "5s",
		"idle_in_transaction_session_timeout": "15s",
	} {
		params[name] = cmp.Or(params[name], value)
	}
	maps.Copy(params, map[string]string{
		"application_name": "jetway",
		"jit":              "off",
		"plan_cache_mode":  "force_generic_plan",
		"enable_seqscan":   "off",
		"timezone":         "UTC",
	})
	link := newLink(pc.ConnConfig, probeTimeout)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open the Postgres pool: %w", err)
	}
	link.reset = pool.Reset
	link.run()
	s := &Store{pool: pool, link: link, clock: newWallClock(cfg.Terms.TTL)}
	s.terms.Store(&cfg.Terms)
	return s, nil
}

// Terms are those of the leases that this store writes: once it has looked, those that are
// set in the database.
func (s *Store) Terms() lease.Terms { return *s.terms.Load() }

// Close closes the pool when its statements are done.
func (s *Store) Close() {
	s.pool.Close()
	s.link.close()
}

// Ping asks the database for nothing.
func (s *Store) Ping(ctx context.Context) error { return wrap("ping", s.pool.Ping(ctx)) }

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
	classConnection   = "08"
	classShutdown     = "57P"
	codeUnique        = "23505"
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeLockTimeout   = "55P03"
	codeCanceled      = "57014"
	codeTooMany       = "53300"
	codeReadOnly      = "25006"
	codeNoTable       = "42P01"
	codeNoDatabase    = "3D000"
	classNotLetIn     = "28"
)

// code gives the SQLSTATE of err, or "".
func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// wrap says what was being done, and makes an error of kind Unavailable of what
// comes from a database that is away, starting, stopping or out of time.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if away(err) {
		return fmt.Errorf("%s: %w: %w", what, messages.Errorf(messages.Unavailable, "the database cannot be reached"), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func away(err error) bool {
	if c := code(err); c != "" {
		return strings.HasPrefix(c, classConnection) || strings.HasPrefix(c, classShutdown) ||
			c == codeTooMany || c == codeReadOnly || c == codeCanceled || c == codeLockTimeout
	}
	var connErr *pgconn.ConnectError
	var netErr net.Error
	return errors.As(err, &connErr) || errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, errAway) ||
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

// read runs a query and scans all its rows.
func read[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
