package messages_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func fuzz(f *testing.F, name string, decode func([]byte) error) {
	f.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := decode(data)
		var refusal *messages.Error
		if err != nil && (!errors.As(err, &refusal) || refusal.Kind != messages.BadRequest || refusal.Message == "") {
			t.Fatalf("%q: refused with %#v", data, err)
		}
	})
}

func FuzzConnectRequest(f *testing.F)   { fuzz(f, decoders[0].name, decoders[0].decode) }
func FuzzRegisterRequest(f *testing.F)  { fuzz(f, decoders[1].name, decoders[1].decode) }
func FuzzHeartbeatRequest(f *testing.F) { fuzz(f, decoders[2].name, decoders[2].decode) }
func FuzzReportRequest(f *testing.F)    { fuzz(f, decoders[3].name, decoders[3].decode) }
func FuzzRouteRequest(f *testing.F)     { fuzz(f, decoders[4].name, decoders[4].decode) }
func FuzzKeepaliveRequest(f *testing.F) { fuzz(f, decoders[5].name, decoders[5].decode) }
func FuzzTerminateRequest(f *testing.F) { fuzz(f, decoders[6].name, decoders[6].decode) }
func FuzzStatusRequest(f *testing.F)    { fuzz(f, decoders[7].name, decoders[7].decode) }
func FuzzBackendsRequest(f *testing.F)  { fuzz(f, decoders[8].name, decoders[8].decode) }
func FuzzDronesRequest(f *testing.F)    { fuzz(f, decoders[9].name, decoders[9].decode) }
func FuzzAction(f *testing.F)           { fuzz(f, decoders[10].name, decoders[10].decode) }
func FuzzStateEvent(f *testing.F)       { fuzz(f, decoders[11].name, decoders[11].decode) }
func FuzzRevokeRequest(f *testing.F)    { fuzz(f, decoders[12].name, decoders[12].decode) }
func FuzzDrainRequest(f *testing.F)     { fuzz(f, decoders[13].name, decoders[13].decode) }
func FuzzTokenEvent(f *testing.F)       { fuzz(f, decoders[14].name, decoders[14].decode) }
func FuzzStats(f *testing.F)            { fuzz(f, decoders[15].name, decoders[15].decode) }
func FuzzLogLine(f *testing.F)          { fuzz(f, decoders[16].name, decoders[16].decode) }
func FuzzChallenge(f *testing.F)        { fuzz(f, decoders[17].name, decoders[17].decode) }

// A valid connect request stays valid when written again, and what may become
// part of a subject holds nothing that means something to NATS.
func FuzzConnectIsSafeForSubjects(f *testing.F) {
	f.Add([]byte(`{"key":{"name":"a.b *"},"spawn_config":{"id":"x","executable":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := messages.Decode[messages.ConnectRequest](data)
		if err != nil {
			return
		}
		if _, err := messages.Decode[messages.ConnectRequest](messages.Encode(r)); err != nil {
			t.Fatalf("%q is valid, but not when written again: %v", data, err)
		}
		if r.SpawnConfig != nil && r.SpawnConfig.ID != "" && strings.ContainsAny(messages.BackendEventSubject(r.SpawnConfig.ID)[len("jetway.event.backend."):], ".*> \t\r\n") {
			t.Fatalf("%q gives an unsafe subject", data)
		}
	})
}
