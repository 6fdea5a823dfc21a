package cli

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// A new user's first minutes: jetway dev in one terminal, the client in another.
func TestDevAndClient(t *testing.T) {
	t.Parallel()
	root, nowhere := roomRoot(t), t.TempDir()
	data := stackData(t)

	dev := begin(t, "dev", "--data", data, "--nats-port", "0", "--proxy-port", "0", "--gateway-port", "0", "--process-root", root, "--metrics-addr", "127.0.0.1:0")
	stdout := dev.stdout
	stdout.await(t, `(?m)^open http://localhost:\d+/[\w-]{43}/$`)
	nats := stdout.await(t, `nats --server (nats://\S+) sub 'jetway.event.>'`)[1]
	metrics := stdout.await(t, `metrics +(http://\S+)/metrics`)[1]
	stdout.await(t, `Ctrl-C stops all of it`)
	if status, text := get(t, metrics+"/readyz"); status != http.StatusOK {
		t.Errorf("the worker says %d %s", status, text)
	}

	connected, errs, exit := jetway(t, "connect", "--nats", nats, "--key", "doc-1", "--command", "room", "--json")
	wantCode(t, exit, ExitOK)
	want(t, "stderr", errs, "")
	var resp messages.ConnectResponse
	if err := json.Unmarshal([]byte(connected), &resp); err != nil || !resp.Spawned || resp.Status != messages.Ready {
		t.Fatalf("connect printed %s", connected)
	}
	// What happens is told where jetway dev runs.
	stdout.await(t, resp.BackendID+" +ready")

	joined, _, _ := jetway(t, "connect", "--nats", nats, "--key", "doc-1")
	if !strings.HasPrefix(joined, "backend    "+resp.BackendID+" (joined)\n") || !strings.HasSuffix(joined, "/\n") {
		t.Errorf("joining printed %s", joined)
	}
	for _, args := range []string{"status " + resp.BackendID, "status --key doc-1", "backends", "backends --drone dr-dev"} {
		if text, _, _ := jetway(t, strings.Fields(args+" --nats "+nats)...); !strings.Contains(text, resp.BackendID) || !strings.Contains(text, "ready") {
			t.Errorf("%s printed %s", args, text)
		}
	}
	if text, _, _ := jetway(t, "drones", "--nats", nats); !strings.Contains(text, "dr-dev") || !strings.Contains(text, "process") {
		t.Errorf("drones printed %s", text)
	}
	ended, _, exit := jetway(t, "terminate", "--nats", nats, "--key", "doc-1")
	wantCode(t, exit, ExitOK)
	if !strings.Contains(ended, "TIME  terminated        external") {
		t.Errorf("terminate printed %s", ended)
	}
	if text, _, _ := jetway(t, "status", "--nats", nats, "--key", "doc-1"); !strings.Contains(text, resp.BackendID) || !strings.Contains(text, "terminated") {
		t.Errorf("of the key's last backend status printed %s", text)
	}
	if _, errs, exit := jetway(t, "logs", "--nats", nats, "--key", "nobodys"); exit != ExitFailed || !strings.Contains(errs, `no backend holds the key "nobodys"`) {
		t.Errorf("of a key that nobody has held logs says %s, exit code %d", errs, exit)
	}
	history, _, exit := jetway(t, "watch", "--nats", nats, resp.BackendID)
	wantCode(t, exit, ExitOK)
	if !strings.HasPrefix(history, "TIME  scheduled\n") || !strings.Contains(history, "TIME  terminated ") {
		t.Errorf("watch printed %s", history)
	}
	_, errs, exit = jetway(t, "connect", "--nats", nats, "--key", "doc-2", "--command", "nothing")
	wantCode(t, exit, ExitFailed)
	if !strings.Contains(errs, "ended before it was ready") || !strings.Contains(errs, "(start-failed)") || strings.Count(errs, "\n") != 1 {
		t.Errorf("starting nothing says %q", errs)
	}
	_, errs, exit = jetway(t, "connect", "--nats", nats, "--key", "doc-3")
	wantCode(t, exit, ExitFailed)
	if !strings.Contains(errs, "(KeyUnheldNoSpawnConfig): give --command") {
		t.Errorf("joining nothing says %q", errs)
	}
	_, errs, exit = jetway(t, "dev", "--data", data, "--nats-port", "0", "--proxy-port", "0", "--gateway-port", "0", "--process-root", nowhere)
	wantCode(t, exit, ExitFailed)
	if !strings.Contains(errs, "is in use by another jetway dev") || strings.Count(errs, "\n") != 1 {
		t.Errorf("a second dev says %q", errs)
	}

	dev.stop()
	dev.ends(ExitOK)
	for line := range strings.Lines(dev.stderr.String()) {
		if !ofASlowMachine(line) {
			t.Errorf("dev says %s", line)
		}
	}
}

// ofASlowMachine says whether a line of a log speaks of something that did not come in time.
func ofASlowMachine(line string) bool {
	return slices.ContainsFunc([]string{"trying again", "timeout", "deadline exceeded", "took too long"}, func(words string) bool {
		return strings.Contains(line, words)
	})
}

func TestDevTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	_, stderr, code := jetway(t, "dev", "--data", filepath.Join(t.TempDir(), "data"), "--nats-port", "0", "--gateway-port", "0", "--proxy-port", port)
	want(t, "stderr", stderr, "jetway: --proxy-port "+port+" is taken: address already in use; choose another with --proxy-port, 0 for any free one\n")
	wantCode(t, code, ExitFailed)
}
