package cli

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

func TestDrainWaitsUntilNoBackendIsLeft(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectDrain: func(data []byte) any {
			if strings.Contains(string(data), "dr-gone") {
				return messages.Errorf(messages.NotFound, "there is no drone \"dr-gone\"")
			}
			return messages.DrainResponse{Backends: int(max(0, 3-asked.Add(1)))}
		},
		messages.SubjectUndrain: func([]byte) any { return messages.DrainResponse{Backends: 4} },
	})
	stdout, stderr, code := jetway(t, "drain", "--nats", w.url, "dr-a")
	want(t, "stdout", stdout, "dr-a drains: 2 backends are left\ndr-a drains: 1 backend is left\ndr-a drains: no backends are left\n")
	want(t, "stderr", stderr, "")
	wantCode(t, code, ExitOK)
	asked.Store(1)
	stdout, _, code = jetway(t, "drain", "--nats", w.url, "--no-wait", "--json", "dr-a")
	want(t, "stdout", stdout, "{\n  \"drone\": \"dr-a\",\n  \"draining\": true,\n  \"backends\": 1\n}\n")
	wantCode(t, code, ExitOK)
	stdout, _, code = jetway(t, "undrain", "--nats", w.url, "dr-a")
	want(t, "stdout", stdout, "dr-a takes backends again; it has 4\n")
	wantCode(t, code, ExitOK)
	_, stderr, code = jetway(t, "drain", "--nats", w.url, "dr-gone")
	if !strings.Contains(stderr, `there is no drone "dr-gone" (NotFound)`) {
		t.Errorf("stderr: %s", stderr)
	}
	wantCode(t, code, ExitFailed)
	_, _, code = jetway(t, "drain", "--nats", w.url, "Bad.Name")
	wantCode(t, code, ExitUsage)
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectRevoke: func(data []byte) any {
		r, err := messages.Decode[messages.RevokeRequest](data)
		if err != nil {
			return err
		}
		n := 2
		if r.User != nil && *r.User == "" {
			n = 1
		}
		return messages.RevokeResponse{Revoked: n}
	}})
	stdout, _, code := jetway(t, "revoke", "--nats", w.url, "--user", "ada", "b1")
	want(t, "stdout", stdout, "revoked 2 tokens of b1\n")
	wantCode(t, code, ExitOK)
	stdout, _, code = jetway(t, "revoke", "--nats", w.url, "--user=", "b1")
	want(t, "stdout", stdout, "revoked 1 token of b1\n")
	wantCode(t, code, ExitOK)
	_, stderr, code := jetway(t, "revoke", "--nats", w.url, "b1")
	if !strings.Contains(stderr, "--user or --token: say what to revoke") {
		t.Errorf("stderr: %s", stderr)
	}
	wantCode(t, code, ExitUsage)
}
