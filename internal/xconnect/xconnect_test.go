package xconnect_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/xconnect"
)

const asked = "XCONNECT_ASKED"

func TestMain(m *testing.M) {
	if os.Getenv(asked) != "" {
		xconnect.Restore()
		offers, err := offered()
		fmt.Printf("%t %v %q\n", offers, err, os.Getenv("GODEBUG"))
		os.Exit(0)
	}
	testkit.Main(m)
}

// offered says whether a server of net/http's offers the extended CONNECT.
func offered() (bool, error) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return false, err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return false, err
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		return false, err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		return false, fmt.Errorf("begins with %v", frame)
	}
	value, _ := settings.Value(http2.SettingEnableConnectProtocol)
	return value == 1, nil
}

// A process offers it whatever its environment says, unless that says no, and its children inherit what it was given itself.
func TestWhatIsOfferedAndInherited(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"":                    `true <nil> ""`,
		"panicnil=1":          `true <nil> "panicnil=1"`,
		"http2xconnect=1":     `true <nil> "http2xconnect=1"`,
		"a=b,http2xconnect=0": `false <nil> "a=b,http2xconnect=0"`,
	} {
		cmd := exec.CommandContext(testkit.Context(t), self)
		for _, pair := range os.Environ() {
			if !strings.HasPrefix(pair, "GODEBUG=") {
				cmd.Env = append(cmd.Env, pair)
			}
		}
		cmd.Env = append(cmd.Env, asked+"=1")
		if given != "" {
			cmd.Env = append(cmd.Env, "GODEBUG="+given)
		}
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("GODEBUG=%s: %s, %v, want %s", given, got, err, want)
		}
	}
}
