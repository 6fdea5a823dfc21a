package lease_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// resumable asks for a key that outlives its backends.
func resumable(name, tag string, change func(*messages.SpawnConfig)) lease.Request {
	hour := int64(3600)
	return ask(name, tag, func(c *messages.SpawnConfig) {
		c.UseStaticToken, c.ResumeSeconds = true, &hour
		c.Executable = json.RawMessage(`{"command":["\u0000"]}`)
		if change != nil {
			change(c)
		}
	})
}

// end has a backend end by itself, after it was ready.
func (r *rig) end(t *testing.T, id string) {
	t.Helper()
	r.change(t, store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: messages.Terminated}}})
}

func (r *rig) change(t *testing.T, change store.Change) {
	t.Helper()
	if _, missing, err := r.Transition(testkit.Context(t), nil, []store.Change{change}); err != nil || len(missing) > 0 {
		t.Fatalf("%+v: %v, %v", change, missing, err)
	}
}

func (r *rig) one(t *testing.T, c *lease.Connector, req lease.Request) lease.Outcome {
	t.Helper()
	outcomes, _ := c.Connect(testkit.Context(t), []lease.Request{req})
	return outcomes[0]
}

func (r *rig) granted(t *testing.T, c *lease.Connector, req lease.Request) *messages.ConnectResponse {
	t.Helper()
	o := r.one(t, c, req)
	if o.Response == nil {
		t.Fatalf("%s: %v", brief(o), o.Err)
	}
	return o.Response
}

// The demand: a dormant key starts again by what was kept of it, at the same URL, in path and in origin mode; a worker that is set up otherwise changes
// nothing of that.
func TestADormantKeyIsStartedByWhatWasKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	keys := keysOf(t, lease.NewKey())
	c := lease.NewConnector(lease.Config{Store: r.Store, Keys: keys, Log: testkit.Logger(t)})
	other := lease.NewConnector(lease.Config{Store: r.Store, Keys: keys, Origins: true, DefaultCluster: "elsewhere.test", Log: testkit.Logger(t)})
	on := true
	for name, change := range map[string]func(*messages.SpawnConfig){
		"path":   nil,
		"label":  func(c *messages.SpawnConfig) { c.Subdomain = "mine" },
		"origin": func(c *messages.SpawnConfig) { c.Origin = &on },
		"id":     withID("b-given"),
		"limited": func(c *messages.SpawnConfig) {
			n := int64(60)
			c.MaxIdleSeconds, c.SleepAfterSeconds = &n, new(int64)
			*c.SleepAfterSeconds = 5
		},
	} {
		first := r.granted(t, c, resumable(name, "t", change))
		if first.Resumes != "" {
			t.Errorf("%s: the first life resumes %q", name, first.Resumes)
		}
		r.end(t, first.BackendID)
		join := joinOnly(name)
		if o := r.one(t, c, join); brief(o) != string(messages.KeyHeld) {
			t.Errorf("%s with another tag: %s", name, brief(o))
		}
		join.Key.Tag = "t"
		again := r.granted(t, other, join)
		if !again.Spawned || again.URL != first.URL || again.Token != first.Token || again.Subdomain != first.Subdomain || again.Resumes != first.BackendID || again.BackendID == first.BackendID {
			t.Errorf("%s: after %+v comes %+v", name, first, again)
		}
		if joined := r.granted(t, other, join); joined.BackendID != again.BackendID || joined.URL != first.URL {
			t.Errorf("%s: %+v is joined as %+v", name, again, joined)
		}
		r.end(t, again.BackendID)
		// Who says what to start says it: as long as he asks for the same, the URL stays.
		said := r.granted(t, c, resumable(name, "t", change2(change)))
		if said.URL != first.URL || said.Resumes != again.BackendID {
			t.Errorf("%s: started as %+v, the URL was %s", name, said, first.URL)
		}
	}
}

// change2 is change without an id.
func change2(change func(*messages.SpawnConfig)) func(*messages.SpawnConfig) {
	return func(c *messages.SpawnConfig) {
		if change != nil {
			change(c)
		}
		c.ID = ""
	}
}

// The demand: what was kept is forgotten by a terminate that says so, and by a connect that says to start something else; then there is nothing to start, and
// the token leads nowhere.
func TestWhatWasKeptIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.connector(t)
	for name, forget := range map[string]func(*messages.ConnectResponse){
		"asked": func(first *messages.ConnectResponse) {
			r.change(t, store.Change{BackendID: first.BackendID, Forget: true, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
			r.end(t, first.BackendID)
		},
		"dormant": func(first *messages.ConnectResponse) {
			r.end(t, first.BackendID)
			r.change(t, store.Change{BackendID: first.BackendID, Forget: true, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
		},
		"its backend is not known any more": func(first *messages.ConnectResponse) {
			r.end(t, first.BackendID)
			if err := r.ForgetDormant(testkit.Context(t), &messages.Key{Name: "its backend is not known any more"}, first.BackendID); err != nil {
				t.Fatal(err)
			}
		},
		"something else": func(first *messages.ConnectResponse) {
			r.end(t, first.BackendID)
			r.end(t, r.granted(t, c, ask("something else", "", nil)).BackendID)
		},
	} {
		first := r.granted(t, c, resumable(name, "", nil))
		forget(first)
		if o := r.one(t, c, joinOnly(name)); brief(o) != string(messages.KeyUnheldNoSpawnConfig) {
			t.Errorf("%s: %s, %+v", name, brief(o), o.Response)
		}
		if routes, err := r.Routes(testkit.Context(t), []string{first.Token}); err != nil || routes[0] != nil {
			t.Errorf("%s: the token leads to %+v, %v", name, routes[0], err)
		}
		if next := r.granted(t, c, resumable(name, "", nil)); next.URL == first.URL || next.Resumes != "" {
			t.Errorf("%s: after %+v comes %+v", name, first, next)
		}
	}
	// With another tag, or not to be resumed, another URL.
	first := r.granted(t, c, resumable("tag", "a", nil))
	r.end(t, first.BackendID)
	if next := r.granted(t, c, resumable("tag", "b", nil)); next.URL == first.URL || next.Resumes != "" {
		t.Errorf("with another tag after %+v comes %+v", first, next)
	}
	// An end that forgets a key of before forgets nothing of who has it now.
	before := r.granted(t, c, resumable("before", "", nil))
	r.end(t, before.BackendID)
	now := r.granted(t, c, joinOnly("before"))
	r.change(t, store.Change{BackendID: before.BackendID, Forget: true, Event: lifecycle.TerminateAsked{Reason: messages.ReasonExternal}})
	r.end(t, now.BackendID)
	if next := r.granted(t, c, joinOnly("before")); next.URL != before.URL {
		t.Errorf("after %+v comes %+v", before, next)
	}
}

// I1, I2: a dormant key is resumed once, however many ask for it at once, and whatever was read of it before; the others join.
func TestI1DormantKeyIsResumedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	keys := keysOf(t, lease.NewKey())
	last := ""
	for range 4 {
		c := lease.NewConnector(lease.Config{Store: r.Store, Keys: keys, Log: testkit.Logger(t)})
		if last == "" {
			last = r.granted(t, c, resumable("k", "", nil)).BackendID
		}
		r.end(t, last)
		if _, _, err := r.Forgive(testkit.Context(t), &messages.Key{Name: "k"}); err != nil {
			t.Fatal(err)
		}
		const asking = 8
		got := make([]lease.Outcome, asking)
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() {
				got[i] = r.one(t, lease.NewConnector(lease.Config{Store: r.Store, Keys: keys, Log: testkit.Logger(t)}), joinOnly("k"))
			})
		}
		all.Wait()
		spawned := ""
		for _, o := range got {
			if o.Response == nil {
				t.Fatalf("%s: %v", brief(o), o.Err)
			}
			if o.Response.Spawned {
				if spawned != "" {
					t.Fatalf("%s and %s were both started", spawned, o.Response.BackendID)
				}
				if spawned = o.Response.BackendID; o.Response.Resumes != last {
					t.Errorf("%s resumes %q, not %s", spawned, o.Response.Resumes, last)
				}
			}
		}
		for _, o := range got {
			if o.Response.BackendID != spawned {
				t.Errorf("%s was joined, and %s started", o.Response.BackendID, spawned)
			}
		}
		last = spawned
	}
}

// The demand: the connect that would start a dormant key tells nothing of one user, for all share its token.
func TestNothingIsToldOfOneUserOfADormantKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.connector(t)
	r.end(t, r.granted(t, c, resumable("k", "", nil)).BackendID)
	if o := r.one(t, c, lease.Request{}); brief(o) != string(messages.KeyUnheldNoSpawnConfig) {
		t.Errorf("who says neither a key nor what to start: %s, %v", brief(o), o.Err)
	}
	req := joinOnly("k")
	req.User = "ada"
	if o := r.one(t, c, req); brief(o) != string(messages.BadRequest) || !strings.Contains(o.Err.Error(), "user") {
		t.Errorf("%s: %v", brief(o), o.Err)
	}
}
