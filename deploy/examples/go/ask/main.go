// Command ask is a web tier in Go: ask KEY PROGRAM USER prints the link for a user.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

func link(nc *nats.Conn, key, program, user string) (string, error) {
	ask := messages.ConnectRequest{
		Key:         &messages.Key{Name: key},
		SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(fmt.Sprintf(`{"command":[%q]}`, program))},
		User:        user,
	}
	reply, err := nc.Request(messages.SubjectConnect, messages.Encode(ask), 10*time.Second)
	if err != nil {
		return "", err
	}
	if reply.Header.Get("Nats-Service-Error") != "" {
		return "", fmt.Errorf("%s", reply.Data)
	}
	var got messages.ConnectResponse
	return got.URL, json.Unmarshal(reply.Data, &got)
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: ask KEY PROGRAM USER")
	}
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		return err
	}
	defer nc.Close()
	url, err := link(nc, args[0], args[1], args[2])
	if err == nil {
		fmt.Println(url)
	}
	return err
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
