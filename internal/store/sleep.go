package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// Who wakes a backend, and who puts it to sleep for nobody is connected, may not see each other. None of the two locks what the other reads, for then every
// keepalive and look-up would write. Instead each looks again once it has committed: a keepalive for whether what it names is asleep, a sweep for
// whether somebody is connected to what it has put to sleep. The one that commits last sees the other. Look-ups and joins need not: who comes
// by them is connected next.

var (
	asleepSQL   = statement("asleep")
	stirredSQL  = statement("stirred")
	canSleepSQL = statement("can_sleep")
)

// Wake wakes those of backends that are asleep, and gives the rows to publish. Where all are awake, nothing is written.
func (s *Store) Wake(ctx context.Context, backends []string) ([]outbox.Row, error) {
	if len(backends) == 0 {
		return nil, nil
	}
	asleep, err := read(ctx, s, pgx.RowTo[string], asleepSQL, backends)
	if err != nil || len(asleep) == 0 {
		return nil, wrap("look who is asleep", err)
	}
	return s.wake(ctx, asleep)
}

// wakeStirred wakes what a sweep has put to sleep while somebody connected.
func (s *Store) wakeStirred(ctx context.Context, done []Due) ([]outbox.Row, error) {
	var slept []string
	for i := range done {
		if done[i].Cause == CauseAsleep {
			slept = append(slept, done[i].BackendID)
		}
	}
	if len(slept) == 0 {
		return nil, nil
	}
	stirred, err := read(ctx, s, pgx.RowTo[string], stirredSQL, slept, keepaliveWithin.Seconds(), s.Terms().TTL.Seconds())
	if err != nil || len(stirred) == 0 {
		return nil, wrap("look who has come", err)
	}
	return s.wake(ctx, stirred)
}

// wakeJoined wakes what somebody joins. Where that cannot be written now, he wakes it when he comes.
func (s *Store) wakeJoined(ctx context.Context, asleep []Change) []outbox.Row {
	if len(asleep) == 0 {
		return nil
	}
	rows, _, err := s.Transition(ctx, nil, asleep)
	if err != nil {
		s.log.WarnContext(ctx, "cannot wake what is joined; it wakes when somebody visits it", "backends", len(asleep), "err", err)
	}
	return rows
}

func (s *Store) wake(ctx context.Context, backends []string) ([]outbox.Row, error) {
	changes := make([]Change, len(backends))
	for i, id := range backends {
		changes[i] = Change{BackendID: id, Event: lifecycle.WakeAsked{}}
	}
	rows, _, err := s.Transition(ctx, nil, changes)
	return rows, err
}

// Nap puts a backend to sleep, or wakes it, as somebody asked, and says what it is then. The rows are to be published also where it is refused.
func (s *Store) Nap(ctx context.Context, id string, sleep bool) (resp messages.NapResponse, rows []outbox.Row, err error) {
	change := Change{BackendID: id, Event: lifecycle.WakeAsked{}}
	if sleep {
		change.Event = lifecycle.SleepAsked{}
	}
	rows, _, err = s.Transition(ctx, nil, []Change{change})
	if err != nil {
		return resp, nil, err
	}
	list, err := read(ctx, s, scanBackend, statusSQL, id)
	switch {
	case err != nil:
		return resp, rows, wrap("read a backend", err)
	case len(list) == 0:
		return resp, rows, messages.Errorf(messages.NotFound, "there is no backend %q", id)
	}
	b := &list[0]
	resp = messages.NapResponse{Asleep: b.Asleep, Nap: b.Nap.Nap}
	napped := slices.ContainsFunc(rows, func(r outbox.Row) bool { return r.Kind == outbox.KindNap })
	switch {
	case napped || b.Asleep == sleep && !b.Status.Leaving():
		return resp, rows, nil
	case b.Status == messages.Terminated:
		err = messages.Errorf(messages.CannotSleep, "backend %s has ended", id)
	case b.Status.Leaving():
		err = messages.Errorf(messages.CannotSleep, "backend %s is %s: it ends", id, b.Status)
	case b.Cause != "":
		err = messages.Errorf(messages.CannotSleep, "backend %s was asked to end: %s", id, b.Words)
	case b.Status < messages.Ready:
		err = messages.Errorf(messages.CannotSleep, "backend %s is %s: only what is ready sleeps. Ask again when it is", id, b.Status)
	default:
		err = messages.Errorf(messages.CannotSleep, "backend %s is on drone %s, which does not put backends to sleep: its agent is of an earlier version, or its runtime cannot. `jetway drones` says which they are", id, b.Drone)
	}
	return resp, rows, err
}
