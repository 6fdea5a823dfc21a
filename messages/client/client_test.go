package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// The demand: what a program in Go does with sessions, from the first request to the last event, with errors as kinds.
func TestTheLifeOfABackendSeenFromAProgram(t *testing.T) {
	t.Parallel()
	c, err := client.Connect(client.Config{URL: startStack(t)})
	must(t, err)
	t.Cleanup(c.Close)
	ctx := testkit.Context(t)
	key := messages.Key{Name: "doc", Namespace: "team"}

	kind := func(what string, err error, want messages.Kind) {
		t.Helper()
		var refused *messages.Error
		if !errors.As(err, &refused) || refused.Kind != want || refused.ID == "" && want != messages.Unavailable {
			t.Errorf("%s: %v, wanted %s", what, err, want)
		}
	}
	_, err = c.Join(ctx, key)
	kind("join what nobody holds", err, messages.KeyUnheldNoSpawnConfig)
	_, err = c.StatusOfKey(ctx, key)
	kind("the status of what never was", err, messages.NotFound)
	kind("terminate what never was", c.Terminate(ctx, "never", false), messages.NotFound)

	answer, err := c.Connect(ctx, messages.ConnectRequest{
		Key: &key, User: "ada", SpawnConfig: &messages.SpawnConfig{ID: "b-1", Executable: json.RawMessage(`{"fake":{"print":["hello"]}}`)},
	})
	must(t, err)
	if !answer.Spawned || answer.BackendID != "b-1" || answer.Drone != "dr-a" || answer.Token == "" {
		t.Errorf("connect is answered %+v", answer)
	}
	ready, err := c.Await(ctx, "b-1", messages.Ready)
	if err != nil || ready.Status != messages.Ready || ready.FencingToken == 0 {
		t.Errorf("it is %+v, %v", ready, err)
	}
	joined, err := c.Join(ctx, key)
	if err != nil || joined.Spawned || joined.BackendID != "b-1" {
		t.Errorf("join is answered %+v, %v", joined, err)
	}
	naps := watchNaps(t, c)
	if last, err := c.LastNap(ctx, "b-1"); err != nil || last != nil {
		t.Errorf("it never slept, and its last nap is %+v, %v", last, err)
	}
	if nap, err := c.Sleep(ctx, "b-1"); err != nil || !nap.Asleep || nap.Nap != 1 {
		t.Errorf("sleep is answered %+v, %v", nap, err)
	}
	if info, err := c.Status(ctx, "b-1"); err != nil || !info.Asleep || info.Status != messages.Ready {
		t.Errorf("asleep it is %+v, %v", info, err)
	}
	for range 2 { // again is no error
		if nap, err := c.Wake(ctx, "b-1"); err != nil || nap.Asleep || nap.Nap != 2 {
			t.Errorf("wake is answered %+v, %v", nap, err)
		}
	}
	for want := range int64(2) {
		if got := testkit.Receive(t, naps, "an event of sleep"); got.BackendID != "b-1" || got.Sleep == nil || got.Sleep.Nap != want+1 {
			t.Errorf("who watches all, and sleep, too, is given %+v", got)
		}
	}
	if last, err := c.LastNap(ctx, "b-1"); err != nil || last == nil || last.Nap != 2 || last.Type != messages.TypeAwake {
		t.Errorf("its last nap is %+v, %v", last, err)
	}
	_, err = c.Sleep(ctx, "never")
	kind("put to sleep what never was", err, messages.NotFound)
	for line, err := range c.Logs(ctx, client.Logs{Backend: "b-1", Tail: 10}) {
		if err != nil || line.Line != "hello" {
			t.Errorf("it wrote %+v, %v", line, err)
		}
		break
	}
	if n, err := c.Revoke(ctx, messages.RevokeRequest{BackendID: "b-1", User: new("ada")}); err != nil || n != 1 {
		t.Errorf("%d tokens are revoked, %v", n, err)
	}
	for drone, err := range c.Drones(ctx) {
		if err != nil || drone.Drone != "dr-a" || !drone.Ready {
			t.Errorf("the drones are %+v, %v", drone, err)
		}
	}
	if n, err := c.Drain(ctx, "dr-a"); err != nil || n != 1 {
		t.Errorf("draining leaves %d, %v", n, err)
	}
	if _, err := c.Undrain(ctx, "dr-a"); err != nil {
		t.Error(err)
	}
	_, err = c.Connect(ctx, messages.ConnectRequest{SpawnConfig: &messages.SpawnConfig{ID: "b-2", Executable: json.RawMessage(`{}`)}})
	must(t, err)
	var listed []string
	for backend, err := range c.List(ctx, messages.BackendsRequest{Page: messages.Page{Limit: 1}}) {
		must(t, err)
		listed = append(listed, backend.BackendID)
	}
	if !slices.Equal(listed, []string{"b-1", "b-2"}) {
		t.Errorf("page by page there are %v", listed)
	}

	must(t, c.Terminate(ctx, "b-1", false))
	var seen []messages.Status
	for event, err := range c.Watch(ctx, "b-1") {
		must(t, err)
		seen = append(seen, event.Status)
	}
	if seen[0] != messages.Scheduled || seen[len(seen)-1] != messages.Terminated || !slices.IsSorted(seen) || !slices.Contains(seen, messages.Ready) {
		t.Errorf("its life was %v", seen)
	}
	var ended *client.EndedError
	if _, err := c.Await(ctx, "b-1", messages.HardTerminating); err != nil && (!errors.As(err, &ended) || ended.Event.Reason != messages.ReasonExternal) {
		t.Errorf("it is waited for in vain with %v", err)
	}
	_, err = c.Sleep(ctx, "b-1")
	kind("put to sleep what has ended", err, messages.CannotSleep)
	if info, err := c.Status(ctx, "b-1"); err != nil || info.Status != messages.Terminated || info.Key != key {
		t.Errorf("its status is %+v, %v", info, err)
	}
}

// watchNaps gives the events of sleep from now on.
func watchNaps(t *testing.T, c *client.Client) <-chan client.Placed {
	t.Helper()
	naps, began := make(chan client.Placed, 16), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for event, err := range c.WatchAllPlaced(ctx, func() { close(began) }) {
			if err == nil && event.Sleep != nil {
				naps <- event
			}
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	testkit.Receive(t, began, "watching all begins")
	return naps
}
