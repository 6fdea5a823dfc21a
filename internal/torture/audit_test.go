//go:build linux

package torture_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// auditSQL has the database note what is committed, whoever commits it. It is the
// harness's own and shares nothing with what it watches but the rows.
const auditSQL = `
create schema torture;
create table torture.status (seq bigserial primary key, at timestamptz not null default clock_timestamp(), id text not null, drone text not null, status int not null);
create table torture.lease (seq bigserial primary key, at timestamptz not null default clock_timestamp(), namespace text not null, name text not null,
    backend_id text not null, fencing_token bigint not null, fault text not null default '');
create table torture.state (seq bigserial primary key, at timestamptz not null default clock_timestamp(), id text not null, status int not null);
create table torture.session (seq bigserial primary key, drone text not null, id text not null, fault text not null);
create table torture.token (backend_id text not null, hash bytea not null);
create table torture.spawn (backend_id text not null);

create function torture.note_status() returns trigger language plpgsql as $$ begin
    insert into torture.status (id, drone, status) values (new.id, new.drone, new.status);
    return null;
end $$;
create trigger torture_born after insert on backend for each row execute function torture.note_status();
create trigger torture_status after update on backend for each row when (new.status <> old.status) execute function torture.note_status();

-- A session's lease: its end never moves back but to where no drone can trust in it any more, after the clock stepped back; nor rises
-- once it is sealed, or expired.
create function torture.note_session() returns trigger language plpgsql as $$
declare fault text;
begin
    if new.expires_at < least(old.expires_at, now() + (select make_interval(secs => greatest(lease_ttl_ms, longest_ttl_ms) / 1000.0) from setting))
        then fault := 'the end of its lease moved back';
    elsif old.sealed_at is not null and new.sealed_at is null then fault := 'its seal was broken';
    elsif new.expires_at <= old.expires_at then return null;
    elsif old.sealed_at is not null then fault := 'it was renewed though it was sealed';
    elsif old.expires_at <= now() then fault := 'it was renewed though it had expired';
    else return null; end if;
    insert into torture.session (drone, id, fault) values (new.drone, new.id, fault);
    return null;
end $$;
create trigger torture_session after update on session for each row execute function torture.note_session();

create function torture.note_lease() returns trigger language plpgsql as $$
declare fault text := '';
begin
    if tg_op = 'UPDATE' then
        if new.backend_id <> old.backend_id then
            if old.released_at is null then fault := 'it was taken over without having been released'; end if;
        elsif old.released_at is not null and new.released_at is null then fault := 'it was held again after it was released';
        -- After the clock stepped back it ends where no drone can trust in it any more, as a session's does.
        elsif old.sealed_until is distinct from new.sealed_until and old.sealed_until is not null and not coalesce(new.sealed_until < old.sealed_until
            and new.sealed_until >= now() + (select make_interval(secs => greatest(lease_ttl_ms, longest_ttl_ms) / 1000.0) from setting), false)
        then fault := 'it was renewed though it was sealed';
        end if;
        if fault = '' and new.backend_id = old.backend_id and new.fencing_token = old.fencing_token then return null; end if;
    end if;
    insert into torture.lease (namespace, name, backend_id, fencing_token, fault) values (new.namespace, new.name, new.backend_id, new.fencing_token, fault);
    return null;
end $$;
create trigger torture_lease after insert or update on lease for each row execute function torture.note_lease();

-- A key that was released because its backend is lost was not any more to be held: its session, or what it was sealed
-- with, had expired, and could not be renewed; or the very machine that ran the backend said that it does not.
-- It looks when all of the transaction is there.
create function torture.note_release() returns trigger language plpgsql as $$
declare fault text;
begin
    select case
        when s.id is null then null
        when s.expires_at <= now() and s.sealed_at is null then 'it was taken from a session that may still be renewed'
        when s.expires_at <= now() or new.sealed_until <= now() then null
        when exists (select from session n join drone d on d.name = n.drone and d.session = n.id
                     where n.drone = s.drone and n.machine_id = s.machine_id and n.boot_id = s.boot_id) then null
        else 'it was free before the lease of another machine had ended' end
    into fault
    from backend b left join session s on s.drone = b.drone and s.id = b.session
    where b.id = new.backend_id and b.termination_reason = 'lost' and b.last_status > 10;
    if fault is not null then
        insert into torture.lease (namespace, name, backend_id, fencing_token, fault) values (new.namespace, new.name, new.backend_id, new.fencing_token, fault);
    end if;
    return null;
end $$;
create constraint trigger torture_release after update on lease deferrable initially deferred
    for each row when (old.released_at is null and new.released_at is not null) execute function torture.note_release();

create function torture.note_token() returns trigger language plpgsql as $$ begin
    insert into torture.token values (new.backend_id, new.hash);
    return null;
end $$;
create trigger torture_token after insert on token for each row execute function torture.note_token();

-- A report may take a backend through several states at once: each is a row to be published.
create function torture.note_state() returns trigger language plpgsql as $$ begin
    insert into torture.state (id, status) values (new.backend_id, new.status);
    if new.kind = 'spawn' then insert into torture.spawn values (new.backend_id); end if;
    return null;
end $$;
create trigger torture_state after insert on outbox for each row when (new.kind in ('spawn', 'state')) execute function torture.note_state();
`

// audit notes what is committed and what is published.
type audit struct {
	pool *pgxpool.Pool
	js   jetstream.JetStream // at whichever node
	mu   sync.Mutex
	// heard are the events that any of the listeners heard, by id and in order of the first.
	heard map[string]heardEvent
}

type heardEvent struct {
	messages.StateEvent
	at   time.Duration
	wall time.Time
}

// newAudit gives one that asks the database past all links.
func newAudit(t *testing.T, s *system) *audit {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), s.pg.DSN()+" pool_max_conns=8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &audit{pool: pool, heard: map[string]heardEvent{}}
}

// startAudit begins once the workers have made the tables.
func startAudit(t *testing.T, s *system) *audit {
	t.Helper()
	a := newAudit(t, s)
	testkit.Eventually(t, "a worker has made the tables", func() bool {
		n, err := query[int](a, "select count(*) from setting") // what it writes when all are there
		return err == nil && n > 0
	})
	if err := a.exec(auditSQL); err != nil {
		t.Fatal(err)
	}
	js := natstest.JetStream(t, natstest.Conn(t, strings.Join(s.nodeURLs, ","), nats.RetryOnFailedConnect(true)))
	a.js = js
	for _, url := range s.nodeURLs {
		nc := natstest.Conn(t, url, nats.RetryOnFailedConnect(true), nats.DontRandomize(), nats.ReconnectJitter(0, 0))
		if _, err := nc.Subscribe(messages.SubjectAnyBackendEvent, func(msg *nats.Msg) { a.hear(msg.Data, s.now()) }); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *audit) hear(data []byte, at time.Duration) {
	event, err := messages.Decode[messages.StateEvent](data)
	if err != nil {
		event.ID = "not an event: " + string(data) + ": " + err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.heard[event.ID]; !again {
		a.heard[event.ID] = heardEvent{event, at, time.Now()}
	}
}

// endedAt is when the event of a backend's end was first heard.
func (a *audit) endedAt(backend string) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.heard[messages.StateEventID(backend, messages.Terminated)]
	return e.at, ok
}

// nodesAgree says that each node has all of every stream.
func (a *audit) nodesAgree(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	streams := a.js.ListStreams(ctx)
	agree := false
	for info := range streams.Info() {
		agree = info.Cluster != nil && len(info.Cluster.Replicas) == nodeCount-1
		for i := 0; agree && i < nodeCount-1; i++ {
			replica := info.Cluster.Replicas[i]
			agree = replica.Current && !replica.Offline && replica.Lag == 0
		}
		if !agree {
			return false
		}
	}
	return agree && streams.Err() == nil
}

// stream reads the states that the stream holds, in its order.
func (a *audit) stream(t *testing.T, url string) (events []messages.StateEvent) {
	t.Helper()
	js := natstest.JetStream(t, natstest.Conn(t, url, nats.RetryOnFailedConnect(true)))
	// Without a leader, as a cluster may be for a moment, it says nothing.
	var reading jetstream.MessagesContext
	limit := time.Second
	testkit.Eventually(t, "the stream of events can be read", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		limit *= 2
		consumer, err := js.OrderedConsumer(ctx, messages.StreamEvents, jetstream.OrderedConsumerConfig{FilterSubjects: []string{messages.SubjectAnyBackendEvent}})
		if err == nil {
			reading, err = consumer.Messages()
		}
		return err == nil
	})
	defer reading.Stop()
	for {
		msg, err := reading.Next(jetstream.NextContext(testkit.Context(t)))
		if err != nil {
			t.Fatal(err)
		}
		event, err := messages.Decode[messages.StateEvent](msg.Data())
		if err != nil {
			t.Errorf("I5: the stream of events holds %q: %v", msg.Data(), err)
		}
		events = append(events, event)
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if meta.NumPending == 0 { // nothing is published any more
			return events
		}
	}
}

func (a *audit) exec(sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	_, err := a.pool.Exec(ctx, sql, args...)
	return err
}

// query gives the one value of a query, past all links.
func query[T any](a *audit, sql string, args ...any) (value T, err error) {
	all, err := rows[T](a, pgx.RowTo[T], sql, args...)
	if err == nil && len(all) > 0 {
		value = all[0]
	}
	return value, err
}

func rows[T any](a *audit, to pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	found, err := a.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, to)
}
