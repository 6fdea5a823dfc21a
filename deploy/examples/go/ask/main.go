// Command ask is a web tier in Go: ask KEY PROGRAM USER prints the link for a user.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log"
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

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: ask KEY PROGRAM USER")
	}
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	url, err := link(nc, os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(url)
}
