package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
)

var (
	saveSQL          = statement("save")
	releaseSQL       = statement("release")
	publishSQL       = statement("publish")
	takenSQL         = statement("taken")
	keepScheduledSQL = statement("keep_scheduled")
	sealExpiredSQL   = statement("seal_expired")
)

// savePiece is the most rows that one statement writes. Its plan, made for a few,
// compares every row with every other.
const savePiece = 64

// write decides what becomes of the backends that are locked, and writes it, each of them once.
func (t *transition) write(ctx context.Context, c *pgx.Conn, b *pgx.Batch) error {
	if t.findForeign() {
		return nil
	}
	if err := t.place(ctx, c); err != nil {
		return err
	}
	t.decide()
	var changed, released, givenUp, taken []*locked
	over := make(map[Holder]bool)
	for _, l := range t.backends {
		if l.Backend != l.before {
			changed = append(changed, l)
		}
		if l.release {
			released = append(released, l)
			if s := t.sessions[l.of]; s.over && !s.sealed {
				over[l.of] = true
			}
		}
		if l.givenUp {
			givenUp = append(givenUp, l)
		}
		if l.taken != 0 {
			taken = append(taken, l)
		}
	}
	if len(over) > 0 {
		var drones, ids []string
		for h := range over {
			drones, ids = append(drones, h.Drone), append(ids, h.Session)
		}
		b.Queue(sealExpiredSQL, drones, ids)
	}
	for piece := range slices.Chunk(changed, savePiece) {
		b.Queue(saveSQL, saveArgs(piece)...)
	}
	for piece := range slices.Chunk(released, savePiece) {
		b.Queue(releaseSQL, t.releaseArgs(piece)...)
	}
	t.queueWritten(b)
	for piece := range slices.Chunk(givenUp, savePiece) {
		b.Queue(keepScheduledSQL, idsOf(piece)).Query(func(rows pgx.Rows) error {
			kept, err := pgx.CollectRows(rows, scanOutbox)
			t.kept = append(t.kept, kept...)
			return err
		})
	}
	for piece := range slices.Chunk(taken, savePiece) {
		upTo, naps := make([]int16, len(piece)), make([]int64, len(piece))
		for i, l := range piece {
			upTo[i], naps[i] = int16(l.taken), l.napTaken
		}
		b.Queue(takenSQL, idsOf(piece), upTo, naps)
	}
	return nil
}

func idsOf(backends []*locked) []string {
	ids := make([]string, len(backends))
	for i, l := range backends {
		ids[i] = l.id
	}
	return ids
}

// saveArgs makes the arrays of saveSQL.
func saveArgs(backends []*locked) []any {
	n := len(backends)
	asked, statuses, lasts := make([]int16, n), make([]int16, n), make([]int16, n)
	addresses, kinds, reasons, texts := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	exitCodes := make([]*int32, n)
	causes, bys, whys := make([]string, n), make([]string, n), make([]string, n)
	naps, reclaimed := make([]int64, n), make([]int64, n)
	for i, l := range backends {
		asked[i], statuses[i], lasts[i] = int16(l.Asked), int16(l.Status), int16(l.LastStatus)
		addresses[i], kinds[i], reasons[i], texts[i] = l.Address, string(l.Kind), string(l.Reason), l.Message
		causes[i], bys[i], whys[i] = string(l.Cause), l.By, l.Words
		naps[i], reclaimed[i] = l.Nap, l.ReclaimedBytes
		if l.ExitCode != nil {
			code := int32(*l.ExitCode)
			exitCodes[i] = &code
		}
	}
	return []any{idsOf(backends), asked, statuses, addresses, lasts, kinds, reasons, texts, exitCodes, causes, bys, whys, naps, reclaimed}
}

// releaseArgs makes the arrays of releaseSQL.
func (t *transition) releaseArgs(backends []*locked) []any {
	n := len(backends)
	failures, rests, words := make([]int, n), make([]int, n), make([]*string, n)
	for i, l := range backends {
		after, rest := lifecycle.Failures(t.keys[l.id].failures, l.crashed, l.readyFor())
		failures[i], rests[i] = after, rest
		if l.crashed || after == 0 {
			last := ""
			if l.crashed {
				last = l.LastWords()
			}
			words[i] = &last
		}
	}
	return []any{idsOf(backends), failures, rests, words}
}

// queueWritten writes the new rows and gives them their ids.
func (t *transition) queueWritten(b *pgx.Batch) {
	n := len(t.written)
	if n == 0 {
		return
	}
	kinds, backends, drones, bodies, traces := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	statuses, lasts, naps := make([]int16, n), make([]int16, n), make([]int64, n)
	for i := range t.written {
		r := &t.written[i]
		kinds[i], backends[i], drones[i], bodies[i], traces[i] = string(r.Kind), r.BackendID, r.Drone, string(r.Body), r.Traceparent
		statuses[i], lasts[i], naps[i] = int16(r.Status), int16(r.LastStatus), r.Nap
	}
	b.Queue(publishSQL, kinds, backends, drones, statuses, lasts, t.until, bodies, traces, naps).Query(func(rows pgx.Rows) error {
		var row outbox.Row
		var ix int64
		_, err := pgx.ForEachRow(rows, []any{&row.ID, &ix, &row.At}, func() error {
			t.written[ix-1].ID, t.written[ix-1].At = row.ID, row.At
			return nil
		})
		return err
	})
}
