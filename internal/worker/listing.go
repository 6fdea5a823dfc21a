package worker

import (
	"context"

	"github.com/jetway-project/jetway/messages"
)

// pageFrame is room in a reply beside its rows: what is around them in JSON, and headers that
// servers on its way may add.
const pageFrame = 4 << 10

// listingRequest answers who lists backends, drones or templates. A page ends where one more row would make
// the reply longer than the server takes.
func (w *worker) listingRequest(ctx context.Context, req *request) (any, error) {
	if req.subject == messages.SubjectTemplateList {
		return w.listTemplates(ctx, req.data)
	}
	if req.subject == messages.SubjectKeys {
		return w.listKeys(ctx, req.data)
	}
	if req.subject == messages.SubjectDrones {
		r, err := messages.Decode[messages.DronesRequest](req.data)
		if err != nil {
			return nil, err
		}
		page, err := w.store.Drones(ctx, &r)
		if n := w.fitting(len(page.Drones), func(i int) any { return &page.Drones[i] }); n < len(page.Drones) {
			page.Drones, page.Next = page.Drones[:n], page.Drones[n-1].Drone
		}
		return page, err
	}
	r, err := messages.Decode[messages.BackendsRequest](req.data)
	if err != nil {
		return nil, err
	}
	page, err := w.store.Backends(ctx, &r)
	if n := w.fitting(len(page.Backends), func(i int) any { return &page.Backends[i] }); n < len(page.Backends) {
		page.Backends, page.Next = page.Backends[:n], page.Backends[n-1].BackendID
	}
	return page, err
}

func (w *worker) listKeys(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.KeysRequest](data)
	if err != nil {
		return nil, err
	}
	page, err := w.store.Keys(ctx, &r)
	if n := w.fitting(len(page.Keys), func(i int) any { return &page.Keys[i] }); n < len(page.Keys) {
		last := page.Keys[n-1].Key
		page.Keys, page.Next = page.Keys[:n], &messages.Key{Namespace: last.Namespace, Name: last.Name}
	}
	return page, err
}

// fitting is how many of a page's rows go into one reply; of a first one that does not, the
// replier tells the asker.
func (w *worker) fitting(rows int, row func(int) any) int {
	room := w.nc.MaxPayload() - pageFrame
	for i := range rows {
		if room -= int64(len(messages.Encode(row(i)))) + 1; room < 0 && i > 0 {
			return i
		}
	}
	return rows
}
