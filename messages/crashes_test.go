package messages_test

import "github.com/jetway-project/jetway/messages"

func init() {
	crashes := &messages.Crashes{InARow: 4, LastWords: "exit code 1: no such file: config.json", RetryAfterMS: 1700}
	golden["retry_request"] = &messages.RetryRequest{Key: messages.Key{Name: "doc-1", Namespace: "team"}}
	golden["retry_response"] = &messages.RetryResponse{Forgiven: 4}
	golden["error_backing_off"] = &messages.Error{ID: "1", Kind: messages.BackingOff, Message: "no", RetryAfterMS: crashes.RetryAfterMS, LastWords: crashes.LastWords}
	golden["status_response_crashes"] = &messages.BackendInfo{
		BackendID: "b", Key: messages.Key{Name: "doc-1"}, Cluster: "localhost:9090", Drone: "dr-a", CreatedAt: at, ChangedAt: at, EndedAt: &at,
		State: messages.State{Status: messages.Terminated, LastStatus: messages.Starting}, Number: 70, Crashes: crashes,
	}
	decoders = append(decoders, decoder{"retry_request", decoderOf(messages.Decode[messages.RetryRequest])})
}
