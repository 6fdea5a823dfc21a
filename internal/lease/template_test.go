package lease_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// counting counts how often templates are read, and does not read them while it is told so.
type counting struct {
	*store.Store
	reads  atomic.Int64
	broken atomic.Bool
}

func (c *counting) Templates(ctx context.Context, names []string) ([]messages.Template, error) {
	c.reads.Add(1)
	if c.broken.Load() {
		return nil, errors.New("no templates today")
	}
	return c.Store.Templates(ctx, names)
}

func ofTemplate(key, name string) lease.Request {
	return lease.Request{ConnectRequest: messages.ConnectRequest{Key: &messages.Key{Name: key}, SpawnConfig: &messages.SpawnConfig{Template: name}}}
}

// The demand: templates cost connects no round trip: what was read is remembered, and read again only when the statement that takes the key finds that it is
// another one by now. Joins go on where templates cannot be read.
func TestTemplatesAreReadWhenTheyChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := &counting{Store: r.Store}
	c := lease.NewConnector(lease.Config{Store: s, Log: testkit.Logger(t)})
	ctx := testkit.Context(t)
	put := func(n int) {
		t.Helper()
		for _, name := range []string{"room", "hall"} {
			executable := json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))
			if _, err := r.PutTemplate(ctx, &messages.Template{Name: name, Cluster: cluster, Executable: executable}); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := 0
	batch := func(what string, reads int64, want string) {
		t.Helper()
		r.heartbeat(ctx, t)
		before := s.reads.Load()
		n++
		outcomes, rows := c.Connect(ctx, []lease.Request{
			ofTemplate(fmt.Sprint("a", n), "room"), ofTemplate(fmt.Sprint("b", n), "hall"), ofTemplate(fmt.Sprint("c", n), "room"), ofTemplate("held", "room"),
		})
		for i, o := range outcomes {
			if got := brief(o); got != want && (i < 3 || got != "joined") {
				t.Errorf("%s: request %d: %s: %v, want %s", what, i, got, o.Err, want)
			}
		}
		for _, row := range rows {
			spawn := row.Spawn
			if is, err := r.Store.Templates(ctx, []string{spawn.Template.Name}); err != nil || string(is[0].Executable) != string(spawn.Executable) || is[0].Revision != spawn.Template.Revision {
				t.Errorf("%s: %s runs as %+v, and it is %+v", what, spawn.Executable, spawn.Template, is)
			}
		}
		if got := s.reads.Load() - before; got != reads {
			t.Errorf("%s: templates are read %d times, want %d", what, got, reads)
		}
	}
	put(1)
	batch("the first", 1, "spawned")
	batch("the same", 0, "spawned")
	put(2)
	batch("changed", 1, "spawned")
	batch("the same again", 0, "spawned")
	put(3)
	s.broken.Store(true)
	batch("changed, and not to be read", 1, "")
	s.broken.Store(false)
	batch("to be read again", 1, "spawned")
}
