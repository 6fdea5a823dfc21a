package lease

import "context"

// Most connects of most services join what runs. Under load, when batch after batch
// was nothing but joins, the next is tried as joins alone: no drone is picked, no
// spawn prepared, and the statement has a fraction of its parts. What turns out to
// be held by nobody takes the ordinary rounds, and so do the batches after it.
//
// Alone, a request is never tried so: for a spawn it would be a round trip in vain.
const (
	joinsInARow = 8
	joinsLeast  = 4 // requests in a batch
)

// joinsLikely says whether to try the batch as joins alone.
func (b *batch) joinsLikely() bool {
	if len(b.reqs) < joinsLeast || b.joins.Load() < joinsInARow {
		return false
	}
	for i := range b.reqs {
		if b.reqs[i].Key == nil {
			return false
		}
	}
	return true
}

// noteJoins takes in what a statement found.
func (b *batch) noteJoins(got []Got) {
	for i := range got {
		if got[i].Result != Held {
			b.joins.Store(0)
			return
		}
	}
	if b.joins.Load() < joinsInARow {
		b.joins.Add(1)
	}
}

// joinRound settles the requests whose keys are held, and gives back the others.
func (b *batch) joinRound(ctx context.Context, pending []int) (left []int) {
	groups := b.group(pending)
	wants := make([]Want, len(groups))
	for i, g := range groups {
		wants[i] = Want{Key: g.key, Tokens: b.tokenRows(g)}
	}
	got, _, err := b.cfg.Store.Connect(ctx, wants)
	if err != nil {
		return b.failed(ctx, groups, err)
	}
	b.noteJoins(got)
	for i, g := range groups {
		if got[i].Result == Held {
			left = append(left, b.settle(g, got[i])...)
		} else {
			left = append(left, g.members...)
		}
	}
	return left
}
