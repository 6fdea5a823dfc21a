package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A connection lives for connLife and up to connJitter more, so that none is left for long where
// a pooler, a name or a virtual address no longer leads.
const (
	connLife   = time.Minute
	connJitter = 15 * time.Second
)

// pinned has a session not depend on what the database, the role or a pooler's
// last client have set. It is no part of the startup message, of which PgBouncer refuses most. What the
// operator means for Jetway stays as it is set: search_path, which commits a standby has to have, and
// default_transaction_read_only, by which a database is fenced off. But a commit is on disk here: of a key that was given
// away nobody may forget it in a crash (I1).
const pinned = `
set client_encoding = 'UTF8';
set standard_conforming_strings = on;
set timezone = 'UTC';
set default_transaction_isolation = 'read committed';
set idle_session_timeout = 0;
set jit = off;
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off;
select set_config('synchronous_commit', 'local', false) where current_setting('synchronous_commit') = 'off'`

// bounds are how long a statement may take, wait for a lock, and leave its transaction
// idle, unless the address says otherwise.
var bounds = map[string]string{
	"statement_timeout": "15s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "15s",
}

// settings takes the bounds out of the parameters that a session would be started with, and gives
// what is set in it instead.
func settings(params map[string]string) string {
	var sql strings.Builder
	sql.WriteString(pinned)
	for name, otherwise := range bounds {
		fmt.Fprintf(&sql, ";\nset %s = '%s'", name, strings.ReplaceAll(cmp.Or(params[name], otherwise), "'", "''"))
		delete(params, name)
	}
	return sql.String() + ";" + clusterSQL
}

// ErrPooled says that a pooler gives statements of one session to several servers' sessions.
var ErrPooled = errors.New("a pooler shares the sessions of Postgres, as PgBouncer does with pool_mode=transaction or statement, " +
	"and Jetway needs its own: give its database pool_mode=session there, or give --postgres the address of Postgres itself")

// validate gives what makes a new connection ready by settings, and refuses one that cannot
// write: another host is tried then.
func (s *Store) validate(settings string) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
			return err
		}
		last := s.home.lastSeen() // before it says how far its log is
		if _, err := conn.Exec(ctx, settings).ReadAll(); err != nil {
			return err
		}
		return s.arrive(ctx, conn, last)
	}
}

// checkOwn refuses a connection whose statements may run in another's session, with ErrPooled. Only
// behind a pooler it needs a second connection to find out.
func checkOwn(ctx context.Context, conn *pgconn.PgConn, config *pgconn.Config) error {
	const pid = "select pg_backend_pid()"
	ctx, cancel := context.WithTimeout(ctx, 2*cmp.Or(config.ConnectTimeout, probeTimeout))
	defer cancel()
	first, err := value(ctx, conn, pid)
	if err != nil || first == strconv.FormatUint(uint64(conn.PID()), 10) {
		return err
	}
	other, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil // a pooler without a server to spare shares none
	}
	defer drop(other)
	// In its transaction the other one has a server to itself, most likely the one that answered us
	// just before; then that one was not ours, and another answers next. Others may come in between.
	for range 10 {
		before, err := value(ctx, conn, pid)
		if err != nil {
			return err
		}
		theirs, err := value(ctx, other, "begin; "+pid)
		if err != nil && strings.Contains(err.Error(), "not allowed in statement pooling mode") {
			return ErrPooled
		}
		if err != nil {
			return err
		}
		after, err := value(ctx, conn, pid)
		if err != nil {
			return err
		}
		if theirs == before || after != before || before != first {
			return ErrPooled
		}
		if _, err := value(ctx, other, "rollback; "+pid); err != nil {
			return err
		}
	}
	return nil
}

// value gives the one value that is the last result of sql.
func value(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}
