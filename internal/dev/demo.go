package dev

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// demos are how the demo backend is asked for: `room`, or the image that make images builds of it.
var demos = map[string]string{
	RuntimeProcess: `{"command":["room"]}`,
	RuntimeDocker:  `{"image":"jetway-room","pull_policy":"Never"}`,
}

// Demo connects to the demo backend, under the key "demo". It returns
// when the backend is ready, or an error that says why it is not.
func (s *Stack) Demo(ctx context.Context, nc *nats.Conn) (messages.ConnectResponse, error) {
	resp, err := client.Request[messages.ConnectResponse](ctx, nc, messages.SubjectConnect, messages.ConnectRequest{
		Key:         &messages.Key{Name: "demo"},
		SpawnConfig: &messages.SpawnConfig{Executable: []byte(demos[s.cfg.Runtime])},
	})
	if err != nil {
		return resp, fmt.Errorf("connect to the demo: %w", err)
	}
	for event, err := range client.New(nc).Watch(ctx, resp.BackendID) {
		switch {
		case err != nil:
			return resp, fmt.Errorf("wait for the demo: %w", err)
		case event.Status.Leaving():
			return resp, fmt.Errorf("the demo ended before it was ready: %s %s", event.Reason, event.Message)
		case event.Status == messages.Ready:
			return resp, nil
		}
	}
	return resp, nil
}
