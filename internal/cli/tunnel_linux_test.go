package cli

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: `jetway proxy`, as a process with the environment that it is given, offers WebSockets over HTTP/2. With make test-long
// it is the program that is shipped, else this one, which has the same packages.
func TestProxyProcessOffersWebSocketsOverHTTP2(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if testkit.Sized(t, false, true) {
		program = filepath.Join(t.TempDir(), "jetway")
		err = testkit.Build(t.Context(), program, "github.com/jetway-project/jetway/cmd/jetway")
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "fake")
	certFile, keyFile := testkit.NewAuthority(t).Server()
	address := s.freeAddress()
	cmd := exec.Command(program, "--log-level=warn", "proxy", "--nats", s.stack.NATSURL, "--name", "px-tunnels", "--listen", address,
		"--cert-file", certFile, "--key-file", keyFile)
	cmd.Env, cmd.Stderr = os.Environ(), os.Stderr
	for i, pair := range cmd.Env {
		if strings.HasPrefix(pair, "GODEBUG=") {
			cmd.Env[i] = "GODEBUG="
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var conn *tls.Conn
	testkit.Eventually(t, "the proxy serves", func() bool {
		conn, err = tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		return err == nil
	})
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the connection begins with %v", frame)
	}
	if value, _ := settings.Value(http2.SettingEnableConnectProtocol); value != 1 {
		t.Errorf("it offers no extended CONNECT: %v", settings)
	}
}
