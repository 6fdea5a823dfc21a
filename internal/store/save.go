package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// saveSQL writes what the rules decided, for the backends that are still at the
// revision that was looked at. Leases are locked before backends, in order.
const saveSQL = `
with input as materialized (
    select *
    from unnest($1::text[], $2::int4[], $3::int2[], $4::int2[], $5::text[], $6::int2[], $7::text[], $8::text[],
                $9::text[], $10::int4[], $11::bool[], $12::bool[], $13::text[], $14::text[], $15::int2[], $16::int2[])
         as i (id, revision, asked, status, address, last_status, termination_kind, termination_reason,
               message, exit_code, release, publish, terminate, body, from_status, from_asked)
),
locked as materialized (
    select l.backend_id
    from lease l
    where l.backend_id = any(array(select i.id from input i where i.release))
    order by l.namespace, l.name
    for no key update
),
changed as (
    update backend b
    set revision = b.revision + 1, asked = i.asked, status = i.status, address = i.address,
        last_status = i.last_status, termination_kind = i.termination_kind,
        termination_reason = i.termination_reason, message = i.message, exit_code = i.exit_code,
        changed_at = case when b.status = i.status then b.changed_at else now() end,
        asked_at = case when b.asked = i.asked then b.asked_at else now() end,
        -- The sweep knows how long a termination may take; it is to look soon.
        due_at = case when b.asked = i.asked or i.status = 70 then b.due_at else least(b.due_at, now() + interval '5 seconds') end,
        ended_at = case when i.status = 70 then now() end
    from input i
    where b.id = any($1) and b.id = i.id and b.revision = i.revision
      -- I5: another's change may have made the revision that a first step, which
      -- it kept from being written, would have made for this second one.
      and b.status = i.from_status and b.asked = i.from_asked
      and (select count(*) from locked) >= 0
    returning b.id, b.drone, i.status, i.last_status, i.release, i.publish, i.terminate, i.body
),
released as (
    update lease l
    set released_at = now()
    where l.backend_id = any(array(select c.id from changed c where c.release)) and l.released_at is null
),
new_rows as materialized (
    select nextval('outbox_id') as id, 'state' as kind, c.id as backend_id, c.drone, c.status, c.last_status,
           null::int2 as until_status, c.body
    from changed c where c.publish
    union all
    -- Shown to be taken by the status that it leads to; of a backend that was
    -- given up, by its drone's word that it has ended.
    select nextval('outbox_id'), 'terminate', c.id, c.drone, 0, 0,
           case when c.status = 70 then 70 when c.asked_hard then 65 else 60 end, c.terminate
    from (select *, (terminate::json ->> 'hard')::bool as asked_hard from changed where terminate <> '') c
    -- A lost drone learns from its renewals, should it come back, what it must end.
    where c.status < 70 or not exists (select from drone d where d.name = c.drone and d.lost_at is not null offset 0)
),
published as (
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body)
    select id, kind, backend_id, drone, status, last_status, until_status, body from new_rows
)
select 0 as id, '' as kind, c.id as backend_id, '' as drone, 0::int2 as status, 0::int2 as last_status,
       '' as body, now() as at
from changed c
union all
select id, kind, backend_id, drone, status, last_status, body, now()
from new_rows
order by 1`

// takenSQL takes actions off the record whose goal their backends have reached, unless
// another's change kept that from being written.
const takenSQL = `
delete from outbox o
where o.backend_id = any($1::text[]) and o.until_status <= $2
  and exists (select from backend b where b.id = o.backend_id and b.status >= o.until_status offset 0)`

// keepScheduledSQL leaves of spawns that nobody may take any more the state that they
// stand for, which perhaps nobody has published yet (I5).
const keepScheduledSQL = `
update outbox o set kind = 'state', until_status = null, body = ''
where o.backend_id = any($1::text[]) and o.kind = 'spawn'
  and exists (select from backend b where b.id = o.backend_id and b.status >= 60 offset 0)
returning ` + outboxColumns

// save writes the steps in one round trip and one transaction. Conflicted are the
// backends of which another statement changed the row meanwhile. refusing, if not nil, is a
// drone that had no room for one of them.
func (s *Store) save(ctx context.Context, refusing *Holder, saves [][]step) (rows []outbox.Row, conflicted []string, err error) {
	if len(saves) == 0 {
		return nil, nil, nil
	}
	saves = inPieces(saves)
	err = again(ctx, func() error {
		rows, conflicted = nil, nil
		b := &pgx.Batch{}
		seen := make(map[string]bool)
		taken := make(map[string]messages.Status)
		if refusing != nil {
			b.Queue(refusedSQL, refusing.Drone, refusing.Session)
		}
		unplaced := s.queuePlaces(b, saves, &rows)
		for _, steps := range saves {
			args, wanted := saveArgs(steps, taken)
			if len(wanted) == 0 {
				continue
			}
			b.Queue(saveSQL, args...).Query(func(r pgx.Rows) error {
				missed := make(map[string]bool, len(wanted))
				for _, id := range wanted {
					missed[id] = true
				}
				got, err := collectSaved(r, missed)
				rows = append(rows, got...)
				for id := range missed {
					if !seen[id] {
						seen[id] = true
						conflicted = append(conflicted, id)
					}
				}
				return err
			})
		}
		if ids := givenUp(saves); len(ids) > 0 {
			b.Queue(keepScheduledSQL, ids).Query(func(r pgx.Rows) error {
				kept, err := pgx.CollectRows(r, scanOutbox)
				rows = append(kept, rows...) // each the first of its backend
				return err
			})
		}
		for status, ids := range byStatus(taken) {
			b.Queue(takenSQL, ids, int16(status))
		}
		err := s.pool.SendBatch(ctx, b).Close()
		for id := range unplaced {
			conflicted = append(conflicted, id)
		}
		return err
	})
	return rows, conflicted, wrap("write states", err)
}

// givenUp are the backends whose spawns nobody may take any more.
func givenUp(saves [][]step) (ids []string) {
	for _, steps := range saves {
		for i := range steps {
			if steps[i].givenUp && steps[i].from.Status == messages.Scheduled {
				ids = append(ids, steps[i].from.id)
			}
		}
	}
	return ids
}

// savePiece is the most rows that one statement writes. Its plan, made for a few,
// compares every row with every other.
const savePiece = 64

// inPieces divides saves so that none is larger than savePiece.
func inPieces(saves [][]step) (pieces [][]step) {
	for _, steps := range saves {
		for piece := range slices.Chunk(steps, savePiece) {
			pieces = append(pieces, piece)
		}
	}
	return pieces
}

// byStatus turns the map around.
func byStatus(taken map[string]messages.Status) map[messages.Status][]string {
	ids := make(map[messages.Status][]string)
	for id, status := range taken {
		ids[status] = append(ids[status], id)
	}
	return ids
}

// saveArgs makes the arrays of saveSQL of the steps that change a row, and notes
// in taken how far each backend's drone has shown to be.
func saveArgs(steps []step, taken map[string]messages.Status) (args []any, wanted []string) {
	var revisions []int32
	var asked, statuses, lasts, fromStatuses, fromAsked []int16
	var addresses, kinds, reasons, texts, terminates, bodies []string
	var exitCodes []*int32
	var release, publish []bool
	for i := range steps {
		st := &steps[i]
		if st.taken != 0 {
			taken[st.from.id] = max(taken[st.from.id], st.taken)
		}
		if st.state == st.from.State && st.asked == st.from.Asked {
			continue
		}
		wanted = append(wanted, st.from.id)
		revisions = append(revisions, st.from.revision)
		fromStatuses, fromAsked = append(fromStatuses, int16(st.from.Status)), append(fromAsked, int16(st.from.Asked))
		asked, statuses, lasts = append(asked, int16(st.asked)), append(statuses, int16(st.state.Status)), append(lasts, int16(st.state.LastStatus))
		addresses, kinds = append(addresses, st.state.Address), append(kinds, string(st.state.Kind))
		reasons, texts = append(reasons, string(st.state.Reason)), append(texts, st.state.Message)
		var exit *int32
		if st.state.ExitCode != nil {
			code := int32(*st.state.ExitCode)
			exit = &code
		}
		exitCodes = append(exitCodes, exit)
		release, publish = append(release, st.actions.Release), append(publish, st.actions.Publish)
		terminate := ""
		if st.actions.Terminate != nil {
			terminate = string(messages.Encode(st.actions.Terminate))
		}
		terminates = append(terminates, terminate)
		bodies = append(bodies, string(messages.Encode(st.state)))
	}
	return []any{
		wanted, revisions, asked, statuses, addresses, lasts, kinds, reasons, texts, exitCodes,
		release, publish, terminates, bodies, fromStatuses, fromAsked,
	}, wanted
}

// collectSaved reads the rows to publish and takes the changed backends off missed.
func collectSaved(r pgx.Rows, missed map[string]bool) (rows []outbox.Row, err error) {
	var row outbox.Row
	var body string
	_, err = pgx.ForEachRow(r, []any{
		&row.ID, (*string)(&row.Kind), &row.BackendID, &row.Drone, (*int16)(&row.Status), (*int16)(&row.LastStatus),
		&body, &row.At,
	}, func() error {
		if row.ID == 0 { // says only that the backend was changed
			delete(missed, row.BackendID)
			return nil
		}
		row.Body = []byte(body)
		rows = append(rows, row)
		return nil
	})
	return rows, err
}
