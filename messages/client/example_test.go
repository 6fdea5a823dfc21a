package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// A web tier gives a browser the link to the one backend of a document.
func Example() {
	c, err := client.Connect(client.Config{URL: "nats://127.0.0.1:4222", User: "web"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := c.Connect(ctx, messages.ConnectRequest{
		Key:         &messages.Key{Name: "document-1"},
		SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(`{"command":["room"]}`)},
		User:        "ada",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Await(ctx, answer.BackendID, messages.Ready); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("open", answer.URL)
}

// What a worker refuses has a kind, on which a program branches.
func ExampleClient_Join() {
	c, err := client.Connect(client.Config{URL: "nats://127.0.0.1:4222"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, err = c.Join(context.Background(), messages.Key{Name: "document-1"})
	var refused *messages.Error
	switch {
	case errors.As(err, &refused) && refused.Kind == messages.KeyUnheldNoSpawnConfig:
		fmt.Println("nothing runs for it")
	case err != nil:
		fmt.Println(err)
	}
}

// A backend is followed from its first state to its end.
func ExampleClient_Watch() {
	c, err := client.Connect(client.Config{URL: "nats://127.0.0.1:4222"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for event, err := range c.Watch(context.Background(), "a-backend") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Time, event.Status, event.Message)
	}
}

// Backends of a drone are ended softly before its machine is switched off.
func ExampleClient_Drain() {
	c, err := client.Connect(client.Config{URL: "nats://127.0.0.1:4222", User: "operator"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Drain(ctx, "dr-a"); err != nil {
		fmt.Println(err)
		return
	}
	for backend, err := range c.List(ctx, messages.BackendsRequest{Drone: "dr-a"}) {
		if err == nil {
			err = c.Terminate(ctx, backend.BackendID, false)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
}
